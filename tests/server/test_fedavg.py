"""FedAvg: exact arithmetic, so that who comes first never changes the result by a single bit."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proto.adapter import Vector
from server.aggregation.fedavg import FRACTION_BITS, LARGEST_VALUE, LARGEST_WEIGHT, FedAvg, OutOfRangeError
from server.aggregation.optimizer import Plain

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
        add(updates, update, examples)
    return stepped(updates, np.zeros(cohort[0][0].size, np.float32))


def add(updates: FedAvg, update: Vector, examples: int) -> None:
    """A whole update at once."""
    updates.add(update, 0, examples)
    updates.count(examples)


def stepped(updates: FedAvg, adapter: Vector) -> Vector:
    """The adapter after the round, in memory of its own."""
    after = adapter.copy()
    Plain().step(after, updates.means())
    return after


@given(cohorts(), st.data())
def test_what_is_withdrawn_leaves_no_trace_even_where_the_sum_overflowed(
    cohort: list[tuple[Vector, int]], data: st.DataObject
) -> None:
    """Halves of updates come and go between the whole ones; at 2^20 examples each, int64 wraps around."""
    updates = FedAvg(cohort[0][0].size)
    gone: list[tuple[Vector, int]] = []
    for update, examples in cohort:
        for _ in range(data.draw(st.integers(0, 3))):
            start = data.draw(st.integers(0, update.size - 1))
            gone.append((np.full(update.size - start, LARGEST_FLOAT, np.float32), start))
            updates.add(*gone[-1], LARGEST_WEIGHT)
        add(updates, update, examples)
    for values, start in reversed(gone):
        updates.subtract(values, start, LARGEST_WEIGHT)
    assert stepped(updates, np.zeros(cohort[0][0].size, np.float32)).tobytes() == mean(cohort).tobytes()


def test_threads_that_add_to_the_same_values_lose_nothing() -> None:
    """Eight devices' segments at once: numpy lets other threads in while it adds."""
    size, updates = 2**20, FedAvg(2**20)
    one = np.ones(size, np.float32)
    with ThreadPoolExecutor(8) as pool:
        for _ in pool.map(lambda _: updates.add(one, 0, 1), range(64)):
            pass
    updates.count(64)
    assert (stepped(updates, np.zeros(size, np.float32)) == 1).all()


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
    updates = FedAvg(vector.size)
    add(updates, vector, 3)
    np.testing.assert_allclose(stepped(updates, adapter), adapter + vector, rtol=3e-7, atol=2e-7)


def test_a_round_without_updates_leaves_the_adapter_as_it_is() -> None:
    adapter = np.array([1.0, -0.0, 1e-40], np.float32)
    assert stepped(FedAvg(3), adapter).tobytes() == adapter.tobytes()


def test_the_largest_values_at_the_largest_weight_do_not_overflow() -> None:
    """7 + 36 + 20 = 63 bits: one bit more anywhere and the int64 sum would turn negative."""
    updates = FedAvg(2)
    add(updates, np.array([LARGEST_FLOAT, -LARGEST_FLOAT], np.float32), LARGEST_WEIGHT)
    np.testing.assert_array_equal(stepped(updates, np.zeros(2, np.float32)), [LARGEST_FLOAT, -LARGEST_FLOAT])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 128.0, -128.0, 1e30])
def test_an_update_beyond_the_range_is_refused_and_leaves_the_sum_untouched(bad: float) -> None:
    """Though the segment's other values are fine: it is added whole or not at all."""
    good = np.array([0.5, 0.25], np.float32)
    updates = FedAvg(2)
    add(updates, good, 2)
    with pytest.raises(
        OutOfRangeError, match="NaN or Inf" if not np.isfinite(bad) else "diverged beyond 128"
    ):
        updates.add(np.array([1.0, bad], np.float32), 0, 2)
    assert updates.weight == 2
    np.testing.assert_array_equal(stepped(updates, np.zeros(2, np.float32)), good)


@pytest.mark.parametrize("examples", [0, -1, LARGEST_WEIGHT + 1, LARGEST_WEIGHT - 1])
def test_a_weight_beyond_the_range_is_refused_and_does_not_count(examples: int) -> None:
    """The last one is fine by itself, but not on top of the two examples that are there already."""
    updates = FedAvg(1)
    add(updates, np.ones(1, np.float32), 2)
    with pytest.raises(OutOfRangeError, match=f"weight {examples}"):
        updates.count(examples)
    assert updates.weight == 2
    np.testing.assert_array_equal(stepped(updates, np.zeros(1, np.float32)), [1.0])
