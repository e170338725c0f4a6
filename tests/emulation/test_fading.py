"""Fading: Rayleigh and Rician power, and the Doppler spectrum, over many devices.

Expected values are exact for the sum of 16 rays; tolerances are four standard errors or more.
"""

from __future__ import annotations

import numpy as np
import pytest

from emulation.fading import Fading

MANY, RAYS = 4000, 16


def gains(start: float, pace: float, times: int, k: float = 0.0, devices: int = MANY) -> np.ndarray:
    """(times, devices, 2) of devices that all move alike."""
    fading = Fading([np.random.default_rng([5, number]) for number in range(devices)], cells=2)
    alike = np.full(devices, 1.0)
    return fading.gain(start * alike, pace * alike, times, np.ones(devices, np.int64), k * alike)


def bessel_j0(x: np.ndarray) -> np.ndarray:
    """By its integral: 1/pi int_0^pi cos(x sin u) du."""
    middles = (np.arange(2000) + 0.5) * np.pi / 2000
    return np.asarray(np.cos(x[:, None] * np.sin(middles)).mean(axis=1))


def test_autocorrelation_is_j0_of_the_way() -> None:
    pace, times = 0.05, 40  # up to two wavelengths
    gain = gains(3.0, pace, times)
    measured = (gain * gain[0].conj()).mean(axis=(1, 2))
    expected = bessel_j0(2 * np.pi * pace * np.arange(times))
    assert np.abs(measured - expected).max() < 0.06
    assert expected.min() < -0.3  # It is a curve with something to miss.


@pytest.mark.parametrize(("k", "variance"), [(0.0, 1 - 1 / RAYS), (7.94, (1 + 2 * 7.94) / 8.94**2)])
def test_power_has_mean_1_and_the_k_factor_s_variance(k: float, variance: float) -> None:
    power = np.abs(gains(0.0, 0.5, 20, k)) ** 2
    assert power.mean() == pytest.approx(1, abs=0.03)
    assert power.var() == pytest.approx(variance, rel=0.1)


def test_rayleigh_power_is_exponential() -> None:
    power = np.abs(gains(0.0, 0.5, 20)) ** 2
    for level in (0.1, 1.0, 2.0):
        assert (power < level).mean() == pytest.approx(1 - np.exp(-level), abs=0.02)


def test_one_device_alone_fades_over_time_as_many_do_at_once() -> None:
    power = np.abs(gains(0.0, 0.37, 20000, devices=1)[:, 0, 0]) ** 2
    assert power.mean() == pytest.approx(1, abs=0.1)
    assert (power < 0.1).mean() == pytest.approx(0.095, abs=0.03)


def test_fading_is_a_function_of_the_way() -> None:
    """However it is cut, and at whatever pace."""
    whole = gains(2.0, 0.1, 30, devices=3)
    later = gains(2.0 + 17 * 0.1, 0.1, 13, devices=3)
    faster = gains(2.0, 0.2, 15, devices=3)
    assert whole[17:] == pytest.approx(later)
    assert whole[::2] == pytest.approx(faster)


def test_directions_and_devices_fade_apart() -> None:
    gain = gains(0.0, 0.37, 5000, devices=2)
    for one, other in ((gain[:, 0, 0], gain[:, 0, 1]), (gain[:, 0, 0], gain[:, 1, 0])):
        assert abs((one * other.conj()).mean()) < 0.1
    assert (gains(0.0, 0.37, 50, devices=1)[:, 0] == gains(0.0, 0.37, 50, devices=4)[:, 0]).all()
