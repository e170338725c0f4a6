"""The relay's clockwork in virtual time, one path or several, as the tests use it."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import Any

from emulation import _relay

Ending = tuple[int, int, int, str, int]
"""When, path, frame number, fate, bit flipped."""

HOUR = 3_600_000_000_000
END = 2**61
"""Later than anything. Not for a path with outages: it would go through all of them."""


def path(rate_bps: float = 1e6, **parameters: Any) -> _relay.Clockwork:
    """A path with a server of its own; `trace_ms` and `jitter_table` are plain sequences."""
    return paths([{"rate_bps": rate_bps, **parameters}])


def paths(documents: Sequence[dict[str, Any]], scheduler: str = "round_robin") -> _relay.Clockwork:
    """Paths that share one air."""
    return cells([documents], scheduler)


def cells(airs: Sequence[Sequence[dict[str, Any]]], scheduler: str = "round_robin") -> _relay.Clockwork:
    """Airs, each with the paths that begin in it; paths are numbered in that order."""
    return _relay.Clockwork([(scheduler, _packed(documents)) for documents in airs])


def _packed(documents: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    packed = []
    for document in documents:
        plain = dict(document)
        if "trace_ms" in plain:
            plain["trace_ns"] = array("q", (ms * 1_000_000 for ms in plain.pop("trace_ms"))).tobytes()
        if "jitter_table" in plain:
            plain["jitter_table"] = array("d", plain["jitter_table"]).tobytes()
        packed.append(plain)
    return packed


def carried(clockwork: _relay.Clockwork, frames: Iterable[tuple[int, int]]) -> list[Ending]:
    """Offer (when, length) to path 0 in turn; how each frame ended, in the order of offers, and copies."""
    now = 0
    for now, length in frames:
        clockwork.offer(0, now, length)
    return sorted(clockwork.advance(now + HOUR), key=lambda ending: ending[2])


def on_time(clockwork: _relay.Clockwork, until: int) -> list[Ending]:
    """Advance as the relay does, whenever next() says so: each frame must come out at that very time."""
    told: list[Ending] = []
    while (due := clockwork.next()) is not None and due <= until:
        fresh = clockwork.advance(due)
        assert all(when == due for when, _, _, fate, _ in fresh if fate in ("out", "copy"))
        told += fresh
    rest = clockwork.advance(until)
    assert all(fate not in ("out", "copy") for *_, fate, _ in rest)
    return told + rest
