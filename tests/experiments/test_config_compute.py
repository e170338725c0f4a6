"""`compute`: profiles by name or one's own, for everybody or for one device, and what contradicts itself."""

from __future__ import annotations

import pytest

from experiments import computing, config, remote
from experiments.config import ConfigError, Experiment
from tests.conftest import CONFIGS

SMOKE = CONFIGS / "smoke.yaml"
MINE = "compute.profiles={mine: {flops_per_s: 2e12, utilisation: 50%, power: 2500mW, memory: 1GB}}"
CPU = "compute.profiles={cpu: {cycles_per_sample: 2e4, frequency: 2GHz, kappa: 1e-28}}"


def seconds(*overrides: str) -> list[float | None]:
    experiment = config.load(SMOKE, ["training.batch_size=2", *overrides])
    return [experiment.seconds_per_step(device) for _, device in experiment.expanded_devices()]


def test_a_profile_s_step_is_its_work_over_its_rate() -> None:
    """Rank 4 takes 1.736 TFLOP a sample; a phone sustains 1.4 TFLOP/s."""
    assert seconds() == [None, None]
    assert seconds("compute.profile=phone") == pytest.approx([2 * 1.24] * 2, rel=1e-3)
    (full, _) = seconds("compute.profile=phone", "adapter.kind=full")
    assert full == pytest.approx(2 * 1.721, rel=1e-3)


def test_devices_differ_and_a_device_s_own_comes_first() -> None:
    mixed = seconds("compute.profile=phone", "network.devices.1.compute_profile=jetson_orin")
    assert mixed == pytest.approx([2.48, 0.2918], rel=1e-3)
    assert seconds("compute.profile=phone", "network.devices.0.seconds_per_step=3s")[0] == 3.0
    assert seconds("compute.seconds_per_step=3s", "network.devices.0.compute_profile=phone")[1] == 3.0


def test_everything_assumed_can_stand_in_the_configuration() -> None:
    assert seconds(MINE, "compute.profile=mine") == pytest.approx([2 * 1.736] * 2, rel=1e-3)
    assert seconds(CPU, "compute.profile=cpu") == pytest.approx([2e-5] * 2)
    experiment = config.load(SMOKE, [MINE, "compute.profile=mine", "compute.server_profile=server_gpu"])
    assert computing.server_seconds_per_step(experiment) == pytest.approx(16 * 0.01987, rel=1e-3)
    assumed = computing.describe(experiment)
    assert set(assumed) == {"dev0", "dev1"}
    assert assumed["dev0"]["profile"]["power_w"] == 2.5 and assumed["dev0"]["feasible"] is False
    assert Experiment.model_validate_json(experiment.model_dump_json()) == experiment


def test_what_does_not_fit_a_device_s_memory_is_a_warning() -> None:
    whole = config.load(SMOKE, ["compute.profile=phone", "adapter.kind=full"])
    assert computing.feasible(whole) == {"dev0": False, "dev1": False}
    (warning,) = computing.warnings(whole)
    assert warning.startswith("dev0, dev1: phone cannot train this: it has 4 GB for it")
    assert "13.8 GB" in warning
    lora = config.load(SMOKE, ["compute.profile=phone"])
    assert computing.warnings(lora) == [] and computing.feasible(lora) == {"dev0": True, "dev1": True}
    assert computing.feasible(config.load(SMOKE)) == {}


def test_where_the_server_trains_it_is_the_one_that_is_timed() -> None:
    central = [
        "training.scheme=central",
        "uplink.codec=fp32",
        "compute={profile: phone, server_profile: server_gpu}",
    ]
    experiment = config.load(SMOKE, [*central, "adapter.kind=full"])
    assert computing.feasible(experiment) == {"trainer": True} and computing.warnings(experiment) == []
    assert computing.powers_w(experiment) == {"trainer": 400.0}


def test_the_bundled_base_s_work_is_counted_without_loading_it() -> None:
    experiment = config.load(CONFIGS / "cell.yaml", ["compute.profile=phone"])
    assert computing.work_of(experiment).flops == pytest.approx(1.06e9, rel=0.1)


def test_a_remote_device_is_told_its_profile_s_seconds() -> None:
    link = "{down: {rate: 1mbit}, up: {rate: 1mbit}}"
    keys = [f"network.devices=[{link}, {{remote: true, compute_profile: phone}}]", "training.batch_size=1"]
    told = remote.commands(config.load(SMOKE, [*keys, "federation.remote_listen=127.0.0.1:50061"]))
    assert told["dev1"].endswith("--id dev1 --seconds-per-step 1.24001")


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["compute.profile=toaster"], "compute: profile: unknown profile 'toaster': one of phone, jetson"),
        (["network.devices.0.compute_profile=toaster"], r"devices\[\].compute_profile: unknown profile"),
        (["compute={profile: phone, seconds_per_step: 1s}"], "compute: profile: seconds_per_step says"),
        (
            ["compute={server_profile: phone, server_seconds_per_step: 1s}"],
            "compute: server_profile: server_seconds_per_step says the same",
        ),
        (
            ["network.devices.1.compute_profile=phone", "network.devices.1.seconds_per_step=1s"],
            "network.devices.1.compute_profile: seconds_per_step says it otherwise",
        ),
        (
            [
                "compute.profile=phone",
                "network.devices.0.seconds_per_step=1s",
                "network.devices.1.compute_profile=laptop_gpu",
            ],
            "compute.profile: no device follows it",
        ),
        (["compute.profiles={phone: {flops_per_s: 1, utilisation: 1%, power: 1W}}"], "phone is there alread"),
        (["compute.profiles={mine: {flops_per_s: 1e12, power: 1W}}"], "mine: a profile has flops_per_s"),
        (
            ["compute.profiles={mine: {flops_per_s: 1e12, utilisation: 9%, power: 1W, kappa: 1}}"],
            "profiles.mine: a profile has flops_per_s",
        ),
        (
            ["compute.profiles={mine: {flops_per: 1}}"],
            "mine.flops_per: unknown key; did you mean 'flops_per_s'",
        ),
        (["compute.profiles={mine: {flops_per_s: 1, utilisation: 9%, power: 5}}"], "'5' has no unit"),
    ],
)
def test_what_contradicts_itself_is_one_line(overrides: list[str], says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        config.load(SMOKE, overrides)
    assert "\n" not in str(caught.value)


def test_a_profile_needs_a_model_whose_work_is_known() -> None:
    with pytest.raises(ConfigError, match=r"compute: a profile needs to know .* of someone/some-model"):
        config.load(CONFIGS / "cell.yaml", ["compute.profile=phone", "model=someone/some-model"])
