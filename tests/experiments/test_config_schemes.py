"""Training schemes in a configuration: what each is for, and what has no meaning with it."""

from __future__ import annotations

import pytest

from experiments import config, model
from experiments.config import ConfigError, Experiment
from experiments.sweep.fit import cores_of, measures_compute
from tests.conftest import CONFIGS

CELL, SMOKE = CONFIGS / "cell.yaml", CONFIGS / "smoke.yaml"
PLAIN = ["uplink.codec=fp32", "downlink.codec=fp32"]


@pytest.mark.parametrize("kind", ["lora", "full"])
@pytest.mark.parametrize("scheme", ["federated", "central", "local"])
@pytest.mark.parametrize("file", [CELL, SMOKE], ids=["real", "synthetic"])
def test_every_scheme_goes_with_every_kind_of_adapter_and_trainer(file, scheme: str, kind: str) -> None:
    experiment = config.load(file, [*PLAIN, f"training.scheme={scheme}", f"adapter.kind={kind}"])
    assert Experiment.model_validate_json(experiment.model_dump_json()) == experiment


@pytest.mark.parametrize(
    ("scheme", "overrides", "says"),
    [
        ("central", ["uplink.codec=int8"], "uplink.codec: training.scheme=central: the server trains"),
        ("local", ["uplink.codec=int8"], "uplink.codec: training.scheme=local: every device trains"),
        ("local", ["downlink.codec=fp16"], "downlink.codec: training.scheme=local: no adapter goes down"),
        ("central", ["downlink.codec=fp16", "central.deliver=false"], "downlink.codec: training.scheme=cent"),
        ("central", ["downlink.delta=true"], "downlink.delta: training.scheme=central: no later round"),
        ("central", ["uplink.error_feedback=on"], "uplink.error_feedback: training.scheme=central"),
        ("local", ["privacy.secure_aggregation=true"], "privacy"),
        ("central", ["aggregation.method=ffa"], "aggregation.method: training.scheme=central: the server"),
        ("local", ["aggregation.optimizer=fedadam"], "aggregation.optimizer: training.scheme=local: every"),
        ("local", ["aggregation.mean=median"], "aggregation.mean: training.scheme=local: every device"),
        ("local", ["training.proximal_mu=0.1"], "training.proximal_mu: training.scheme=local: no global"),
        ("central", ["federation.late=next_round"], "federation.late: training.scheme=central: the server"),
        ("central", ["federation.cohort=50%"], "federation.cohort: training.scheme=central: every device is"),
        ("local", ["federation.selection=round_robin"], "federation.selection: training.scheme=local: every"),
        ("local", ["federation.availability=x.csv"], "federation.availability: training.scheme=local: ever"),
        ("central", ["network.devices.0.rank=2"], r"network.devices\[\].rank: training.scheme=central: one"),
        (
            "local",
            [
                "network.devices=[{remote: true}, {up: {rate: 1mbit}, down: {rate: 1mbit}}]",
                "federation.remote_listen=1.2.3.4:5",
            ],
            r"network.devices\[\].remote: training.scheme=local: goes with the emulated network only",
        ),
        ("hybrid", [], "training.scheme: Input should be 'federated', 'central' or 'local'"),
    ],
)  # fmt: skip
def test_what_means_nothing_is_refused_by_name(scheme: str, overrides: list[str], says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        config.load(CELL, [*PLAIN, f"training.scheme={scheme}", *overrides])
    assert "\n" not in str(caught.value)


def test_devices_are_told_whether_their_data_go_up_and_how_much_of_it_there_is() -> None:
    central = [*PLAIN, "training.scheme=central"]
    assert model.task(config.load(CELL, central))["raw"] is True
    assert model.task(config.load(CELL))["raw"] is False
    sizes = ["central.images=20", "central.image_bytes=10kB"]
    assert model.task(config.load(SMOKE, [*central, *sizes]))["raw"] == [20, 10_000]
    assert model.task(config.load(SMOKE, PLAIN))["raw"] == [0, 0]


def test_a_sweep_knows_whose_compute_is_measured() -> None:
    central = [*PLAIN, "training.scheme=central", "compute.seconds_per_step=1s"]
    assert measures_compute(config.load(CELL, central))
    profiled = config.load(CELL, [*central, "compute.server_seconds_per_step=0.1s"])
    assert not measures_compute(profiled) and cores_of(profiled) == 2
