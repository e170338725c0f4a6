"""The channel's section: in SI units, complete by default, and wrong in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from emulation.channel import DIRECTIONS
from emulation.link import Air
from emulation.link_budget import ChannelError
from emulation.rate_adaptation import CAPACITY
from experiments.config_channel import Channel, refuse_own_rate, start
from experiments.config_network import Direction

NAMES = ["dev0", "dev1", "dev2"]


def channel(**section: Any) -> Channel:
    return Channel.model_validate(section)


def test_units_become_si_and_defaults_are_a_3gpp_macro_cell() -> None:
    model = (
        channel(
            frequency="2.6GHz",
            down={"power": "43dBm", "bandwidth": "10MHz"},
            mobility={"model": "random_waypoint", "speed_min": "3km/h", "speed_max": "10m/s"},
            map={"width": "1km", "height": "500m"},
            seed=3,
        )
        .build(NAMES)
        .model
    )
    assert model.frequency_hz == 2.6e9 and model.cells_m == [(500.0, 250.0)]
    assert (model.down.budget.power_dbm, model.down.budget.bandwidth_hz) == (43.0, 10e6)
    assert (model.down.budget.noise_figure_db, model.up.budget.noise_figure_db) == (9.0, 5.0)
    assert (model.up.budget.power_dbm, model.up.budget.bandwidth_hz) == (23.0, 20e6)
    assert model.seed == 3 and len(model.ways) == 3


def test_the_manifest_s_section_is_the_same() -> None:
    for section in (
        {},
        {"fading": {"model": "none"}},
        {"mobility": {"model": "random_waypoint", "speed_max": "50km/h"}},
        {"path_loss": {"model": "macro"}, "frequency": "2GHz"},
    ):
        written = channel(**section)
        assert Channel.model_validate_json(written.model_dump_json()) == written


def test_everything_that_is_set_reaches_the_model() -> None:
    model = (
        channel(
            path_loss={"model": "log_distance", "exponent": 3, "reference_distance": "10m"},
            shadowing={"deviation": "7dB", "correlation_distance": "25m"},
            fading={"model": "rician", "k_factor": "6dB", "scatterer_speed": "2m/s"},
            handover={"hysteresis": "4dB", "time_to_trigger": "40ms", "interruption": "30ms"},
            cells=[{"x": "10m", "y": "20m"}, {"x": "400m", "y": "20m"}],
            antenna_gain="15dB",
            interval="50ms",
            feedback_delay="8ms",
            seed=99,
        )
        .build(NAMES)
        .model
    )
    assert (model.shadowing_db, model.correlation_m, model.seed) == (7.0, 25.0, 99)
    assert model.fading is not None
    assert (model.fading.k_db, model.fading.scatterer_speed_m_s) == (6.0, 2.0)
    assert (model.handover.hysteresis_db, model.handover.time_to_trigger_s) == (4.0, 0.04)
    assert (model.handover.interruption_s, model.interval_s, model.feedback_delay_s) == (0.03, 0.05, 0.008)
    assert model.cells_m == [(10.0, 20.0), (400.0, 20.0)]
    assert model.down.budget.antenna_gain_db == model.up.budget.antenna_gain_db == 15.0
    assert (model.path_loss.exponent, model.path_loss.reference_m) == (3.0, 10.0)  # type: ignore[attr-defined]


def test_rate_models_differ_by_direction() -> None:
    shannon = channel(rate="shannon").build(NAMES).model
    assert (shannon.down.adaptation.most_bps_hz, shannon.up.adaptation.most_bps_hz) == (4.4, 2.0)  # type: ignore[attr-defined]
    cqi = channel().build(NAMES).model
    bound = channel(rate="capacity").build(NAMES).model
    assert bound.down.adaptation is bound.up.adaptation is CAPACITY
    assert (cqi.down.adaptation.overhead, cqi.up.adaptation.overhead) == (0.14, 0.08)  # type: ignore[attr-defined]


def test_positions_given_by_seed_or_by_file(tmp_path: Path) -> None:
    given = channel(mobility={"positions": [{"x": f"{n}m", "y": "5m"} for n in range(3)]})
    assert [way.at(9.0) for way in given.build(NAMES).model.ways] == [(0, 5), (1, 5), (2, 5)]
    anywhere = [way.at(0.0) for way in channel().build(NAMES).model.ways]
    assert len(set(anywhere)) == 3
    assert anywhere[:2] == [way.at(0.0) for way in channel().build(NAMES[:2]).model.ways]
    assert anywhere != [way.at(0.0) for way in channel(seed=1).build(NAMES).model.ways]
    file = tmp_path / "walk.csv"
    file.write_text("time_s,device,x_m,y_m\n" + "".join(f"0,{name},7,8\n" for name in NAMES))
    walk = channel(mobility={"model": "trace", "file": str(file)})
    assert [way.at(0.0) for way in walk.build(NAMES).model.ways] == [(7, 8)] * 3


def test_links_start_as_the_channel_does_and_never_at_nothing() -> None:
    section = channel(
        mobility={"positions": [{"x": "250m", "y": "250m"}, {"x": "0m", "y": "0m"}, {"x": "9m", "y": "9m"}]},
        up={"power": "-60dBm"},
    )
    built = section.build(NAMES)
    state, begun = built.state(0.0), start(built, NAMES)
    links = begun.links
    assert begun.cells == dict.fromkeys(NAMES, 0)
    assert links["dev0", "down"] == (state.rate_bps[0, 0], state.loss[0, 0])
    assert not state.up[:, DIRECTIONS.index("up")].any()
    assert links["dev0", "up"] == (built.model.up.least_rate_bps, 0.0)
    assert all(rate > 0 for rate, _ in links.values())


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ({"frequency": "3.5"}, "frequency\n.*'3.5' has no unit"),
        ({"down": {"power": "0"}}, "down.power\n.*'0' has no unit"),  # 0 dBm is a milliwatt.
        ({"mobility": {"speed_max": "3m"}}, "mobility.speed_max\n.*'m' is no unit here"),
        ({"cells": [{"x": "600m", "y": "0m"}]}, r"cells.0: \(600 m, 0 m\) is outside the map of 500 x 500 m"),
        ({"mobility": {"positions": [{"x": "0m", "y": "501m"}]}}, "mobility.positions.0: .* outside the map"),
        ({"map": {"width": "20km"}}, "map: reaches 10003.1 m from a cell; uma holds up to 5000 m"),
        ({"path_loss": {"model": "macro"}}, "for 2 GHz, not 3.5 GHz"),
        ({"path_loss": {"model": "umi", "exponent": 2.0}}, "exponent: model umi has no such setting"),
        (
            {"fading": {"model": "rayleigh", "k_factor": "3dB"}},
            "k_factor: fading rayleigh has no such setting",
        ),
        ({"mobility": {"pause": "3s"}}, "pause: mobility static has no such setting"),
        ({"mobility": {"model": "trace"}}, "file: mobility trace needs a file"),
        (
            {"mobility": {"model": "random_waypoint", "speed_min": "5m/s"}},
            "speed_max: is below speed_min",
        ),
        ({"interval": "1ms"}, "interval\n.*greater than or equal to 0.01"),
        ({"modell": "uma"}, "modell\n.*Extra inputs"),
    ],
)
def test_what_is_wrong_names_its_key(section: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        channel(**section)


def test_as_many_positions_as_devices() -> None:
    section = channel(mobility={"positions": [{"x": "0m", "y": "5m"}]})
    with pytest.raises(ChannelError, match=r"mobility\.positions: 1 places for 3 devices"):
        section.build(NAMES)


def test_each_of_several_cells_has_an_air_that_is_not_divided_for_good() -> None:
    two = channel(cells=[{"x": "0m", "y": "5m"}, {"x": "400m", "y": "5m"}])
    assert two.airs("none") == channel().airs("round_robin") == channel().airs("fixed") == ()
    assert two.airs("round_robin") == (Air("cell 0"), Air("cell 1"))
    assert {air.scheduler for air in two.airs("proportional_fair")} == {"proportional_fair"}
    with pytest.raises(ValueError, match=r"sharing: fixed is 1/n for good, .* between 2 cells"):
        two.airs("fixed")


@pytest.mark.parametrize("key", ["rate", "loss", "trace", "loss_burst"])
def test_a_device_says_nothing_that_the_channel_says(key: str) -> None:
    plain = Direction.model_construct(delay=0.01)
    refuse_own_rate("up", plain)
    twice = plain.model_copy(
        update={key: {"rate": 1e6, "loss": 0.1, "trace": Path("x"), "loss_burst": 2.0}[key]}
    )
    with pytest.raises(ValueError, match=f"up.{key}: comes from network.channel; leave it out"):
        refuse_own_rate("up", twice)
