"""When a transfer's rate counts as steady, and how much airtime transfers have that share an air."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.analytic import shared_air
from experiments.extrapolation.airtime import acknowledgements, airtime, overlap_s
from experiments.extrapolation.steady import MOST_INTERVAL, on_time, pace

CHUNK = 65536


def marks(rates: list[float] | np.ndarray, *, start: float = 0.0) -> list[tuple[float, float]]:
    """A chunk each at these rates, in bytes a second."""
    times = start + np.cumsum(CHUNK / np.asarray(rates))
    return [(float(t), CHUNK * (index + 1.0)) for index, t in enumerate(times)]


@given(st.floats(1e4, 1e8), st.integers(34, 400), st.floats(0, 1e6))
def test_a_constant_rate_is_steady_and_found_whatever_came_before(
    rate: float, chunks: int, at: float
) -> None:
    """Slow start is over after a third of the bytes here."""
    slow = chunks // 3
    rates = np.concatenate([rate * np.linspace(0.1, 1, slow), np.full(chunks - slow, rate)])
    found = pace(marks(rates, start=at))
    assert found is not None and found.unsteady is None
    assert 1 / found.s_per_byte == pytest.approx(rate, rel=1e-4)


def test_a_trend_is_not_steady() -> None:
    found = pace(marks(1e6 * np.linspace(0.9, 1, 200)))
    assert found is not None and found.unsteady is not None
    assert "its last quarter was 1." in found.unsteady and "faster than its last half" in found.unsteady


def test_a_rate_that_agrees_with_itself_by_chance_is_not_steady() -> None:
    """The last quarter is as fast as the half; within both it goes up and down by a third."""
    rates = 1e6 * np.where(np.arange(320) // 20 % 2, 4 / 3, 2 / 3)
    found = pace(marks(rates))
    assert found is not None and abs(found.drift) < 0.01
    assert found.interval > MOST_INTERVAL and "±" in (found.unsteady or "")


def test_the_interval_holds_what_it_says() -> None:
    """Of 400 transfers at independently disturbed rates 95 % have theirs within the interval."""
    held = 0
    for seed in range(400):
        seconds = np.random.default_rng(seed).normal(1.0, 0.1, 160)
        found = pace(marks(CHUNK / seconds))
        assert found is not None
        held += abs(1 / found.s_per_byte - CHUNK) <= found.interval * CHUNK
    assert 0.92 <= held / 400 <= 0.98


def test_what_a_stalled_process_notes_late_is_told_by_what_it_finds_waiting() -> None:
    """At 1 MB/s, on a link that carries no more; marks of the last second before three moments come then."""
    true, stalls = marks([1e6] * 300), (10.1, 14.0, 17.1)
    noted = [(max([t, *(end for end in stalls if end - 1 <= t < end)]), done) for t, done in true]
    disturbed, corrected = pace(noted), pace(on_time(noted, 0.99e-6))
    assert disturbed is not None and disturbed.unsteady is not None
    assert corrected is not None and corrected.unsteady is None
    assert corrected.s_per_byte == pytest.approx(1e-6, rel=2e-3)


@given(st.lists(st.floats(1e4, 1e6), min_size=2, max_size=50))
def test_a_link_that_was_idle_is_not_corrected(rates: list[float]) -> None:
    """However slow some bytes came: none came faster than a link of 1 MB/s carries them."""
    assert on_time(marks(rates), 0.99e-6) == marks(rates)
    assert on_time([], 1e-6) == []


def test_too_few_marks_tell_nothing() -> None:
    assert pace([]) is None
    assert pace(marks([1e6] * 14)) is None
    assert pace(marks([1e6] * 32)) is not None
    assert pace([(0.0, 1.0)] * 20) is None


starts = st.lists(st.floats(0, 50), min_size=1, max_size=6)


@given(starts, st.data())
def test_transfers_end_when_each_has_had_what_it_needs(begins: list[float], data: st.DataObject) -> None:
    needs = data.draw(st.lists(st.floats(0.1, 50), min_size=len(begins), max_size=len(begins)))
    spans = list(zip(begins, shared_air(begins, needs), strict=True))
    clock = airtime(spans)
    for (start, end), need in zip(spans, needs, strict=True):
        assert clock(end) - clock(start) == pytest.approx(need, rel=1e-6)
        assert end - start >= need * (1 - 1e-9)
    # An air is never idle while somebody needs it.
    busy, until = 0.0, -math.inf
    for start, end in sorted(spans):
        busy += max(0.0, end - max(start, until))
        until = max(until, end)
    assert busy == pytest.approx(sum(needs), rel=1e-6)


def test_processor_sharing_by_hand() -> None:
    """Two at once until 4; the third shares with the second from 5 on, 3 s each; then it has 1 s alone."""
    assert shared_air([0, 0, 5], [2, 4.5, 2.5]) == pytest.approx([4, 8, 9])
    clock = airtime([(0, 4), (0, 8), (5, 9)])
    assert [clock(t) for t in (0, 4, 5, 8, 9)] == pytest.approx([0, 2, 3, 4.5, 5.5])


def test_acknowledgements_by_hand() -> None:
    """10 Mbit/s of payload down are 431.6 segments a second to acknowledge: 228 kbit/s up."""
    assert acknowledgements(1.25e6, (3.0, 4.0), 2e6) == pytest.approx(0.11395, rel=1e-3)
    assert overlap_s((0, 4), (3, 9)) == 1 and overlap_s((0, 4), (5, 9)) == 0
