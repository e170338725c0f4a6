"""Secure aggregation in the configuration: what goes with it, and one line for what does not."""

from __future__ import annotations

import pytest

from experiments import config
from tests.conftest import CONFIGS

SMOKE = CONFIGS / "smoke.yaml"
SECURE = ["privacy.secure_aggregation=true", "uplink.codec=ring(8,0.01)"]


@pytest.mark.parametrize(
    "more",
    [
        [],
        ["aggregation.method=ffa"],
        ["aggregation.method=rolora", "aggregation.optimizer=fedavgm"],
        ["aggregation.mean=uniform", "downlink.delta=true", "federation.close_after=60%"],
        ["privacy.threshold=51%", "privacy.stage_timeout=3s"],
        ["privacy.clip_norm=1", "privacy.noise_multiplier=0.5", "aggregation.mean=uniform"],
    ],
)
def test_what_takes_a_sum_goes_with_it(more: list[str]) -> None:
    experiment = config.load(SMOKE, SECURE + more)
    assert experiment.privacy.secure_aggregation
    assert not experiment.aggregation_options.discordance
    written = experiment.model_dump(mode="json")
    assert config.Experiment.model_validate(written).model_dump(mode="json") == written


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (
            ["uplink.codec=int8"],
            "uplink.codec=int8 cannot be summed under masks: ring(BITS,RANGE), as ring(8,0.01)",
        ),
        (["uplink.codec=topk(0.1)|int8"], "uplink.codec=topk(0.1)|int8 cannot be summed"),
        (["uplink.codec=ring(8,0.01)|ans"], "cannot be summed under masks"),
        (["aggregation.method=fedex"], "aggregation.method=fedex needs each update by itself"),
        (["aggregation.mean=median"], "aggregation.mean=median needs each update by itself"),
        (["aggregation.discordance=true"], "aggregation.discordance needs each update by itself: false"),
        (["federation.late=next_round"], "federation.late=refuse"),
        (["uplink.error_feedback=on"], "uplink.error_feedback=off"),
        (["federation.cohort=50%"], "a cohort of one device has its update for a sum"),
        (["privacy.threshold=50%"], "threshold: 0.5 is not above one half"),
        (["privacy.stage_timeout=0s"], "stage_timeout: 0 s must be above 0"),
    ],
)
def test_what_does_not_is_one_line_that_names_the_key(more: list[str], complaint: str) -> None:
    with pytest.raises(config.ConfigError) as caught:
        config.load(SMOKE, SECURE + more)
    assert "privacy" in str(caught.value) and complaint in str(caught.value)
    assert "\n" not in str(caught.value)
