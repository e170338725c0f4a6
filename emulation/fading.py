"""Small-scale fading: flat, Rayleigh or Rician, with the Doppler spectrum of a moving receiver.

The sum of sinusoids of Xiao, Zheng and Beaulieu (IEEE Trans. Wireless Communications 5(12), 2006):

    h = sqrt(1/N) sum_n exp(j (2 pi f_d t cos a_n + p_n)),  a_n = (2 pi n + q_n) / N,

p_n and q_n uniform in [-pi, pi): over its phases E h(t) h*(t + tau) = J0(2 pi f_d tau), Clarke's and Jakes'.
With f_d = v / wavelength, f_d t is the way in wavelengths; so fading here is a function of the way, and
a device that speeds up fades faster without a jump. A Rician channel adds one constant ray of K times the
scattered power. Mean power is 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from emulation.link_budget import Floats

_RAYS = 16


class Fading:
    """The fading of every device, cell and direction: independent, up and down too (FDD).

    One generator per device, so that a device's fading does not depend on how many others there are.
    """

    def __init__(self, rngs: Sequence[np.random.Generator], cells: int) -> None:
        # Angles and phases per device, cell, direction and ray: the scattered ones, then the constant one.
        draws = np.array([rng.uniform(-np.pi, np.pi, (2, cells, 2, _RAYS + 1)) for rng in rngs])
        angles = (2 * np.pi * np.append(np.arange(_RAYS), 0) + draws[:, 0]) / np.append([_RAYS] * _RAYS, 1)
        self._cosines: Floats = np.cos(angles)
        self._phases: Floats = draws[:, 1]

    def gain(
        self, start: Floats, pace: Floats, times: int, cell: NDArray[np.int64], k: Floats
    ) -> NDArray[np.complex128]:
        """Complex gain of each device's link with its `cell`, shape (times, devices, 2); mean power 1.

        The way of each device, in wavelengths, `start` + 0, 1, 2, ... times `pace`; `k` its Rician factor,
        linear; 0: Rayleigh.
        """
        each = np.arange(len(start)), cell
        turns = 2 * np.pi * self._cosines[each]
        share = np.append([1 / _RAYS] * _RAYS, 0) / (k[:, None] + 1)
        share[:, -1] = k / (k + 1)
        first = np.sqrt(share)[:, None] * np.exp(1j * (start[:, None, None] * turns + self._phases[each]))
        # exp(j n x) for many n at the price of few: n = 16 a + b, and a product of matrices sums over rays.
        step = 1j * pace[:, None, None] * turns
        coarse = np.exp(step[..., None, :] * np.arange(0, times, 16)[:, None])
        fine = np.exp(step[..., None] * np.arange(16))
        gains = (first[..., None, :] * coarse) @ fine
        return np.moveaxis(gains.reshape(len(start), 2, -1)[..., :times], -1, 0)
