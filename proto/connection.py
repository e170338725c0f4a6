"""What both ends tell gRPC about their connection."""

from __future__ import annotations

WINDOW_BYTES = 4 * 2**20
"""How far a sender may be ahead of its receiver: 100 Mbit/s over a round trip of 0.3 s. By itself gRPC would
begin with 64 KiB and let the window grow with what a busy machine has not read yet, without a bound."""


def connection_options(keepalive_s: float) -> list[tuple[str, int]]:
    """gRPC's channel arguments for server and client alike; `keepalive_s`: silence until a ping.

    A device that trains for an hour is silent, not dead: pings tell, each way, and as often as the other side
    sends them they are welcome (else gRPC answers "too many pings" and hangs up). An answer may take twice as
    long as the pause between pings, since it queues behind what a slow link has still to carry; gRPC sets
    TCP's own patience with unanswered data (TCP_USER_TIMEOUT) to the same.
    """
    return [
        ("grpc.keepalive_time_ms", round(1000 * keepalive_s)),
        ("grpc.keepalive_timeout_ms", round(2000 * keepalive_s)),  # for anything at all to come
        ("grpc.http2.ping_timeout_ms", round(2000 * keepalive_s)),  # for the answer itself
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.http2.min_ping_interval_without_data_ms", round(500 * keepalive_s)),
        ("grpc.http2.lookahead_bytes", WINDOW_BYTES),
        ("grpc.http2.bdp_probe", 0),
    ]
