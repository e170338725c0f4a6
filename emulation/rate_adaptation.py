"""From signal-to-noise ratio to the rate a link serves frames at, and the share of frames it loses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from emulation.link import FRAME_BYTES
from emulation.link_budget import Floats

SUBFRAME_S = 1e-3
"""How often the link adapts: LTE's subframe, NR's slot at 15 kHz."""


HARQ_ROUND_TRIP = 8
"""Subframes from one try of a block to the next (LTE FDD: TS 36.213, sections 7 and 8)."""


class RateAdaptation(Protocol):
    """A model of it."""

    @property
    def tries(self) -> int:
        """How often a block is sent at most."""

    def serve(
        self, snr_db: Floats, reported_db: Floats, bandwidth_hz: float | Floats
    ) -> tuple[Floats, Floats]:
        """Rate in bit/s (0: no link) and share of frames lost, for the blocks of any shape of subframes.

        `snr_db` what each try of theirs meets, one more axis in front, of `tries`; `reported_db` the SNR that
        the sender knew of when it chose modulation and coding. `bandwidth_hz` of all, or of each along the
        last axis.
        """

    def least_rate_bps(self, bandwidth_hz: float) -> float:
        """The lowest rate above 0."""


@dataclass(frozen=True)
class Shannon:
    """Attenuated and truncated Shannon bound, 3GPP TR 36.942, annex A.2: no frame is lost.

    attenuation * B log2(1 + SNR), nothing below `least_snr_db`, at most `most_bps_hz` * B.
    """

    attenuation: float
    least_snr_db: float
    most_bps_hz: float
    tries = 1

    def serve(
        self, snr_db: Floats, reported_db: Floats, bandwidth_hz: float | Floats
    ) -> tuple[Floats, Floats]:
        efficiency = np.minimum(self.attenuation * np.log2(1 + 10 ** (snr_db[0] / 10)), self.most_bps_hz)
        rate = bandwidth_hz * np.where(snr_db[0] < self.least_snr_db, 0.0, efficiency)
        return rate, np.zeros_like(rate)

    def least_rate_bps(self, bandwidth_hz: float) -> float:
        return float(bandwidth_hz * self.attenuation * np.log2(1 + 10 ** (self.least_snr_db / 10)))


SHANNON_DOWN, SHANNON_UP = Shannon(0.6, -10.0, 4.4), Shannon(0.4, -10.0, 2.0)
"""TR 36.942, table A.2: QPSK 1/8 to 64QAM 4/5 down (1 x 2 antennas), QPSK 1/5 to 16QAM 3/4 up."""

CAPACITY = Shannon(1.0, -40.0, np.inf)
"""Shannon's bound itself, B log2(1 + SNR): what analyses assume, no modem reaches. Nothing below -40 dB."""

CQI_EFFICIENCIES = np.array(
    (
        *(0.1523, 0.2344, 0.3770, 0.6016, 0.8770, 1.1758),  # QPSK
        *(1.4766, 1.9141, 2.4063),  # 16QAM
        *(2.7305, 3.3223, 3.9023, 4.5234, 5.1152, 5.5547),  # 64QAM
    )
)
"""Bits per symbol of CQI 1 to 15: 3GPP TS 36.213, table 7.2.3-1, and TS 38.214, table 5.2.2.1-2."""
CQI_SNRS_DB = np.linspace(-7.0, 20.0, 15)
"""SNR at which 10 % of a CQI's blocks fail at the first try. The standard leaves it to the receiver: this
is the usual straight line, within 0.3 dB of link-level simulations over AWGN with one antenna (Vienna LTE
simulator: Mehlführer et al., EUSIPCO 2009)."""

_SYMBOLS_PER_HZ = 0.9 * 14 / 15
"""Resource blocks fill 90 % of a carrier (TS 36.101: 18 of 20 MHz); 14 symbols of 66.7 us take 1 ms."""


@dataclass(frozen=True)
class CqiTable:
    """The best CQI for the reported SNR, block errors, and HARQ with chase combining.

    `overhead` share of symbols for control and reference signals; a block is sent `tries` times at most.
    Blocks fail as a logistic function of SNR: 10 % at the CQI's threshold, `width_db` its scale (turbo and
    LDPC codes of some kbit fall from 84 % to 29 % within about 0.25 dB over AWGN). The n-th try is decoded
    at the sum of the SNRs so far (Frenger et al., VTC 2001); each takes its time, none adds delay. A block
    that fails the last is lost with every frame that has a part in it; nothing above repeats it (RLC
    unacknowledged mode), and no outer loop corrects an outdated report.
    """

    overhead: float
    tries: int = 4
    width_db: float = 0.2

    def serve(
        self, snr_db: Floats, reported_db: Floats, bandwidth_hz: float | Floats
    ) -> tuple[Floats, Floats]:
        chosen = np.searchsorted(CQI_SNRS_DB, reported_db, side="right") - 1
        index = np.maximum(chosen, 0)
        nominal = bandwidth_hz * _SYMBOLS_PER_HZ * (1 - self.overhead) * CQI_EFFICIENCIES[index]
        middle = CQI_SNRS_DB[index] - self.width_db * np.log(9)
        combined_db = 10 * np.log10(np.cumsum(10 ** (snr_db / 10), axis=0))
        margin = (combined_db - middle) / self.width_db
        failing = 1 / (1 + np.exp(np.clip(margin, -700, 700)))  # after 1, 2, ... tries
        rate = np.where(chosen < 0, 0.0, nominal / (1 + failing[:-1].sum(axis=0)))
        blocks = 1 + 8 * FRAME_BYTES / (nominal * SUBFRAME_S)  # that a frame has a part in, on average
        return rate, 1 - (1 - failing[-1]) ** blocks

    def least_rate_bps(self, bandwidth_hz: float) -> float:
        return float(bandwidth_hz * _SYMBOLS_PER_HZ * (1 - self.overhead) * CQI_EFFICIENCIES[0])


CQI_DOWN, CQI_UP = CqiTable(0.14), CqiTable(0.08)
"""Overheads of TS 38.306, 4.1.2, below 6 GHz."""
