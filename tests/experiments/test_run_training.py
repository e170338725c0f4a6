"""Real training across the network: the adapters load in diffusers, and int8 costs bytes, not quality."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from experiments.config import BUNDLED_BASE
from proto.adapter import load_adapter
from tests.conftest import CONFIGS, fedcell_json, valid_run

pytestmark = pytest.mark.timeout(1200)  # the first test pays for two runs and two evaluations

# Slow enough that a transfer's time is its bytes' time, with few steps: the test is of what crosses.
_LINK = "{up: {rate: 2mbit, delay: 10ms, queue: 1s}, down: {rate: 10mbit, delay: 10ms, queue: 1s}}"
_EQUAL = [f"network.devices=[{_LINK}, {_LINK}]", "rounds=2", "training.steps=5", "adapter.rank=16"]
_CAPTURED = ["network.capture=[dev0-eth0]", "network.snaplen=64kB"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """codec -> the run with it on the uplink, everything else equal."""
    output = tmp_path_factory.mktemp("training")
    return {
        codec: valid_run(
            CONFIGS / "cell.yaml", *_EQUAL, *_CAPTURED, f"uplink.codec={codec}", f"output={output}"
        )
        for codec in ("fp32", "int8")
    }


@pytest.fixture(scope="module")
def losses(runs: dict[str, dict[str, Any]]) -> dict[str, dict[int, float]]:
    """codec -> held-out loss by round, a few drawings of each style."""
    from experiments.evaluate import Scorer

    scorer = Scorer(str(BUNDLED_BASE), per_style=24)
    return {codec: scorer.losses(Path(run["run_dir"])) for codec, run in runs.items()}


@pytest.fixture(scope="module")
def evaluated(runs: dict[str, dict[str, Any]]) -> Path:
    """The fp32 run's folder, after `fedcell evaluate`."""
    fedcell_json("evaluate", runs["fp32"]["run_dir"])
    return Path(runs["fp32"]["run_dir"])


def upload_s(run: dict[str, Any]) -> float:
    """Mean upload of the second round: the first also pays for TCP's slow start."""
    clients = pd.read_csv(Path(run["run_dir"]) / "clients.csv")
    return float(clients[clients["round"] == 2]["upload_s"].mean())


def test_upload_time_falls_by_the_ratio_of_bytes(runs: dict[str, dict[str, Any]]) -> None:
    payload = {codec: run["rounds"][1]["payload_up_bytes"] for codec, run in runs.items()}
    byte_ratio = payload["fp32"] / payload["int8"]
    assert byte_ratio == pytest.approx(32 / 8.25, rel=0.001)
    assert upload_s(runs["fp32"]) / upload_s(runs["int8"]) == pytest.approx(byte_ratio, rel=0.10)


def test_int8_changes_the_final_loss_by_less_than_one_per_cent(losses: dict[str, dict[int, float]]) -> None:
    assert losses["int8"][2] == pytest.approx(losses["fp32"][2], rel=0.01)


def test_training_lowers_the_held_out_loss(evaluated: Path) -> None:
    table = pd.read_csv(evaluated / "evaluation.csv")
    by_round = table[table["style"] == "all"].set_index("round")["loss"]
    assert by_round[2] < by_round[0]


@pytest.mark.parametrize("codec", ["fp32", "int8"])
def test_no_image_and_no_caption_leaves_a_device(runs: dict[str, dict[str, Any]], codec: str) -> None:
    (device,) = fedcell_json("leaks", runs[codec]["run_dir"])["devices"]
    assert device["valid"] and device["controls_found"] == device["controls"] == 3
    assert device["images_searched"] == device["images_owned"] > 1000
    assert (device["images_found"], device["captions_found"], device["leaked_bytes"]) == (0, 0, 0)
    sent = runs[codec]["rounds"][0]["payload_up_bytes"]  # By two devices, in each of two rounds.
    assert device["update_bytes_seen"] == device["update_bytes"] == sent
    assert device["up_bytes"] > sent


def test_the_figures_of_the_evaluation_are_there(evaluated: Path) -> None:
    for name in ("samples.png", "samples.pdf", "loss.png"):
        assert (evaluated / "figures" / name).stat().st_size > 5_000


def test_a_round_s_adapter_loads_in_diffusers_and_changes_the_unet(runs: dict[str, dict[str, Any]]) -> None:
    import torch
    from diffusers import StableDiffusionPipeline

    file = Path(runs["fp32"]["run_dir"]) / "adapters" / "round-0002.safetensors"
    layout, vector = load_adapter(file)
    assert layout.size == vector.size and np.abs(vector).max() > 0
    pipeline = StableDiffusionPipeline.from_pretrained(BUNDLED_BASE)
    config, width = pipeline.unet.config, pipeline.unet.config.cross_attention_dim
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, config.in_channels, config.sample_size, config.sample_size, generator=generator)
    text = torch.randn(1, 16, width, generator=generator)
    with torch.no_grad():
        before = pipeline.unet(latents, 500, encoder_hidden_states=text).sample
        pipeline.load_lora_weights(file)
        after = pipeline.unet(latents, 500, encoder_hidden_states=text).sample
    assert not torch.allclose(before, after, atol=1e-4)
