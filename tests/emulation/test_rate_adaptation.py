"""Rates and losses against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulation.rate_adaptation import (
    CQI_DOWN,
    CQI_EFFICIENCIES,
    CQI_SNRS_DB,
    CQI_UP,
    SHANNON_DOWN,
    SHANNON_UP,
    CqiTable,
    RateAdaptation,
)

MODELS = [SHANNON_DOWN, SHANNON_UP, CQI_DOWN, CQI_UP]


def serve(model: RateAdaptation, snr_db: float, reported_db: float | None = None) -> tuple[float, float]:
    """Over 20 MHz, all tries alike."""
    reported = np.array([snr_db if reported_db is None else reported_db])
    rate, loss = model.serve(np.full((model.tries, 1), snr_db), reported, 20e6)
    return float(rate[0]), float(loss[0])


def test_shannon_is_attenuated_and_truncated() -> None:
    assert serve(SHANNON_DOWN, 10)[0] == pytest.approx(0.6 * 20e6 * 3.459432)  # log2(11)
    assert serve(SHANNON_UP, 10)[0] == pytest.approx(0.4 * 20e6 * 3.459432)
    assert serve(SHANNON_DOWN, 30) == (4.4 * 20e6, 0.0)
    assert serve(SHANNON_UP, 30) == (2.0 * 20e6, 0.0)
    assert serve(SHANNON_DOWN, -10.01) == (0.0, 0.0)
    assert serve(SHANNON_DOWN, -10)[0] == pytest.approx(SHANNON_DOWN.least_rate_bps(20e6))


def test_a_cqi_s_rate() -> None:
    """5 dB: CQI 7 (from 4.571 dB); 14.448 M symbols/s down; 1.29 % of blocks are sent twice."""
    rate, loss = serve(CQI_DOWN, 5)
    assert rate == pytest.approx(20e6 * 0.9 * 14 / 15 * 0.86 * 1.4766 / 1.012872, rel=1e-4)
    assert loss < 1e-9
    assert serve(CQI_DOWN, 40)[0] == pytest.approx(80.25e6, rel=1e-3)  # the peak of one antenna and 64QAM
    assert serve(CQI_UP, 40)[0] == pytest.approx(80.25e6 * 0.92 / 0.86, rel=1e-3)


def test_a_tenth_of_blocks_fails_at_each_threshold() -> None:
    once = CqiTable(overhead=0.0, tries=1)
    for snr_db, efficiency in zip(CQI_SNRS_DB, CQI_EFFICIENCIES, strict=True):
        rate, loss = serve(once, snr_db + 1e-9)
        assert rate == pytest.approx(20e6 * 0.84 * efficiency)
        assert loss == pytest.approx(1 - 0.9 ** (1 + 12112 / (rate * 1e-3)), rel=1e-4)
        assert efficiency < np.log2(1 + 10 ** (snr_db / 10))  # Nobody beats Shannon.


def test_below_the_lowest_cqi_there_is_no_link() -> None:
    assert serve(CQI_DOWN, -7.01)[0] == 0
    assert serve(CQI_DOWN, -6.99)[0] > 0
    # What counts is what the sender knew.
    assert serve(CQI_DOWN, 30, reported_db=-7.01)[0] == 0


def test_an_outdated_report_costs_retransmissions_then_frames() -> None:
    known, better = serve(CQI_DOWN, 15), serve(CQI_DOWN, 15, reported_db=10)
    assert better[0] < known[0]
    once_more = serve(CQI_DOWN, 14, reported_db=17)  # Two tries have 17 dB together.
    assert once_more[0] == pytest.approx(20e6 * 0.84 * 0.86 * CQI_EFFICIENCIES[12] / 2, rel=0.01)
    assert once_more[1] < 1e-6
    assert serve(CQI_DOWN, 5, reported_db=17)[1] > 0.99  # Four have 11 dB.


def test_tries_add_their_own_snr() -> None:
    faded = np.array([[-20.0], [17.0], [17.0], [17.0]])
    rate, loss = CQI_DOWN.serve(faded, np.array([16.9]), 20e6)
    assert rate[0] == pytest.approx(20e6 * 0.84 * 0.86 * CQI_EFFICIENCIES[12] / 2, rel=0.05)
    assert loss[0] < 1e-6


@pytest.mark.parametrize("model", MODELS)
@given(snr_db=st.floats(-30, 60), better_db=st.floats(1, 30))
def test_more_snr_never_takes_the_link_away_and_some_more_is_faster(
    model: RateAdaptation, snr_db: float, better_db: float
) -> None:
    """Within a CQI the rate rises; at the next one's threshold it steps, down by a little at times."""
    (worse, loss), (better, _) = serve(model, snr_db), serve(model, snr_db + better_db)
    assert better >= 0.97 * worse
    if worse:
        assert 0 <= loss < 0.01  # With a fresh report.
        assert worse >= 0.9 * model.least_rate_bps(20e6)
