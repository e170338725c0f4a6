"""A divided cell: everything is given away, and min-max has everybody done at once, as early as can be."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.allocation import (
    Airtimes,
    Allocation,
    AllocationError,
    Bands,
    Demand,
    Policy,
    Spectrum,
    allocate,
)

POLICIES: tuple[Policy, ...] = ("equal", "proportional", "minmax")


def demands(*rows: tuple[float, float]) -> list[Demand]:
    """(bits, ready_s) of dev0, dev1, ..."""
    return [Demand(f"dev{number}", bits, ready) for number, (bits, ready) in enumerate(rows)]


def test_equal_parts() -> None:
    found = allocate("equal", Bands(2e6, np.array([3e6, 1e6])), demands((4e6, 0.5), (1e6, 0)))
    assert found.parts == (1e6, 1e6)
    assert found.rates_bps == pytest.approx((2e6, 1e6))  # log2(1 + 3), log2(1 + 1)
    assert found.finish_s == pytest.approx((2.5, 1.0))


def test_in_proportion_to_payload_over_efficiency() -> None:
    """2 MHz: log2(1 + 3) = 2 and log2(1 + 15) = 4 bit/s/Hz; 1 and 6 Mbit need 0.5 and 1.5 in proportion."""
    found = allocate("proportional", Bands(2e6, np.array([6e6, 30e6])), demands((1e6, 0), (6e6, 0)))
    assert found.parts == pytest.approx((0.5e6, 1.5e6))
    # Of airtime that is min-max already, if everybody begins at once.
    shared = Airtimes(np.array([4e6, 1e6]))
    for policy in ("proportional", "minmax"):
        found = allocate(policy, shared, demands((1e6, 0), (1e6, 0)))  # type: ignore[arg-type]
        assert found.parts == pytest.approx((0.2, 0.8)) and found.finish_s == pytest.approx((1.25, 1.25))


def test_min_max_by_hand() -> None:
    """1.5 MHz; at T = 2 s dev0, ready at 1 s, needs 2 Mbit/s = 1 MHz log2(1 + 3), and dev1 0.5 Mbit/s =
    0.5 MHz log2(1 + 1): all of it."""
    found = allocate("minmax", Bands(1.5e6, np.array([3e6, 0.5e6])), demands((2e6, 1.0), (1e6, 0.0)))
    assert found.parts == pytest.approx((1e6, 0.5e6), rel=1e-9)
    assert found.finish_s == pytest.approx((2.0, 2.0), rel=1e-12)
    # Airtime at 4 and 1 Mbit/s: 0.5 s / (T - 1 s) + 1 s / T = 1, too.
    found = allocate("minmax", Airtimes(np.array([4e6, 1e6])), demands((2e6, 1.0), (1e6, 0.0)))
    assert found.parts == pytest.approx((0.5, 0.5)) and found.finish_s == pytest.approx((2.0, 2.0), rel=1e-12)


def test_who_is_late_gets_more_and_who_sends_nothing_gets_nothing() -> None:
    spectrum = Bands(5e6, np.full(3, 1e8))
    found = allocate("minmax", spectrum, demands((1e7, 0.0), (1e7, 3.0), (0.0, 9.0)))
    assert found.parts[1] > found.parts[0] > found.parts[2] == 0
    assert found.finish_s[0] == pytest.approx(found.finish_s[1]) and found.finish_s[2] == 9.0


_bits = st.floats(1e3, 1e9)
_ready = st.one_of(st.just(0.0), st.floats(0, 1e4))
_cells = st.lists(st.tuples(_bits, _ready, st.floats(1e3, 1e11)), min_size=1, max_size=6)


def by_policy(spectrum: Spectrum, cell: list[tuple[float, float, float]]) -> dict[str, Allocation]:
    asked = demands(*((bits, ready) for bits, ready, _ in cell))
    return {policy: allocate(policy, spectrum, asked) for policy in POLICIES}


@settings(max_examples=60)
@given(cell=_cells, total_hz=st.floats(1e4, 1e8), in_hz=st.booleans())
def test_min_max_is_feasible_uses_all_and_is_never_worse(
    cell: list[tuple[float, float, float]], total_hz: float, in_hz: bool
) -> None:
    each = np.array([signal for _, _, signal in cell])
    spectrum: Spectrum = Bands(total_hz, each) if in_hz else Airtimes(each)
    found = by_policy(spectrum, cell)
    for allocation in found.values():
        assert sum(allocation.parts) == pytest.approx(spectrum.total, rel=1e-12)
        assert all(part > 0 for part in allocation.parts)
        assert allocation.rates_bps == pytest.approx(spectrum.rates_bps(np.array(allocation.parts)).tolist())
    best = found["minmax"].finish_s
    assert best == pytest.approx([max(best)] * len(best), rel=1e-9)
    for policy in ("equal", "proportional"):
        assert max(best) <= max(found[policy].finish_s) * (1 + 1e-12)


@settings(max_examples=30)
@given(cell=_cells, total_hz=st.floats(1e4, 1e8), more=st.floats(1.01, 10))
def test_more_spectrum_is_never_later(
    cell: list[tuple[float, float, float]], total_hz: float, more: float
) -> None:
    each = np.array([signal for _, _, signal in cell])
    asked = demands(*((bits, ready) for bits, ready, _ in cell))
    some, larger = (allocate("minmax", Bands(hz, each), asked) for hz in (total_hz, more * total_hz))
    assert max(larger.finish_s) <= max(some.finish_s) * (1 + 1e-12)


@settings(max_examples=60)
@given(share=st.floats(1e-9, 0.999), signal=st.floats(1e3, 1e11))
def test_the_part_for_a_rate_is_the_rate_s_inverse(share: float, signal: float) -> None:
    spectrum = Bands(1.0, np.array([signal]))
    rate = np.array([share * signal / math.log(2)])
    assert spectrum.rates_bps(spectrum.parts_for(rate)) == pytest.approx(rate, rel=1e-9)
    assert spectrum.parts_for(np.array([1.01 * signal / math.log(2)])) == math.inf


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(
    ("total", "signal", "rows", "says"),
    [
        (1e6, 0.0, [(1e6, 0), (1e6, 0)], "dev1: nothing gets through"),
        (0.0, 1e6, [(1e6, 0), (1e6, 0)], "nothing to divide: 0"),
        (1e6, 1e6, [], "there is no device"),
        (1e6, 1e6, [(0, 0), (0, 0)], "no device has anything to send"),
        (1e6, 1e6, [(1e6, 0), (1e6, math.inf)], "dev1: 1e.06 bits after inf s cannot be planned"),
        (1e6, 1e6, [(1e6, 0), (-1, 0)], "dev1: -1 bits"),
    ],
)
def test_what_cannot_be_divided_is_refused(
    policy: Policy, total: float, signal: float, rows: list[tuple[float, float]], says: str
) -> None:
    spectrum = Bands(total, np.array([1e6, signal][: len(rows)]))
    with pytest.raises(AllocationError, match=says):
        allocate(policy, spectrum, demands(*rows))
