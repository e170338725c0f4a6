"""Aggregation as it is configured: what goes together, and one line for what does not."""

from __future__ import annotations

import pytest

from experiments import config
from experiments.config import ConfigError, Experiment
from tests.conftest import CONFIGS

CELL = CONFIGS / "cell.yaml"


@pytest.mark.parametrize(
    "overrides",
    [
        ["aggregation.method=flora", "aggregation.merge_rank=8"],
        ["aggregation.method=hetlora", "network.devices.0.rank=2"],
        ["aggregation.method=rolora", "aggregation.optimizer=fedadam", "aggregation.adaptivity=0.01"],
        ["aggregation.method=ffa", "aggregation.mean=trimmed(0.2)", "federation.late=refuse"],
        ["aggregation.method=ffa", "federation.late=next_round", "uplink.error_feedback=on"],
        ["aggregation.optimizer=fedavgm", "downlink.delta=true", "federation.late=next_round"],
    ],
)
def test_what_goes_together_does_and_is_the_same_when_read_from_a_manifest(overrides: list[str]) -> None:
    experiment = config.load(CELL, overrides)
    assert Experiment.model_validate_json(experiment.model_dump_json()) == experiment


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["method=fedprox"], "aggregation.method: "),
        (
            ["mean=mode"],
            r"aggregation: mean: unknown 'mode': weighted, uniform, median, or trimmed\(FRACTION\)",
        ),
        (["mean=trimmed(0.5)"], r"mean: unknown 'trimmed\(0.5\)': .* with a fraction below 0.5"),
        (["method=flora", "mean=median"], "aggregation: mean: median is of one vector, flora has none"),
        (
            ["method=flora", "optimizer=fedadam"],
            "optimizer: fedadam moves by one mean vector, flora",
        ),
        (["method=flexlora", "optimizer=fedavgm"], "optimizer: fedavgm moves by one mean vector, flexlora"),
        (["optimizer=fedavgm", "momentum=1"], "aggregation: momentum: 1 is not between 0 and 1"),
        (["optimizer=fedavgm", "adaptivity=0.1"], "adaptivity: optimizer=fedavgm has none"),
        (["learning_rate=0.1"], "learning_rate: optimizer=none has none"),
        (["optimizer=fedadam", "learning_rate=0"], "learning_rate: 0 is not above 0"),
        (["merge_rank=4"], "merge_rank: 4 with fedit: 1 or more, with flora or fedex"),
        (["method=flora", "merge_rank=0"], "merge_rank: 0 with flora"),
    ],
)
def test_nonsense_is_one_line_that_names_the_key(overrides: list[str], says: str) -> None:
    with pytest.raises(ConfigError, match=says) as refusal:
        config.load(CELL, [f"aggregation.{override}" for override in overrides])
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (
            ["method=rolora", "late"],
            "aggregation.method: rolora cannot take a late update into a",
        ),
        (
            ["mean=median", "late"],
            "fedit with mean=median cannot take a late update .*=refuse",
        ),
        (["method=fedex", "late"], "fedex cannot take a late update"),
        (["method=ffa", "delta"], "ffa sends what has changed anyway: downlink.delta goes with fedit only"),
        (["method=flora", "feedback"], "flora sends other factors in every round.*uplink.error_feedback=off"),
        (
            ["method=fedex", "rank"],
            "fedex needs one rank for all devices, not 2, 4: flora, flexlora, het",
        ),
        (["method=flora", "full"], "flora is about LoRA's factors; whole models need fedit"),
    ],
)
def test_what_a_method_cannot_have_elsewhere_is_refused(overrides: list[str], says: str) -> None:
    elsewhere = {
        "late": "federation.late=next_round",
        "delta": "downlink.delta=true",
        "feedback": "uplink.error_feedback=on",
        "rank": "network.devices.0.rank=2",
        "full": "adapter.kind=full",
    }
    method, other = overrides
    with pytest.raises(ConfigError, match=says):
        config.load(CELL, [f"aggregation.{method}", "adapter.rank=4", elsewhere[other]])
