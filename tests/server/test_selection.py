"""Cohorts: drawn by seed and round alone, so a run can be repeated."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.selection import random_fraction

DEVICES = [f"dev{index}" for index in range(10)]


@given(st.integers(1, 50), st.floats(0, 1), st.integers(0, 2**31), st.integers(1, 1000))
def test_a_cohort_is_the_asked_fraction_without_repetition_in_order(
    count: int, fraction: float, seed: int, round_number: int
) -> None:
    devices = [f"dev{index}" for index in range(count)]
    cohort = random_fraction(devices, fraction, seed=seed, round_number=round_number)
    assert len(cohort) == max(1, math.ceil(fraction * count - 1e-9))
    assert cohort == [name for name in devices if name in set(cohort)]


@pytest.mark.parametrize(
    ("fraction", "count", "size"),
    [(0.0, 10, 1), (0.1, 10, 1), (0.31, 10, 4), (1.0, 10, 10), (0.07, 100, 7), (0.55, 100, 55)],
)
def test_fractions_that_floats_cannot_hold_do_not_add_a_device(
    fraction: float, count: int, size: int
) -> None:
    """0.07 * 100 is 7.000000000000001 in floating point, and still 7 devices."""
    devices = [f"dev{index}" for index in range(count)]
    assert len(random_fraction(devices, fraction, seed=0, round_number=1)) == size


def test_the_same_seed_and_round_draw_the_same_cohort() -> None:
    draws = {tuple(random_fraction(DEVICES, 0.5, seed=7, round_number=3)) for _ in range(5)}
    assert len(draws) == 1


def test_rounds_and_seeds_draw_different_cohorts_and_everyone_gets_a_turn() -> None:
    by_round = [tuple(random_fraction(DEVICES, 0.3, seed=0, round_number=r)) for r in range(1, 41)]
    assert len(set(by_round)) > 20
    assert {name for cohort in by_round for name in cohort} == set(DEVICES)
    assert by_round != [tuple(random_fraction(DEVICES, 0.3, seed=1, round_number=r)) for r in range(1, 41)]
