"""Robust means and server optimisers, against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.aggregation.median import median
from server.aggregation.options import OptimizerOptions
from server.aggregation.trimmed import trimmed

seeds = st.integers(0, 2**32 - 1)


@given(seeds, st.integers(1, 9))
def test_median_is_the_middle_value_or_between_the_two(seed: int, devices: int) -> None:
    updates = np.random.default_rng(seed).standard_normal((devices, 4))
    for column, value in enumerate(median(updates)):
        ordered = sorted(updates[:, column])
        assert value == (ordered[(devices - 1) // 2] + ordered[devices // 2]) / 2


@pytest.mark.parametrize(
    ("devices", "fraction", "kept"),
    [
        (10, 0.2, slice(2, 8)),
        (4, 0.1, slice(1, 3)),
        (5, 0.49, slice(2, 3)),
        (2, 0.4, slice(0, 2)),
        (3, 0, slice(0, 3)),
    ],
)
def test_trimmed_mean_leaves_out_the_largest_and_smallest(devices: int, fraction: float, kept: slice) -> None:
    updates = np.random.default_rng(0).standard_normal((devices, 4))
    expected = [np.mean(sorted(column)[kept]) for column in updates.T]
    np.testing.assert_allclose(trimmed(updates, fraction), expected)


@given(seeds, st.integers(1, 3))
def test_robust_means_stay_among_the_honest_whatever_a_minority_sends(seed: int, liars: int) -> None:
    rng = np.random.default_rng(seed)
    honest = rng.standard_normal((7 - liars, 5))
    updates = np.concatenate([honest, 1e6 * rng.standard_normal((liars, 5))])
    rng.shuffle(updates)
    for mean in (median(updates), trimmed(updates, liars / 7)):
        assert (mean >= honest.min(axis=0)).all()
        assert (mean <= honest.max(axis=0)).all()


def steps(options: OptimizerOptions, means: list[np.ndarray], cut: int = 3) -> list[np.ndarray]:
    """Where an adapter that begins at 1 is after each round; means come in two pieces."""
    adapter = np.ones(means[0].size, np.float32)
    optimizer, positions = options.build(), []
    for mean in means:
        optimizer.step(adapter, iter([(0, mean[:cut]), (cut, mean[cut:])]))
        positions.append(adapter.copy())
    return positions


MEANS = [np.random.default_rng(seed).standard_normal(5) * 1e-2 for seed in range(3)]


def test_without_an_optimizer_the_adapter_moves_by_the_mean() -> None:
    np.testing.assert_allclose(steps(OptimizerOptions(), MEANS)[-1], 1 + sum(MEANS), rtol=1e-6)


def test_fedavgm_is_its_definition() -> None:
    velocity, adapter = np.zeros(5), np.ones(5)
    options = OptimizerOptions("fedavgm", learning_rate=0.5, momentum=0.8)
    for mean, position in zip(MEANS, steps(options, MEANS), strict=True):
        velocity = 0.8 * velocity + mean
        adapter = adapter + 0.5 * velocity
        np.testing.assert_allclose(position, adapter, rtol=1e-6)


def test_fedavgm_without_momentum_is_fedavg() -> None:
    plain, heavy = steps(OptimizerOptions(), MEANS), steps(OptimizerOptions("fedavgm", momentum=0.0), MEANS)
    np.testing.assert_array_equal(plain, heavy)


def test_fedadam_is_its_definition() -> None:
    m, v, adapter = np.zeros(5), np.full(5, 1e-4), np.ones(5)
    options = OptimizerOptions(
        "fedadam", learning_rate=0.1, momentum=0.9, second_momentum=0.95, adaptivity=1e-2
    )
    for mean, position in zip(MEANS, steps(options, MEANS), strict=True):
        m, v = 0.9 * m + 0.1 * mean, 0.95 * v + 0.05 * mean**2
        adapter = adapter + 0.1 * m / (np.sqrt(v) + 1e-2)
        np.testing.assert_allclose(position, adapter, rtol=1e-6)


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"learning_rate": 0.0}, "learning_rate: 0 is not above 0"),
        ({"momentum": 1.0}, "momentum: 1 is not between 0 and 1"),
        ({"second_momentum": -0.1}, "second_momentum: -0.1 is not"),
        ({"adaptivity": 0.0}, "adaptivity: 0 is not above 0"),
    ],
)
def test_options_out_of_range_are_refused(wrong: dict[str, float], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        OptimizerOptions("fedadam", **wrong)  # type: ignore[arg-type]
