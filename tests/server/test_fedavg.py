"""FedAvg: exact arithmetic, so that who comes first never changes the result by a single bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proto.adapter import Vector
from server.aggregation.fedavg import FRACTION_BITS, LARGEST_VALUE, LARGEST_WEIGHT, FedAvg, OutOfRangeError

LARGEST_FLOAT = float(np.nextafter(np.float32(LARGEST_VALUE), np.float32(0)))  # the largest below 128

values = st.floats(-LARGEST_FLOAT, LARGEST_FLOAT, width=32)


@st.composite
def cohorts(draw: st.DrawFn) -> list[tuple[Vector, int]]:
    """1 to 8 clients: updates of one size with values of any magnitude below 128, and their examples."""
    size = draw(st.integers(1, 6))
    client = st.tuples(
        st.lists(values, min_size=size, max_size=size).map(lambda v: np.array(v, np.float32)),
        st.integers(1, LARGEST_WEIGHT // 8),
    )
    return draw(st.lists(client, min_size=1, max_size=8))


def mean(cohort: list[tuple[Vector, int]]) -> Vector:
    """The aggregated update itself: one step from an adapter of zeros."""
    updates = FedAvg(cohort[0][0].size)
    for update, examples in cohort:
        updates.add(update, examples)
    return updates.step(np.zeros(cohort[0][0].size, np.float32))


@given(cohorts(), st.randoms(use_true_random=False))
@settings(max_examples=200)
def test_any_order_of_arrival_gives_the_same_bits(cohort: list[tuple[Vector, int]], random) -> None:
    shuffled = list(cohort)
    random.shuffle(shuffled)
    assert mean(cohort).tobytes() == mean(shuffled).tobytes()


def test_a_float_sum_would_depend_on_the_order() -> None:
    """Why sums are integers: here is a cohort whose float32 mean changes with who comes first."""
    rng = np.random.default_rng(0)
    cohort = [(rng.standard_normal(1000, np.float32), 1) for _ in range(10)]

    def float_mean(updates: list[tuple[Vector, int]]) -> Vector:
        total = np.zeros(1000, np.float32)
        for update, _ in updates:
            total += update
        return total / np.float32(len(updates))

    assert float_mean(cohort).tobytes() != float_mean(cohort[::-1]).tobytes()
    assert mean(cohort).tobytes() == mean(cohort[::-1]).tobytes()


@given(cohorts())
@settings(max_examples=200)
def test_it_is_the_mean_weighted_by_examples(cohort: list[tuple[Vector, int]]) -> None:
    """Against float64: each update is rounded to 2^-36 once, and the result to float32 once."""
    stacked = np.array([update for update, _ in cohort], np.float64)
    expected = np.average(stacked, axis=0, weights=[examples for _, examples in cohort])
    rounding = 2.0 ** -(FRACTION_BITS + 1) + np.abs(expected) * 2.0**-24 + 1e-13
    assert (np.abs(mean(cohort) - expected) <= rounding).all()


@given(st.lists(values, min_size=1, max_size=20))
def test_a_step_moves_the_adapter_by_the_mean(update: list[float]) -> None:
    vector = np.array(update, np.float32)
    adapter = np.linspace(-1, 1, vector.size, dtype=np.float32)
    before = adapter.copy()
    updates = FedAvg(vector.size)
    updates.add(vector, 3)
    np.testing.assert_allclose(updates.step(adapter), adapter + vector, rtol=3e-7, atol=2e-7)
    np.testing.assert_array_equal(adapter, before)


def test_a_round_without_updates_leaves_the_adapter_as_it_is() -> None:
    adapter = np.array([1.0, -0.0, 1e-40], np.float32)
    stepped = FedAvg(3).step(adapter)
    assert stepped.tobytes() == adapter.tobytes()
    assert stepped is not adapter


def test_the_largest_values_at_the_largest_weight_do_not_overflow() -> None:
    """7 + 36 + 20 = 63 bits: one bit more anywhere and the int64 sum would turn negative."""
    updates = FedAvg(2)
    updates.add(np.array([LARGEST_FLOAT, -LARGEST_FLOAT], np.float32), LARGEST_WEIGHT)
    np.testing.assert_array_equal(updates.step(np.zeros(2, np.float32)), [LARGEST_FLOAT, -LARGEST_FLOAT])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 128.0, -128.0, 1e30])
def test_an_update_beyond_the_range_is_refused_and_leaves_the_sum_untouched(bad: float) -> None:
    """Though its other values are fine: an update counts whole or not at all."""
    good = np.array([0.5, 0.25], np.float32)
    updates = FedAvg(2)
    updates.add(good, 2)
    with pytest.raises(
        OutOfRangeError, match="NaN or Inf" if not np.isfinite(bad) else "diverged beyond 128"
    ):
        updates.add(np.array([1.0, bad], np.float32), 2)
    assert updates.weight == 2
    np.testing.assert_array_equal(updates.step(np.zeros(2, np.float32)), good)


@pytest.mark.parametrize("examples", [0, -1, LARGEST_WEIGHT + 1, LARGEST_WEIGHT - 1])
def test_a_weight_beyond_the_range_is_refused_and_leaves_the_sum_untouched(examples: int) -> None:
    """The last one is fine by itself, but not on top of the two examples that are there already."""
    updates = FedAvg(1)
    updates.add(np.ones(1, np.float32), 2)
    with pytest.raises(OutOfRangeError, match=f"weight {examples}"):
        updates.add(np.ones(1, np.float32), examples)
    assert updates.weight == 2
    np.testing.assert_array_equal(updates.step(np.zeros(1, np.float32)), [1.0])
