"""How much of every transfer is emulated where `adapter.emulated_time` is set, and where that is refused.

Server and devices then exchange the first part of the layout's tensors, as ever and over the real links, and
what the rest would have taken is worked out afterwards (rounds.py here). Both directions carry
the same vector, so the part is as long as the transfer needs that needs most of it; slower ones take longer.

A time and not a share or a number of bytes, because a rate settles within so many round trips: one value does
for links of 0.5 and of 100 Mbit/s, and what is short anyway is sent whole.

Refused is whatever makes the rest of a transfer unlike its part: links that change with time (a channel, a
trace, outages, background traffic) or are shared further in (any topology but a cell), queues that may
overflow for the first time after the part and then run empty, payloads that differ along the vector, rounds
that close by the clock, and methods whose payloads or work do not grow with the vector.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from client.sd15 import first_part, sd15_layout
from client.training import Rank
from emulation.link import FRAME_BYTES, SEGMENT_BYTES, AccessLink, LinkSpec
from proto import codecs
from proto.codecs import Codec
from proto.payload import CHUNK_BYTES
from proto.segments import SEGMENT_VALUES, Segments

if TYPE_CHECKING:
    from experiments.config import Experiment

_LEAST_BYTES = 32 * CHUNK_BYTES
"""A transfer's progress is known by its chunks: with fewer its rate would not be."""


@dataclass(frozen=True)
class EmulatedPart:
    """What is sent, and what it is a part of; bytes are payload bytes of one transfer."""

    values: int
    whole_values: int
    whole_down_bytes: int
    whole_up_bytes: int | None
    """None: the codec's lengths vary, and the whole is as much longer as it has more values."""

    @property
    def growth(self) -> float:
        """How much longer the whole vector is."""
        return self.whole_values / self.values

    def whole_up(self, part_bytes: int) -> int:
        """Payload bytes of a whole update whose part had so many."""
        return round(part_bytes * self.growth) if self.whole_up_bytes is None else self.whole_up_bytes


def emulated_part(experiment: Experiment) -> EmulatedPart | None:
    """What `adapter.emulated_time` asks for; None where it asks for nothing, or for all.

    Raises ValueError naming the key that it does not go with.
    """
    emulated_s = experiment.adapter.emulated_time
    if emulated_s is None:
        return None
    _check(experiment)
    rank: Rank = "full" if experiment.adapter.kind == "full" else max(experiment.ranks())
    whole = sd15_layout(rank, experiment.adapter.target_modules)
    down, up = codecs.parse(experiment.downlink.codec), codecs.parse(experiment.uplink.codec)
    part = first_part(whole, least_values(experiment.links(), down, up, emulated_s))
    if part.size >= whole.size:
        return None
    result = EmulatedPart(
        part.size,
        whole.size,
        Segments(down, whole.size).payload_bytes,
        Segments(up, whole.size).payload_bytes if up.fixed_length else None,
    )
    _check_deadline(experiment, result, up)
    return result


def least_values(links: list[AccessLink], down: Codec, up: Codec, emulated_s: float) -> int:
    """So many that every link, with an equal share of its air, has enough for that long; whole segments."""
    on_air = Counter(link.air.name for link in links if link.air is not None)
    values = 0.0
    for link in links:
        sharers = 1 if link.air is None else on_air[link.air.name]
        for spec, codec in ((link.down, down), (link.up, up)):
            wanted = max(emulated_s * spec.tcp_goodput_bps / sharers / 8, _LEAST_BYTES)
            values = max(values, wanted / codec.encoded_bytes(SEGMENT_VALUES) * SEGMENT_VALUES)
    return math.ceil(values / SEGMENT_VALUES) * SEGMENT_VALUES


def _check(experiment: Experiment) -> None:
    network, federation = experiment.network, experiment.federation
    refused = (
        (
            "training.trainer=diffusion",
            "a model cannot train on a part of itself; it is for the synthetic trainer",
            experiment.training.trainer != "synthetic",
        ),
        (
            "training.scheme",
            "only federated rounds are known to grow with the vector",
            experiment.training.scheme != "federated",
        ),
        (
            "privacy.secure_aggregation",
            "its keys and shares do not grow with the vector",
            experiment.privacy.secure_aggregation,
        ),
        (
            "aggregation.method",
            "what other methods than fedit send or work out does not grow with the vector alone",
            experiment.aggregation.method != "fedit",
        ),
        ("downlink.delta", "rounds would differ in what goes down", experiment.downlink.delta),
        (
            "downlink.codec",
            f"{experiment.downlink.codec} makes of an adapter's parts payloads of different lengths",
            not codecs.parse(experiment.downlink.codec).fixed_length,
        ),
        ("network.topology", "only a cell's links are the devices' own", network.topology != "cell"),
        ("network.channel", "the links change with time", network.channel is not None),
        ("network.background", "other traffic changes with time", bool(network.background)),
        ("network.devices[].remote", "their links are not known", any(d.remote for d in network.devices)),
        ("federation.availability", "it goes by the clock", federation.availability is not None),
        ("federation.close_after", "rounds would close by the clock", federation.close_after < 1),
        ("federation.late=next_round", "rounds would close by the clock", federation.late != "refuse"),
        (
            "federation.selection",
            "write random or round_robin; the others go by what was measured",
            federation.selection not in ("random", "round_robin"),
        ),
    )  # fmt: skip
    for key, why, holds in refused:
        if holds:
            raise ValueError(f"adapter.emulated_time: does not go with {key}: {why}")
    for link in experiment.links():
        round_trip_s = link.up.delay_s + link.down.delay_s
        for way, spec in (("up", link.up), ("down", link.down)):
            _check_link(f"{link.device}'s {way}", spec, round_trip_s)


def _check_link(name: str, spec: LinkSpec, round_trip_s: float) -> None:
    if spec.trace is not None or spec.outages is not None:
        raise ValueError(f"adapter.emulated_time: {name} has a trace or outages, and changes with time")
    # A loss-based window may fall to half (Reno; CUBIC: 0.7), and is as long as queue and round trip then.
    holds = min(spec.queue_bytes, (spec.queue_frames or math.inf) * FRAME_BYTES)
    needs = spec.rate_bps * round_trip_s / 8
    if spec.aqm == "tail" and holds < 0.999 * needs:
        raise ValueError(
            f"adapter.emulated_time: {name}.queue holds {holds:.0f} bytes, less than a round trip's "
            f"{needs:.0f}: it may overflow for the first time after the emulated part, and run empty"
        )


def _check_deadline(experiment: Experiment, part: EmulatedPart, up: Codec) -> None:
    """No device can be done by a deadline that is shorter than its payloads take at the least."""
    deadline_s = experiment.federation.round_deadline
    up_bytes = part.whole_up_bytes or up.bits_per_parameter * part.whole_values / 8
    for link in experiment.links():
        ways = ((link.down, part.whole_down_bytes), (link.up, up_bytes))
        least_s = sum(spec.least_time_s(size * FRAME_BYTES / SEGMENT_BYTES) for spec, size in ways)
        if least_s > deadline_s:
            raise ValueError(
                f"federation.round_deadline: {deadline_s:g} s, and {link.device}'s transfers, extrapolated "
                f"by adapter.emulated_time, take {least_s:.0f} s at the least"
            )
