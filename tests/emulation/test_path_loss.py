"""Path loss, LOS probability and noise against numbers worked out by hand from the standards' tables."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulation.link_budget import ChannelError, LinkBudget, noise_dbm
from emulation.path_loss import LogDistance, Macro, PathLoss, Urban

UMA, UMI, MACRO, LOG = Urban("uma", 3.5e9), Urban("umi", 3.5e9), Macro(), LogDistance(3.5e9)
MODELS = [UMA, UMI, MACRO, LOG]


def loss(model: PathLoss, distance_m: float, *, sight: bool) -> float:
    return float(model.loss_db(np.array(distance_m), np.array(sight)))


@pytest.mark.parametrize(
    ("model", "distance_m", "sight", "expected_db"),
    [
        (UMA, 200, True, 28.0 + 22 * np.log10(201.376) + 10.881),  # = 89.57; 3-D distance, base at 25 m
        (UMA, 200, True, 89.57),
        (UMA, 1000, True, 109.41),  # beyond the breakpoint at 560 m
        (UMA, 200, False, 114.46),
        (UMI, 100, True, 85.31),
        (UMI, 100, False, 104.64),
        (MACRO, 1000, True, 128.1),
        (MACRO, 500, True, 116.78),
        (LOG, 1, True, 43.32),  # free space at 1 m
        (LOG, 100, True, 113.32),
    ],
)
def test_hand_worked_losses(model: PathLoss, distance_m: float, sight: bool, expected_db: float) -> None:
    assert loss(model, distance_m, sight=sight) == pytest.approx(expected_db, abs=0.01)


def test_breakpoints() -> None:
    assert UMA.breakpoint_m == pytest.approx(560)  # 4 * 24 m * 0.5 m * 3.5e9 / 3e8
    assert UMI.breakpoint_m == pytest.approx(210)
    for model in (UMA, UMI):  # The two branches meet there.
        at = model.breakpoint_m
        assert loss(model, at * 1.000001, sight=True) == pytest.approx(loss(model, at, sight=True), abs=0.001)


def test_without_sight_it_is_never_better_than_with() -> None:
    """A tall device under the mast: 13.54 + 39.08 log10(d) alone would be."""
    tall = Urban("uma", 3.5e9, device_height_m=12.9)
    assert loss(tall, 10, sight=False) == loss(tall, 10, sight=True)


def test_line_of_sight_probability() -> None:
    def probability(model: PathLoss, distance_m: float) -> float:
        return float(model.line_of_sight_probability(np.array(distance_m)))

    assert probability(UMA, 10) == probability(UMA, 18) == 1
    assert probability(UMA, 200) == pytest.approx(0.12805, abs=1e-5)
    assert probability(UMI, 100) == pytest.approx(0.23098, abs=1e-5)
    assert probability(MACRO, 1000) == 1


@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
@given(near=st.floats(0, 5000), further=st.floats(0, 5000))
def test_farther_is_never_better(model: PathLoss, near: float, further: float) -> None:
    distances = np.array([near, min(near + further, 5000)])
    for sight in (True, False):
        first, second = model.loss_db(distances, np.full(2, sight))
        assert second >= first
    likely, less = model.line_of_sight_probability(distances)
    assert 0 <= less <= likely <= 1
    assert (model.loss_db(distances, np.zeros(2, bool)) >= model.loss_db(distances, np.ones(2, bool))).all()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Urban("uma", 0.1e9), "from 0.5 to 100 GHz, not 0.1 GHz"),
        (lambda: Urban("umi", 3.5e9, device_height_m=20), "1.5 to 13 m, not 20 m"),
        (lambda: Macro(3.5e9), "for 2 GHz, not 3.5 GHz"),
        (lambda: LogDistance(3.5e9, exponent=0), "above 0"),
    ],
)
def test_what_a_model_does_not_hold_for_is_refused(make, says) -> None:
    with pytest.raises(ChannelError, match=says):
        make()


def test_link_budget() -> None:
    assert noise_dbm(20e6, 9) == pytest.approx(-91.99, abs=0.001)  # -174 + 73.01 + 9
    assert noise_dbm(1, 0) == -174
    down = LinkBudget(power_dbm=46, bandwidth_hz=20e6, noise_figure_db=9, antenna_gain_db=3)
    assert float(down.snr_db(np.array(114.46))) == pytest.approx(46 + 3 - 114.46 + 91.99, abs=0.01)
