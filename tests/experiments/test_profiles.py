"""Named links: what they fill in, what they leave alone, and where they would mean nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments import config
from experiments.config import ConfigError, Experiment
from experiments.profiles import PROFILES
from tests.conftest import CONFIGS

SMOKE, CELL, WIRELESS = (CONFIGS / f"{name}.yaml" for name in ("smoke", "cell", "wireless"))
ALIKE = "network.devices=[{count: 2}]"


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_is_a_whole_link(name: str) -> None:
    links = config.load(SMOKE, [f"network.profile={name}", ALIKE]).links()
    assert len(links) == 2 and links[0].up == links[1].up
    for spec in (links[0].up, links[0].down):
        assert spec.rate_bps > 0 and spec.delay_s > 0 and spec.loss == 0
        assert 0.05 <= spec.queue_bytes * 8 / spec.rate_bps <= 5  # seconds that a full queue takes


def test_nb_iot_is_what_its_transport_blocks_come_to() -> None:
    link = config.load(SMOKE, ["network.profile=nbiot", ALIKE]).links()[0]
    assert link.down.rate_bps == pytest.approx(680 / 25e-3)
    assert link.up.rate_bps == pytest.approx(1000 / 16e-3)


def test_what_a_device_says_itself_wins_key_by_key() -> None:
    devices = "network.devices=[{up: {loss: 5%}}, {profile: wifi}, {down: {rate: 3mbit}}]"
    first, second, third = config.load(SMOKE, ["network.profile=lte", devices]).links()
    assert (first.up.loss, first.up.rate_bps, first.down.loss) == (0.05, 11.2e6, 0.0)
    assert (second.down.rate_bps, second.up.rate_bps) == (30e6, 15e6)
    assert (third.down.rate_bps, third.down.delay_s, third.up.rate_bps) == (3e6, 0.02, 11.2e6)


def test_what_the_manifest_keeps_is_the_same_experiment() -> None:
    experiment = config.load(SMOKE, ["network.profile=lte", "network.devices=[{}, {profile: 5g}]"])
    assert Experiment.model_validate(json.loads(experiment.model_dump_json())) == experiment


@pytest.mark.parametrize(
    ("file", "overrides", "says"),
    [
        (SMOKE, ["network.profile=6g", ALIKE], "network.profile: unknown profile '6g': one of nbiot, "),
        (SMOKE, ["network.devices.0.profile=wlan"], "network.devices.0.profile: unknown profile 'wlan'"),
        (CELL, ["network.profile=lte"], "network: profile: no link follows it; leave out up and down"),
        (CELL, ["network.devices.1.profile=lte"], "network: devices.1.profile: no link follows it"),
        (WIRELESS, ["network.profile=lte"], "network: profile: goes without a channel"),
        (SMOKE, ["network.profile=lte", "network.devices.0.up=3"], "network.devices.0.up: "),
        (
            CELL,
            [
                "network.topology=experiments/topologies/dumbbell.py:dumbbell,2",
                "network.devices=[{count: 2}]",
                "network.profile=lte",
            ],
            "network: profile: topology .* says that itself",
        ),
    ],
)
def test_a_profile_that_would_mean_nothing_is_one_line(file: Path, overrides: list[str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        config.load(file, overrides)
