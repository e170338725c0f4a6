"""What a link specification says of itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulation.link import FRAME_BYTES, LinkSpec, Trace

TRACES = st.lists(st.integers(1, 200), min_size=1, max_size=30).map(lambda ms: Trace("t", tuple(sorted(ms))))


def test_a_traces_mean_rate() -> None:
    assert Trace("t", (1, 2, 2, 4)).mean_rate_bps == pytest.approx(4 * 8 * FRAME_BYTES / 4e-3)


def test_the_least_time_of_a_trace_by_hand() -> None:
    trace = Trace("t", (10, 11, 12, 100))
    assert [trace.least_time_s(frames) for frames in (1, 2, 3, 4, 5, 9)] == pytest.approx(
        [0, 0.001, 0.002, 0.012, 0.100, 0.200]
    )


@given(TRACES, st.integers(1, 100))
def test_no_run_of_deliveries_is_shorter_than_the_least_time(trace: Trace, frames: int) -> None:
    period = trace.deliveries_ms[-1]
    looped = [ms + turn * period for turn in range(frames + 2) for ms in trace.deliveries_ms]
    shortest = min(looped[i + frames - 1] - looped[i] for i in range(len(trace.deliveries_ms)))
    assert trace.least_time_s(frames) == pytest.approx(shortest * 1e-3)


def test_the_least_time_of_a_rate() -> None:
    assert LinkSpec(8e6).least_time_s(1e6) == pytest.approx(1.0)
