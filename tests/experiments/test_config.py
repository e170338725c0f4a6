"""A configuration is right, or one line says which key is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments import config, model
from experiments.config import ConfigError, Experiment
from experiments.preflight import check_inputs
from tests.conftest import CONFIGS

CELL = CONFIGS / "cell.yaml"


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.yaml")), ids=lambda file: file.name)
def test_every_shipped_configuration_loads(file: Path) -> None:
    assert config.load(file).links()


def test_links_come_out_in_si_units() -> None:
    link = config.load(CELL, ["network.devices.1.up.queue=50packets"]).links()[1]
    assert link.device == "dev1"
    assert (link.up.rate_bps, link.up.delay_s, link.up.loss) == (2e6, 0.025, 0.005)
    assert link.up.queue_bytes == 50 * 1514
    assert link.down.rate_bps == 10e6


def test_the_manifest_s_configuration_is_the_same_experiment() -> None:
    experiment = config.load(CELL)
    assert Experiment.model_validate_json(experiment.model_dump_json()) == experiment


def test_overrides_win_and_reach_into_lists() -> None:
    experiment = config.load(CELL, ["rounds=2", "network.devices[0].down.rate=1mbit", "uplink.codec=int8"])
    assert experiment.rounds == 2
    assert experiment.links()[0].down.rate_bps == 1e6
    assert experiment.uplink.codec == "int8"


def test_error_feedback_is_on_and_off_though_yaml_takes_those_for_truths() -> None:
    for word in ("auto", "on", "off"):
        assert config.load(CELL, [f"uplink.error_feedback={word}"]).uplink.error_feedback == word


def test_count_makes_devices_alike() -> None:
    experiment = config.load(CELL, ["network.devices.0.count=3"])
    assert [link.device for link in experiment.links()] == [f"dev{n}" for n in range(6)]
    assert experiment.links()[0].up == experiment.links()[2].up


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("netwrok=3", "netwrok: unknown key; did you mean 'network'?"),
        ("network.devices.0.up.rat=1mbit", r"network.devices.0.up.rat: unknown key; did you mean 'rate'\?"),
        ("network.devices.0.up.rate=10", "network.devices.0.up.rate: '10' has no unit"),
        ("network.devices.0.up.rate=0mbit", "network.devices.0.up: rate: a link needs more than 0"),
        ("network.devices.0.up.loss=120%", "network.devices.0.up.loss: '120%' is more than 100%"),
        ("network.devices.0.up.loss=100%", "network.devices.0.up: loss: at 100% nothing"),
        ("network.devices.0.up.queue=10B", "network.devices.0.up: queue: shorter than one frame"),
        ("network.devices.9.up.rate=1mbit", "network.devices"),
        ("rounds=0", "rounds: "),
        ("rounds=many", "rounds: "),
        ("seed=-1", "seed: "),
        ("uplink.codec=int9", "uplink: unknown codec 'int9': sparsifiers are topk"),
        ("uplink.error_feedback=maybe", "uplink.error_feedback: Input should be 'auto', 'on' or 'off'"),
        ("downlink.error_feedback=on", "downlink.error_feedback: unknown key"),
        ("downlink.full_codec=int8", "downlink: full_codec: goes with delta=true"),
        ("downlink={delta: true, full_codec: int8}", "downlink: full_codec: 'int8' does not keep every bit"),
        (
            "federation.selection=best",
            "^[^ ]*: federation.selection: unknown selection 'best': random, round_robin",
        ),
        ("federation.selection=power_of_choice(9)", "federation.selection: .* more devices than there are"),
        ("federation.selection=power_of_choice(3)", "federation.selection: .* a cohort of 4 takes"),
        ("federation.availability_period=0s", "federation.availability_period: "),
        ("federation.availability_period=9s", "federation.availability_period: there is no federation.avail"),
        ("federation.close_after=0%", "federation.close_after: at 0% a round would close before it begins"),
        ("federation.late=forgive", "federation.late: "),
        ("emulation.backend=magic", "emulation.backend: "),
        ("model=sd15", "training.trainer=synthetic go together"),
        ("adapter.kind=half", "adapter.kind"),
        ("adapter.target_modules=[]", "adapter.target_modules"),
        ("training.proximal_mu=-1", "training.proximal_mu"),
        ("name=../escape", "name: "),
        ("rounds", "write overrides as key=value"),
        ("rounds=[", "not YAML"),
    ],
)
def test_what_is_wrong_is_one_line_naming_the_key(override: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        config.load(CELL, [override])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "No such file"),
        ("- 1\n- 2\n", "not a configuration"),
        ("a: [1, 2\n", "not YAML"),
        ("\x00\x01", "not YAML"),
        ("name: x\n", "network: is missing"),
    ],
)
def test_a_file_that_is_no_configuration(tmp_path: Path, content: str | None, says: str) -> None:
    file = tmp_path / "some.yaml"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigError, match=says) as caught:
        config.load(file)
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)


def test_what_is_adapted_is_told_to_the_devices() -> None:
    smoke = CONFIGS / "smoke.yaml"
    assert model.task(config.load(smoke, ["adapter.rank=7"]))["rank"] == 7
    assert model.task(config.load(smoke, ["adapter.kind=full"]))["rank"] == "full"
    assert model.task(config.load(smoke, ["adapter.target_modules=[ff.net.2]"]))["target_modules"] == [
        "ff.net.2"
    ]
    with pytest.raises(ConfigError, match=r"adapter.target_modules: .* no module to_nowhere"):
        config.load(smoke, ["adapter.target_modules=[to_q, to_nowhere]"])
    assert model.task(config.load(CELL, ["training.proximal_mu=0.1"]))["proximal_mu"] == 0.1
    mixed = ["adapter.rank=16", "network.devices.1.rank=4", "network.devices.1.count=2"]
    assert model.task(config.load(CELL, [*mixed, "aggregation.method=flora"]))["rank"] == [16, 4, 4, 16, 16]
    with pytest.raises(ConfigError, match=r"aggregation.method: fedit needs one rank .*, not 4, 16"):
        config.load(CELL, mixed)
    with pytest.raises(ConfigError, match=r"network.devices\[\].rank: adapter.kind=full trains the whole"):
        config.load(CELL, [*mixed, "adapter.kind=full"])


def test_power_of_choice_needs_losses() -> None:
    keys = ["federation.selection=power_of_choice(2)", "federation.cohort=50%"]
    assert config.load(CELL, keys).federation.selection == "power_of_choice(2)"
    with pytest.raises(ConfigError, match=r"federation.selection: .* the synthetic trainer has none"):
        config.load(CONFIGS / "smoke.yaml", keys)


def test_a_trace_that_is_none_is_one_line_before_anything_starts(tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    keys = [f"federation.availability={trace}", "federation.availability_period=60s"]
    experiment = config.load(CONFIGS / "smoke.yaml", keys)
    with pytest.raises(ConfigError, match=rf"^federation.availability: {trace} cannot be read: No such file"):
        check_inputs(experiment)
    trace.write_text("device,from_s,until_s\ndev0,0,60\ndev1,0,61\n")
    with pytest.raises(ConfigError, match="line 3: until_s 61 is beyond the period of 60 s"):
        check_inputs(experiment)
    trace.write_text("device,from_s,until_s\ndev0,0,60\ndev1,0,60\n")
    check_inputs(experiment)
