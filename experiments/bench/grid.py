"""Which links `fedcell bench links` measures."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from emulation.calibration import FRAMES_PER_S
from emulation.link import FRAME_BYTES, AccessLink, LinkSpec
from experiments.bench.loads import BUSY, IDLE, TRAINING, Load

GridSize = Literal["full", "quick"]

_QUEUE_S = 0.2  # The default of an experiment's links.
_JITTER = 0.1  # Of the delay.
_AT_MOST = 56
"""Links in one network. The frames that all probes may send together bound the time, so that larger networks
end sooner, up to here."""

_AXES: dict[str, tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]] = {
    # Mbit/s, one-way ms, loss
    "full": ((1, 2, 5, 10, 20, 50, 100), (0, 5, 25, 100), (0, 0.001, 0.01, 0.05)),
    "quick": ((1, 20, 100), (0, 25), (0, 0.01)),
}


@dataclass(frozen=True)
class Part:
    """Links that are in force together, and how they are measured."""

    name: str
    links: tuple[AccessLink, ...]
    quick: bool
    loads: tuple[Load, ...] = (IDLE, BUSY)
    """What computes beside them, one measurement each."""
    frames_per_s: float = FRAMES_PER_S
    """What all probes at a time may send."""
    together: bool = False
    """Only all of the links at once show what is asked: none is measured again by itself."""


def parts(size: GridSize) -> list[Part]:
    """The grid in networks of links of similar delays, sixteen links together, and one fast link."""
    quick = size == "quick"
    links = list(_grid(*_AXES[size]))
    firsts = range(0, len(links), _AT_MOST)
    found = [
        Part(f"grid {number} of {len(firsts)}", tuple(links[first : first + _AT_MOST]), quick)
        for number, first in enumerate(firsts, 1)
    ]
    sixteen = [_link(number, 20, 0.005, 0, 0) for number in range(16)]
    at_once = 2 * 16 * 1.1 * 20e6 / (8 * FRAME_BYTES)  # All of them flooded, both ways.
    found.append(
        Part("sixteen", tuple(sixteen), quick, loads=(TRAINING,), frames_per_s=at_once, together=True)
    )
    clean = LinkSpec(100e6, 0.005, queue_bytes=int(100e6 * 0.025 / 8))
    found.append(Part("fast", (AccessLink("fast", clean, clean),), quick=False))
    return found


def _grid(
    rates_mbps: Sequence[float], delays_ms: Sequence[float], losses: Sequence[float]
) -> Iterator[AccessLink]:
    """The delay varies slowest, for it decides how long a link's measurement takes."""
    number = itertools.count()
    for delay_ms, jitter, loss, rate in itertools.product(delays_ms, (0.0, _JITTER), losses, rates_mbps):
        if delay_ms or not jitter:  # A tenth of no delay is no jitter.
            yield _link(next(number), rate, delay_ms * 1e-3, loss, jitter)


def _link(number: int, rate_mbps: float, delay_s: float, loss: float, jitter: float) -> AccessLink:
    rate_bps = rate_mbps * 1e6
    queue_bytes = max(16 * FRAME_BYTES, int(rate_bps * _QUEUE_S / 8))
    spec = LinkSpec(rate_bps, delay_s, jitter * delay_s, loss, queue_bytes)
    return AccessLink(f"x{number}", spec, spec)
