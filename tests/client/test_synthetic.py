"""Synthetic updates: exactly as large, name by name, as the real model's adapter, and repeatable.

The layout is written down in client/synthetic.py so that a phone-sized client needs no torch; here the
real classes are asked. The UNet is built on torch's meta device: shapes without memory.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.synthetic import SyntheticTrainer, initial_adapter, sd15_lora_layout
from proto.adapter import AdapterLayout

ROOT = Path(__file__).parents[2]
TINY = AdapterLayout.of({"x.lora_A.weight": (4, 100), "x.lora_B.weight": (100, 4)})


@pytest.fixture(scope="module")
def unet() -> Any:
    """Stable Diffusion v1.5's UNet by its unet/config.json, without weights."""
    import torch
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        return UNet2DConditionModel(sample_size=64, cross_attention_dim=768)


def test_the_unet_is_stable_diffusion_v1_5s(unet: Any) -> None:
    """859,520,964 parameters: the figure that everyone quotes as 860 M."""
    base = sum(p.numel() for name, p in unet.named_parameters() if "lora_" not in name)
    assert base == 859_520_964


@pytest.mark.filterwarnings("ignore:Already found a `peft_config`")
@pytest.mark.parametrize("rank", [4, 16])
def test_the_layout_is_pefts_own_name_by_name_and_shape_by_shape(unet: Any, rank: int) -> None:
    from peft import LoraConfig, get_peft_model_state_dict

    config = LoraConfig(r=rank, target_modules=["to_q", "to_k", "to_v", "to_out.0"])
    unet.add_adapter(config, adapter_name=f"rank{rank}")
    state = get_peft_model_state_dict(unet, adapter_name=f"rank{rank}")
    theirs = {f"unet.{name}": tuple(tensor.shape) for name, tensor in state.items()}
    ours = {tensor.name: tensor.shape for tensor in sd15_lora_layout(rank).tensors}
    assert ours == theirs


@pytest.mark.parametrize(("rank", "values"), [(1, 199_296), (4, 797_184), (16, 3_188_736), (64, 12_754_944)])
def test_the_number_of_values_is_linear_in_rank(rank: int, values: int) -> None:
    """REFERENCE, section 1: 199,296 x rank, in 128 modules of two tensors."""
    layout = sd15_lora_layout(rank)
    assert layout.size == values
    assert len(layout.tensors) == 256


def test_the_initial_adapter_is_loras() -> None:
    """A ~ N(0, 1/r^2), B = 0, so that the model starts as the base; the same from the same seed."""
    layout = sd15_lora_layout(4)
    adapter = initial_adapter(layout, seed=0)
    for name, tensor in layout.unpack(adapter).items():
        if ".lora_B." in name:
            assert not tensor.any()
        else:
            assert tensor.std() == pytest.approx(1 / 4, rel=0.1)
    assert adapter.tobytes() == initial_adapter(layout, seed=0).tobytes()
    assert adapter.tobytes() != initial_adapter(layout, seed=1).tobytes()


def train(*, device: int = 0, seed: int = 0, number: int = 1) -> np.ndarray:
    trainer = SyntheticTrainer(TINY, device_index=device, steps=5, examples=10, seed=seed)
    return trainer.train(np.zeros(TINY.size, np.float32), round_number=number).vector


def test_training_is_determined_by_seed_device_and_round() -> None:
    assert train().tobytes() == train().tobytes()
    others = [train(device=1), train(seed=1), train(number=2), train(device=2), train(number=3)]
    assert len({vector.tobytes() for vector in [train(), *others]}) == 6


def test_an_update_has_the_size_of_a_real_one_and_leaves_the_global_adapter_alone() -> None:
    """Gaussian with a standard deviation of 1e-3: as hard to compress as what Adam makes."""
    trainer = SyntheticTrainer(sd15_lora_layout(1), device_index=0, steps=7, examples=10, seed=0)
    adapter = np.full(trainer.layout.size, 0.5, np.float32)
    steps: list[int] = []
    result = trainer.train(adapter, round_number=1, on_step=steps.append)
    update = result.vector - adapter
    assert update.std() == pytest.approx(1e-3, rel=0.01)
    assert abs(update.mean()) < 1e-5
    assert (adapter == 0.5).all()
    assert (result.steps, steps[-1]) == (7, 7)
    assert np.isnan(result.loss)  # Nothing was trained, so there is no loss.


def test_a_client_that_trains_nothing_imports_no_torch() -> None:
    """From the command line's imports to the update: what a small device pays for in memory and start-up."""
    code = (
        "import sys, numpy, client.__main__\n"
        "from client.trainers import build_trainer\n"
        'task = \'{"trainer": "synthetic", "rank": 1, "steps": 1, "examples": 1, "seed": 0}\'\n'
        "trainer = build_trainer(task, device_index=0, device_count=1)\n"
        "trainer.train(numpy.zeros(trainer.layout.size, numpy.float32), round_number=1)\n"
        "heavy = ('torch', 'diffusers', 'peft', 'transformers', 'server', 'emulation')\n"
        "print([m for m in sys.modules if m.split('.')[0] in heavy])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
