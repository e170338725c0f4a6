"""A device's marks in a round of whole transfers, from those of the round that took place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from experiments.extrapolation.airtime import Span
from experiments.extrapolation.transfer import Transfer
from experiments.timeline import ClientRound, Event


@dataclass(frozen=True)
class Work:
    """What a device does between its transfers, in seconds; `growth` is that of its work."""

    gate_s: float
    compute_s: float
    encode_s: float
    hand_over_s: float
    growth: float

    @classmethod
    def of(cls, client: ClientRound, growth: float) -> Self:
        gate, compute, encode = (client.phase_s(phase) or 0.0 for phase in ("gate", "compute", "encode"))
        hand_over = client.between_s("encode_end", "upload_start") or 0.0
        return cls(gate * growth, compute * growth, encode, hand_over, growth)

    @property
    def total_s(self) -> float:
        return self.gate_s + self.compute_s + self.encode_s + self.hand_over_s


def whole_marks(down: Transfer, down_span: Span, work: Work, up: Transfer, up_span: Span) -> dict[str, Event]:
    """By event, at the times and with the bytes of the whole."""
    marks = dict(down.client.marks)
    wire_down, _ = down.more_on_wire()
    wire_up, again = up.more_on_wire()
    counters = {
        "download_end": (wire_down, 0, 0),
        "encode_end": (wire_down, 0, 0),
        "upload_end": (wire_down, wire_up, again),
    }
    trained = down_span[1] + work.gate_s + work.compute_s
    times = {
        "download_end": down_span[1],
        "compute_start": down_span[1] + work.gate_s,
        "compute_end": trained,
        "encode_end": trained + work.encode_s,
        "upload_start": up_span[0],
        "upload_received": up_span[1],
        # The reply takes its time after that.
        "upload_end": up_span[1] + marks.get("upload_end", {"t": 0.0})["t"] - up.span[1],
    }
    sizes = {
        "download_start": {"payload_bytes": down.whole_bytes},
        "download_end": {"payload_bytes": down.whole_bytes, **_grown(down, "download_end", "message_bytes")},
        "encode_end": {"payload_bytes": up.whole_bytes},
        "upload_received": {
            "payload_bytes": up.whole_bytes,
            **_grown(up, "upload_received", "message_bytes"),
        },
    }
    for mark, event in marks.items():
        new: Event = {"t": times.get(mark, event["t"])} | sizes.get(mark, {})
        if mark in counters:
            received, sent, segments = counters[mark]
            new["rx_bytes"] = event["rx_bytes"] + received
            new["tx_bytes"] = event["tx_bytes"] + sent
            new["retransmitted_segments"] = event["retransmitted_segments"] + segments
        for key in ("cpu_s", "encode_cpu_s"):
            if event.get(key) is not None:
                new[key] = event[key] * up.growth
        marks[mark] = event | new
    return marks


def _grown(transfer: Transfer, mark: str, key: str) -> dict[str, int]:
    return {key: round(transfer.client.value(mark, key) * transfer.growth)}
