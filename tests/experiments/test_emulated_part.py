"""How much of a transfer is emulated, and what extrapolation is refused for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.sd15 import first_part, sd15_layout
from client.trainers import build_trainer
from experiments import config, model
from experiments.config import ConfigError, Experiment
from experiments.initial import write_synthetic
from proto.adapter import load_adapter
from proto.lora import LoraLayout
from tests.conftest import CONFIGS

SMOKE = CONFIGS / "smoke.yaml"
WHOLE_UNET = ["adapter.kind=full", "adapter.emulated_time=5s"]


def load(*overrides: str) -> Experiment:
    return config.load(SMOKE, [*WHOLE_UNET, *overrides])


@given(st.integers(1, 60_000_000))
def test_the_first_part_of_a_unet_is_as_long_as_asked_but_for_a_row(values: int) -> None:
    whole = UNET
    part = first_part(whole, values)
    assert values <= part.size < values + 2560 * 9 + 1
    assert part.tensors[:-1] == whole.tensors[: len(part.tensors) - 1]
    assert first_part(whole, part.size) == part


@given(st.integers(1, 3_000_000))
def test_the_first_part_of_a_lora_adapter_is_a_lora_adapter(values: int) -> None:
    part = first_part(LORA, values)
    assert values <= part.size < values + 16 * 2 * 1280
    assert part.tensors == LORA.tensors[: len(part.tensors)]
    assert LoraLayout(part).rank == 16


UNET, LORA = sd15_layout("full"), sd15_layout(16)


def test_each_link_is_busy_for_as_long_as_asked() -> None:
    """The fastest of smoke.yaml is 50 Mbit/s down in fp16, so 5 s are 14.9 million values."""
    part = load().emulated_part
    assert part is not None
    assert part.values == pytest.approx(5 * 50e6 * 1448 / 1514 / 16, rel=0.02)
    assert part.whole_values == 859_520_964 and part.whole_down_bytes == 2 * part.whole_values


def test_what_is_short_is_sent_whole() -> None:
    assert load("adapter.kind=lora").emulated_part is None
    assert config.load(SMOKE).emulated_part is None
    assert "values" not in model.task(config.load(SMOKE))


def test_a_shared_cell_has_as_much_time_for_each_device() -> None:
    """Two devices share the air, so each needs half of what it could send alone."""
    alone, shared = load().emulated_part, load("network.sharing=round_robin").emulated_part
    assert alone is not None and shared is not None
    assert shared.values == pytest.approx(alone.values / 2, rel=0.03)


def test_server_and_device_agree_on_the_part(tmp_path: Path) -> None:

    experiment = load()
    assert experiment.emulated_part is not None
    write_synthetic(str(tmp_path / "a.safetensors"), model.task(experiment))
    layout, _ = load_adapter(tmp_path / "a.safetensors")
    assert layout.size == experiment.emulated_part.values < experiment.emulated_part.whole_values == UNET.size
    trainer = build_trainer(json.dumps(model.task(experiment)), device_index=0, device_count=2)
    assert trainer.layout.digest == layout.digest


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("downlink.codec=int4|ans", "downlink.codec: int4|ans makes of an adapter's parts"),
        ("network.devices.0.up.outage={up: 9s, down: 1s}", "dev0's up has a trace or outages"),
        (
            "network.devices.1.down.queue=4packets",
            "dev1's down.queue holds 6056 bytes, less than a round trip's",
        ),
        ("network.background=[{from: dev0, to: server}]", "does not go with network.background"),
        ("federation.close_after=50%", "does not go with federation.close_after"),
        ("federation.selection=fastest", "write random or round_robin"),
        (
            "federation.round_deadline=900s",
            "dev0's transfers, extrapolated by adapter.emulated_time, take 1460 s",
        ),
    ],
)
def test_what_cannot_be_extrapolated_is_refused_in_one_line(override: str, says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load(override)
    assert says in str(refused.value) and "\n" not in str(refused.value)


def test_other_methods_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"does not go with aggregation\.method"):
        load("adapter.kind=lora", "adapter.rank=256", "aggregation.method=ffa")


def test_a_model_that_trains_is_never_cut() -> None:
    with pytest.raises(ConfigError, match="a model cannot train on a part of itself"):
        config.load(CONFIGS / "cell.yaml", ["adapter.emulated_time=5s"])


def test_the_manifest_s_configuration_keeps_it() -> None:
    document: dict[str, Any] = load().model_dump(mode="json")
    assert Experiment.model_validate(document).emulated_part == load().emulated_part
