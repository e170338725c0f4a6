"""Shadowing has unit variance and Gudmundson's correlation; sight has its probability."""

from __future__ import annotations

import numpy as np
import pytest

from emulation.shadowing import AlongTheWay, Sight

MANY = 4000  # The standard error of a correlation is then 0.016.


def generators(count: int = MANY) -> list[np.random.Generator]:
    return [np.random.default_rng([1, number]) for number in range(count)]


@pytest.mark.parametrize("steps", [1, 10])
def test_correlation_falls_exponentially_however_the_way_is_cut(steps: int) -> None:
    process = AlongTheWay(generators(), cells=1)
    start = process.values.copy()
    for _ in range(steps):
        process.move(np.full(MANY, 25.0 / steps), 50.0)
    end = process.values
    assert np.mean(start * end) == pytest.approx(np.exp(-25 / 50), abs=0.06)
    assert end.std() == pytest.approx(1, abs=0.05)
    assert end.mean() == pytest.approx(0, abs=0.06)


def test_who_stands_still_keeps_his_shadow_and_cells_have_their_own() -> None:
    process = AlongTheWay(generators(), cells=2)
    start = process.values.copy()
    moved = np.zeros(MANY)
    moved[0] = 1000.0
    process.move(moved, np.full((MANY, 2), 50.0))
    assert (process.values[1:] == start[1:]).all()
    assert (process.values[0] != start[0]).all()
    assert np.corrcoef(start[:, 0], start[:, 1])[0, 1] == pytest.approx(0, abs=0.06)


def test_a_device_s_shadow_does_not_depend_on_the_others() -> None:
    few, many = AlongTheWay(generators(2), cells=3), AlongTheWay(generators(5), cells=3)
    for _ in range(3):
        few.move(np.full(2, 7.0), 50.0)
        many.move(np.full(5, 7.0), 50.0)
    assert (few.values == many.values[:2]).all()


@pytest.mark.parametrize("probability", [0.0, 0.13, 1.0])
def test_sight_is_as_probable_as_it_should_be_wherever_a_device_goes(probability: float) -> None:
    sight = Sight(generators(), np.full((MANY, 1), 0.5))
    assert sight.now.mean() == pytest.approx(0.5, abs=0.04)
    sight.move(np.full(MANY, 1000.0), np.full((MANY, 1), probability))
    assert sight.now.mean() == pytest.approx(probability, abs=0.025)


@pytest.mark.parametrize("steps", [1, 10])
def test_sight_is_correlated_along_the_way_however_it_is_cut(steps: int) -> None:
    sight = Sight(generators(), np.full((MANY, 1), 0.3))
    start = sight.now.copy()
    for _ in range(steps):
        sight.move(np.full(MANY, 30.0 / steps), np.full((MANY, 1), 0.3))
    assert np.corrcoef(start[:, 0], sight.now[:, 0])[0, 1] == pytest.approx(np.exp(-30 / 50), abs=0.06)


def test_who_stands_still_keeps_his_sight() -> None:
    sight = Sight(generators(), np.full((MANY, 2), 0.3))
    start = sight.now.copy()
    for _ in range(5):
        sight.move(np.zeros(MANY), np.full((MANY, 2), 0.3))
    assert (sight.now == start).all()
