"""The whole UNet as a vector: diffusers' names, a copy of its own, and a checkpoint that diffusers loads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel

from client.diffusion.base import load_base
from client.diffusion.full import FullUNet
from client.training import UnsupportedError
from proto.adapter import save_adapter


def test_it_is_the_base_under_diffusers_names_and_not_the_base_itself() -> None:
    base = load_base()
    whole = FullUNet(base)
    state = base.unet.state_dict()
    assert {t.name: t.shape for t in whole.layout.tensors} == {n: tuple(t.shape) for n, t in state.items()}
    before = whole.read()
    for name, values in whole.layout.unpack(before).items():
        assert np.array_equal(values, state[name].numpy())
    whole.write(before + 1)
    assert np.array_equal(whole.read(), before + 1)
    assert np.array_equal(FullUNet(base).read(), before)


def test_a_checkpoint_is_one_of_diffusers(tmp_path: Path) -> None:
    base = load_base()
    whole = FullUNet(base)
    changed = whole.read() * np.float32(1.5)
    whole.write(changed)
    base.unet.save_config(tmp_path)
    save_adapter(tmp_path / "diffusion_pytorch_model.safetensors", whole.layout, changed)
    loaded = UNet2DConditionModel.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in whole.unet.state_dict().items())


def test_it_has_no_factors_and_nothing_beneath_it() -> None:
    whole = FullUNet(load_base())
    with pytest.raises(UnsupportedError, match="training B alone"):
        whole.choose("B")
    with pytest.raises(UnsupportedError, match="merging into the base"):
        whole.merge(whole.layout, whole.read())
