"""Noise on a common grid: computed without any approximation, for one value and four devices."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from experiments import config, privacy
from experiments.config import ConfigError
from experiments.grid_noise import STEPS, misfit
from proto.codecs.ring import Ring
from tests.conftest import CONFIGS

PRIVATE = ["privacy.clip_norm=1", "privacy.noise_multiplier=2", "aggregation.mean=uniform"]
REACH = 80
Probabilities = NDArray[np.float64]


def phi(t: float) -> float:
    return math.erfc(-t / math.sqrt(2)) / 2


def rounded(mean: float, std: float, dither: float) -> Probabilities:
    """Of floor(N(mean, std^2) + dither) being -REACH .. REACH."""
    edges = [phi((k - dither - mean) / std) for k in range(-REACH, REACH + 2)]
    return np.diff(edges)


def delta(first: Probabilities, second: Probabilities, epsilon: float) -> float:
    """The least with which `first` and `second` are (epsilon, delta)-indistinguishable."""
    one, other = first - math.exp(epsilon) * second, second - math.exp(epsilon) * first
    return float(max(one[one > 0].sum(), other[other > 0].sum()))


def gaussian_delta(z: float, epsilon: float) -> float:
    """Of the noisy sum itself (Balle and Wang, arXiv 1805.06530, theorem 5)."""
    return phi(1 / (2 * z) - epsilon * z) - math.exp(epsilon) * phi(-1 / (2 * z) - epsilon * z)


def sums(std: float, moved: float) -> tuple[Probabilities, Probabilities]:
    """What four devices' rounded values add up to, with the first one's moved and not."""
    others = [rounded(mean, std, dither) for mean, dither in ((0.0, 0.5), (0.3, 0.2), (-0.4, 0.9))]
    both = []
    for mean in (moved, 0.0):
        total = rounded(mean, std, 0.5)
        for other in others:
            total = np.convolve(total, other)
        both.append(total)
    return both[0], both[1]


@pytest.mark.parametrize("epsilon", [0.0, 0.5, 1.0, 2.0, 4.0])
@pytest.mark.parametrize("moved", [4.0, 9.3])
def test_on_a_fine_grid_a_sum_hides_as_much_as_the_noisy_sum_does(moved: float, epsilon: float) -> None:
    first, second = sums(STEPS, moved)
    assert delta(first, second, epsilon) <= gaussian_delta(2 * STEPS / moved, epsilon) + 1e-12


def test_on_a_coarse_grid_it_does_not() -> None:
    """Others' noise is rounded away, and nothing hides whether the first device is there."""
    first, second = sums(0.1, 0.5)
    assert delta(first, second, 10.0) > 0.4 > 100 * gaussian_delta(2 * 0.1 / 0.5, 10.0)


def test_a_grid_must_be_fine_and_wide_enough() -> None:
    grid = Ring(8, 12.7)  # In steps of 0.1.
    assert misfit(grid, 1.0, 0.31, 1.0) == ""
    assert "has steps of 0.1, and of this noise only 0.0967 fit" in misfit(grid, 1.0, 0.29, 1.0)
    assert "cuts off what this noise may reach: RANGE of 13 would do" in misfit(grid, 1.0, 0.31, 1.2)


@pytest.mark.parametrize(
    ("codec", "says"), [("ring(8,16)", ""), ("ring(8,0.01)", "cuts off"), ("ring(2,16)", "has steps of 16")]
)
def test_a_run_says_whether_its_grid_fits_its_noise(codec: str, says: str) -> None:
    """Two devices with noise of 2 / sqrt(2) each."""
    experiment = config.load(CONFIGS / "smoke.yaml", [*PRIVATE, f"uplink.codec={codec}"])
    told = privacy.counts_alone(experiment)
    assert told.startswith(codec.partition("(")[0]) and says in told if says else told == ""


def test_a_ring_is_what_secure_aggregation_and_noise_have_in_common() -> None:
    secure = ["privacy.secure_aggregation=true", "privacy.threshold=100%"]
    experiment = config.load(CONFIGS / "smoke.yaml", [*PRIVATE, *secure, "uplink.codec=ring(8,16)"])
    assert privacy.counts_alone(experiment) == ""
    with pytest.raises(ConfigError, match=r"privacy.secure_aggregation: .* cannot be summed under masks"):
        config.load(CONFIGS / "smoke.yaml", [*PRIVATE, *secure, "uplink.codec=fp32"])
