"""The analytic model against cases worked by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments import analytic


def test_shannon_by_hand() -> None:
    """1 MHz, 0.1 W behind 110 dB, -174 dBm/Hz = 3.98e-21 W/Hz: p h / N0 = 2.51e8 Hz, 24 dB in 1 MHz."""
    signal_hz = analytic.snr_hz(0.1, 10**-11, 10 ** (-174 / 10) * 1e-3)
    assert signal_hz == pytest.approx(2.512e8, rel=1e-3)
    assert analytic.shannon_rate_bps(1e6, signal_hz) == pytest.approx(1e6 * math.log2(252.2), rel=1e-4)
    assert analytic.shannon_rate_bps(1e6, 3e6) == pytest.approx(2e6)  # log2(1 + 3)
    assert analytic.shannon_rate_bps(1e15, 3e6) == pytest.approx(3e6 / math.log(2))  # Power is all it has.
    assert analytic.shannon_rate_bps(0, 3e6) == analytic.shannon_rate_bps(1e6, 0) == 0


def test_times_and_energies_by_hand() -> None:
    assert analytic.transfer_s(1.25e6, 10e6, 0.025) == pytest.approx(1.025)
    assert analytic.transfer_s(0, 0, 0.025) == 0.025
    assert analytic.transfer_s(1, 0) == math.inf
    # 5 epochs of 200 samples, 2e4 cycles each, at 2 GHz: 10 ms, and 0.8 W for that long with kappa 1e-28.
    assert analytic.computation_s(5, 2e4, 200, 2e9) == pytest.approx(0.010)
    assert analytic.computation_j(1e-28, 5, 2e4, 200, 2e9) == pytest.approx(0.8 * 0.010)
    assert analytic.energy_j(0.2, 3.0) == pytest.approx(0.6)
    assert analytic.round_s([1.0, 4.5, 2.0], 0.25) == 4.75


@pytest.mark.parametrize(
    ("arrivals", "airtimes", "ends"),
    [
        ([0, 0], [1, 1], [2, 2]),
        ([0, 0], [1, 3], [2, 4]),  # Half each until 2, then the second alone.
        ([0, 1], [2, 1], [3, 3]),  # 1 alone, then both have 1 left.
        ([0, 5], [2, 1], [2, 6]),  # They never meet.
        ([0, 1, 1], [3, 1, 0], [4, 3, 1]),  # What is empty takes no air.
    ],
)
def test_an_air_is_shared_evenly_among_who_is_there(
    arrivals: list[float], airtimes: list[float], ends: list[float]
) -> None:
    assert analytic.shared_air(arrivals, airtimes) == pytest.approx(ends)


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0.01, 10)), min_size=1, max_size=8))
def test_an_air_is_never_idle_while_there_is_something_to_send(transfers: list[tuple[float, float]]) -> None:
    """Whatever the scheduler, the last is done when a queue that serves one at a time would be."""
    ends = analytic.shared_air([at for at, _ in transfers], [need for _, need in transfers])
    done = 0.0
    for at, need in sorted(transfers):
        done = max(done, at) + need
    assert max(ends) == pytest.approx(done)
    for (at, need), end in zip(transfers, ends, strict=True):
        assert end >= at + need * (1 - 1e-9)
