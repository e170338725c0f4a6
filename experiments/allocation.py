"""How a cell's spectrum is divided among its devices for good: equally, in proportion to need, or so that the
last of them is done as early as possible.

What is divided is a bandwidth in Hz (`Bands`), or the airtime of a whole channel (`Airtimes`).

    equal          everybody the same
    proportional   to the payload over the spectral efficiency that the device has with all of it, which is
                   the airtime that the payload would take alone
    minmax         the least T with ready_k + S_k / r_k(b_k) <= T for all k and sum b_k = B

A rate r(b) = b log2(1 + s/b) rises with b towards s / ln 2, so that each device needs the more the earlier T
is, b_k(T) = r_k^-1(S_k / (T - ready_k)), and the sum falls as T grows: one bisection over T, with another
within it for r^-1, finds the one T at which the sum is B. There all who send anything are done at T; both
bisections go on to the precision of floats, and T is right to about one part in 1e12.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Policy = Literal["equal", "proportional", "minmax"]

_HALVINGS_OF_TIME, _HALVINGS_OF_PART = 80, 60
"""From equal parts' T to 1e-24 of it, and from 340 powers of e to 3e-16 of one."""


class AllocationError(ValueError):
    """A cell that cannot be divided so; the message names the device and the reason."""


class Spectrum(Protocol):
    """What is divided, and the rate that a device makes of a part of it."""

    @property
    def total(self) -> float: ...

    def rates_bps(self, parts: Floats) -> Floats:
        """Of every device with its part, shape (devices,)."""
        ...

    def parts_for(self, rates_bps: Floats) -> Floats:
        """The part with which every device has this rate; infinite for more than any part gives."""
        ...


@dataclass(frozen=True)
class Bands:
    """Bandwidth in Hz. A device's whole power is in its own band: a narrower one has less noise.

    `snr_hz` p h / N0 of every device, shape (devices,).
    """

    total: float
    snr_hz: Floats

    def rates_bps(self, parts: Floats) -> Floats:
        """b log2(1 + s/b), Shannon's bound."""
        some = np.where(parts > 0, parts, 1.0)
        return np.where(parts > 0, some * np.log1p(self.snr_hz / some) / np.log(2), 0.0)

    def parts_for(self, rates_bps: Floats) -> Floats:
        """By bisection over the logarithm of b / s: log2(1 + s/b) b / s rises from 0 to 1 / ln 2."""
        wanted = rates_bps * np.log(2) / self.snr_hz
        low, high = np.full(wanted.shape, -300.0), np.full(wanted.shape, 40.0)
        for _ in range(_HALVINGS_OF_PART):
            middle = (low + high) / 2
            ratio = np.exp(middle)
            enough = ratio * np.log1p(1 / ratio) >= wanted
            low, high = np.where(enough, low, middle), np.where(enough, middle, high)
        return np.where(wanted < 1, self.snr_hz * np.exp(high), np.inf)


@dataclass(frozen=True)
class Airtimes:
    """Shares of the time of one channel, on which each device has a rate of its own while it has it all."""

    alone_bps: Floats
    total: float = 1.0

    def rates_bps(self, parts: Floats) -> Floats:
        """A share of the time is the same share of the rate."""
        return parts * self.alone_bps

    def parts_for(self, rates_bps: Floats) -> Floats:
        return rates_bps / self.alone_bps


@dataclass(frozen=True)
class Demand:
    """What a device has to send, in bits, and how long its round takes beside that."""

    device: str
    bits: float
    ready_s: float = 0.0


@dataclass(frozen=True)
class Allocation:
    """Every device's part of the spectrum, its rate, and when it is done."""

    parts: tuple[float, ...]
    rates_bps: tuple[float, ...]
    finish_s: tuple[float, ...]


def allocate(policy: Policy, spectrum: Spectrum, demands: Sequence[Demand]) -> Allocation:
    """Divide the whole spectrum among devices. Raises AllocationError."""
    bits, ready = _checked(spectrum, demands)
    if policy == "equal":
        parts = np.full(len(demands), spectrum.total / len(demands))
    elif policy == "proportional":
        alone = spectrum.rates_bps(np.full(len(demands), spectrum.total))
        need = bits / alone
        parts = spectrum.total * need / need.sum()
    else:
        parts = _min_max(spectrum, bits, ready)
    rates = spectrum.rates_bps(parts)
    sends = bits > 0
    times = np.divide(bits, rates, out=np.zeros_like(bits), where=sends)
    return Allocation(*(tuple(column.tolist()) for column in (parts, rates, ready + times)))


def _checked(spectrum: Spectrum, demands: Sequence[Demand]) -> tuple[Floats, Floats]:
    if not demands:
        raise AllocationError("there is no device to divide the cell among")
    if not (np.isfinite(spectrum.total) and spectrum.total > 0):
        raise AllocationError(f"there is nothing to divide: {spectrum.total:g}")
    alone = spectrum.rates_bps(np.full(len(demands), spectrum.total))
    for demand, rate in zip(demands, alone, strict=True):
        if not (np.isfinite(demand.bits) and np.isfinite(demand.ready_s) and demand.bits >= 0):
            raise AllocationError(
                f"{demand.device}: {demand.bits:g} bits after {demand.ready_s:g} s cannot be planned"
            )
        if demand.bits > 0 and not (np.isfinite(rate) and rate > 0):
            raise AllocationError(f"{demand.device}: nothing gets through to it with any part of the cell")
    if not any(demand.bits > 0 for demand in demands):
        raise AllocationError("no device has anything to send")
    return np.array([d.bits for d in demands], float), np.array([d.ready_s for d in demands], float)


def _min_max(spectrum: Spectrum, bits: Floats, ready: Floats) -> Floats:
    """The parts at the least T; see the module. Who sends nothing gets nothing."""
    sends = bits > 0
    latest = ready[sends].max()
    spare = latest - ready  # T is counted from the last to be ready, so that no digits are lost to its clock.

    def parts_at(after_s: float) -> Floats:
        left = spare + after_s
        rates = np.divide(bits, left, out=np.zeros_like(bits), where=sends & (left > 0))
        parts = np.where(sends, spectrum.parts_for(rates), 0.0)
        return np.where(sends & (left <= 0), np.inf, parts)

    # Equal parts are one way to do it: the best is no later than that.
    equal = spectrum.rates_bps(np.full(len(bits), spectrum.total / len(bits)))
    low, high = 0.0, float((bits[sends] / equal[sends] - spare[sends]).max())
    for _ in range(_HALVINGS_OF_TIME):
        middle = (low + high) / 2
        if parts_at(middle).sum() <= spectrum.total:
            high = middle
        else:
            low = middle
    parts = parts_at(high)
    # What rounding has left over goes to all: nobody gets later.
    return np.asarray(parts * (spectrum.total / parts.sum()))
