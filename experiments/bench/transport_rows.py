"""One row a round: its latency beside the bound, its bytes, and where every further second went."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from emulation.link import FRAME_BYTES, AccessLink
from emulation.nodes import address
from experiments import record, timeline
from experiments.bench.transport_frames import Transfer, Way, read
from experiments.timeline import PHASES, ClientRound, Round

DEVICE = "dev0"
INTERFACES = ("server-eth0", "dev0-eth0")
GROUPS = {
    "windows": ("down_window", "up_window"),
    "pauses": ("down_pauses", "up_pauses"),
    "framing": ("down_framing", "up_framing"),
    "server": ("prepare", "down_before", "up_after", "decode", "aggregate"),
    "device": ("down_after", "hand_over", "encode", "up_before"),
    "compute": ("compute",),
}
"""What the tables show -> the causes in it; together they are all there are."""


@dataclass(frozen=True)
class Case:
    """A link of `rate_bps` and `one_way_delay_s` both ways, and with how large an initial window TCP starts
    on it (segments; None: the kernel's 10)."""

    rate_bps: float
    one_way_delay_s: float
    initial_window: int | None = None

    @property
    def link(self) -> str:
        return f"{self.rate_bps / 1e6:g} Mbit/s, {self.one_way_delay_s * 1e3:g} ms"

    @property
    def settings(self) -> str:
        window = self.initial_window
        return "kernel's initial window" if window is None else f"initial window {window}"


@dataclass(frozen=True)
class Row:
    """One round of one system on one link.

    `bound_s` payload * 8 / rate * 1514/1448 both ways and twice the propagation; `ratio` to it. Wire bytes
    are the device's interface counters, opposite acknowledgements included; retransmitted segments as
    captured. `phases` as in clients.csv, and `causes` what they hold beyond the bound (s; they add up to
    latency_s - bound_s; None where the capture is incomplete).
    """

    system: str
    tensors: int
    rate_bps: float
    one_way_delay_s: float
    initial_window: int | None
    round: int
    latency_s: float
    bound_s: float
    ratio: float
    payload_bytes: int
    wire_up_bytes: int
    wire_down_bytes: int
    retransmitted_up_segments: int | None
    retransmitted_down_segments: int | None
    phases: Mapping[str, float]
    causes: Mapping[str, float] | None
    valid: bool
    run_dir: str

    @property
    def case(self) -> Case:
        return Case(self.rate_bps, self.one_way_delay_s, self.initial_window)

    @property
    def wire_ratio(self) -> float:
        """Bytes on the wire per byte of payload, in the direction where that is more."""
        return max(self.wire_up_bytes, self.wire_down_bytes) / self.payload_bytes

    def grouped(self) -> dict[str, float]:
        """Causes by GROUPS; empty where they are not known."""
        causes = self.causes
        return {} if causes is None else {name: sum(causes[c] for c in of) for name, of in GROUPS.items()}


def rows_of(
    system: str,
    tensors: int,
    case: Case,
    link: AccessLink,
    folder: Path,
    *,
    realtime_minus_monotonic_s: float | None,
    valid: bool,
) -> list[Row]:
    """A row for every finished round of a run directory, ours or one that looks like it.

    `realtime_minus_monotonic_s` turns the captured frames' times into the events'; None: the causes stay
    unknown.
    """
    rounds = timeline.build(timeline.read_events(folder / "events"))
    clients = record.clients_table(rounds, {DEVICE: link}).to_dict("records")
    ways = {}
    if realtime_minus_monotonic_s is not None:
        ways = _ways(folder / "captures", link, realtime_minus_monotonic_s)
    rows = []
    for one, client in zip(rounds, clients, strict=True):
        latency_s = one.latency_s
        if client["outcome"] != "finished" or latency_s is None:
            continue
        bounds = {way: float(client[f"bound_{way}load_s"]) for way in ("down", "up")}
        bound_s = sum(bounds.values())
        transfers = _transfers(one.clients[DEVICE], ways, bounds)
        rows.append(
            Row(
                system=system,
                tensors=tensors,
                rate_bps=case.rate_bps,
                one_way_delay_s=case.one_way_delay_s,
                initial_window=case.initial_window,
                round=one.number,
                latency_s=latency_s,
                bound_s=bound_s,
                ratio=latency_s / bound_s,
                payload_bytes=int(client["payload_down_bytes"]),
                wire_up_bytes=int(client["wire_up_bytes"]),
                wire_down_bytes=int(client["wire_down_bytes"]),
                retransmitted_up_segments=transfers["up"].retransmitted if transfers else None,
                retransmitted_down_segments=transfers["down"].retransmitted if transfers else None,
                phases={phase: float(client[f"{phase}_s"]) for phase in PHASES},
                causes=causes(one, transfers) if transfers else None,
                valid=valid,
                run_dir=str(folder),
            )
        )
    return rows


def causes(one: Round, transfers: Mapping[str, Transfer]) -> dict[str, float]:
    """What a round took beyond its bound, by cause (s): every second from its start to its end is in one.

    `prepare` the server before it hands over the first byte; of each transfer what Transfer says;
    `hand_over` between what a device does; `decode` of the update and its addition; `aggregate` the rest.
    """
    device = one.clients[DEVICE]
    at = {mark: event["t"] for mark, event in device.marks.items()}
    found = {"prepare": at["download_start"] - one.start}
    for way in ("down", "up"):
        transfer = transfers[way]
        for part in ("before", "window", "pauses", "framing", "after"):
            found[f"{way}_{part}"] = getattr(transfer, part)
    return found | {
        "hand_over": at["compute_start"] - at["download_end"] + at["upload_start"] - at["encode_end"],
        "compute": at["compute_end"] - at["compute_start"],
        "encode": at["encode_end"] - at["compute_end"],
        "decode": at["aggregate_start"] - at["upload_received"],
        "aggregate": at["round_end"] - at["aggregate_start"],
    }


def _ways(captures: Path, link: AccessLink, realtime_minus_monotonic_s: float) -> dict[str, Way]:
    server, device = (
        list(read(captures / f"{interface}.pcap", realtime_minus_monotonic_s)) for interface in INTERFACES
    )
    macs = [address(number)["mac"] for number in (0, 1)]  # A network's hosts: the server, then the devices.
    return {"down": Way(macs[0], server, device, link.down), "up": Way(macs[1], device, server, link.up)}


def _transfers(
    device: ClientRound, ways: Mapping[str, Way], bounds: Mapping[str, float]
) -> dict[str, Transfer] | None:
    """Both transfers of a round; None unless the frames of both are known."""
    marks = {"down": ("download_start", "download_end"), "up": ("upload_start", "upload_received")}
    found = {}
    for name, way in ways.items():
        start, end = (device.time(mark) for mark in marks[name])
        transfer = None if start is None or end is None else way.transfer(start, end, bounds[name])
        if transfer is not None:
            found[name] = transfer
    return found if len(found) == len(marks) else None


def least_window(case: Case) -> int:
    """Segments that fill a link from the first round trip on: rate * round-trip time / a full frame."""
    return -int(-case.rate_bps * 2 * case.one_way_delay_s // (8 * FRAME_BYTES))
