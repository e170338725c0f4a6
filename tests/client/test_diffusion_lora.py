"""A device's trainer: deterministic, effective, and compatible with diffusers' own loader."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import get_peft_model_state_dict

from client.diffusion.base import Base, load_base
from client.diffusion.lora import (
    TARGET_MODULES,
    AdaptedUNet,
    Batch,
    DiffusionTrainer,
    denoising_loss,
    initial_adapter,
    prepare,
)
from proto.adapter import AdapterLayout, LayoutError, Vector, load_adapter, save_adapter
from tests.client.test_diffusion_data import write_folder

TARGETS = list(TARGET_MODULES)


@pytest.fixture(scope="module")
def base() -> Base:
    torch.set_num_threads(1)
    return load_base()


def trainer(**changes: object) -> DiffusionTrainer:
    arguments: dict[str, object] = {
        "base": str(load_base().path),
        "data": "emoji",
        "partition": "style",
        "device_index": 1,
        "device_count": 3,
        "rank": 4,
        "steps": 3,
        "batch_size": 8,
        "learning_rate": 2e-3,
        "seed": 5,
    }
    return DiffusionTrainer(**(arguments | changes))


@pytest.fixture(scope="module")
def start(base: Base) -> tuple[AdapterLayout, Vector]:
    return initial_adapter(base, 4, TARGETS, seed=5)


def random_adapter(layout: AdapterLayout, seed: int = 0) -> Vector:
    return np.random.default_rng(seed).standard_normal(layout.size).astype(np.float32) * np.float32(0.05)


def probe(base: Base) -> Batch:
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(2, 16, 8, 8, generator=generator)
    return Batch(latents, latents.flip(0), base.encode_text(["red apple", "fish"]), torch.tensor([100, 700]))


def output(unet: torch.nn.Module, batch: Batch) -> torch.Tensor:
    with torch.no_grad():
        return unet(batch.latents, batch.timesteps, encoder_hidden_states=batch.text).sample


def test_everybody_starts_from_the_same_adapter_that_changes_nothing(
    base: Base, start: tuple[AdapterLayout, Vector]
) -> None:
    layout, vector = start
    again_layout, again = initial_adapter(base, 4, TARGETS, seed=5)
    assert again_layout == layout and np.array_equal(again, vector)
    assert not np.array_equal(initial_adapter(base, 4, TARGETS, seed=6)[1], vector)
    for name, tensor in layout.unpack(vector).items():
        if ".lora_B." in name:
            assert not tensor.any()
        else:
            assert tensor.std() == pytest.approx(1 / 4, rel=0.2)
    adapted = AdaptedUNet(base, 4, TARGETS)
    adapted.write(vector)
    assert torch.equal(output(adapted.unet, probe(base)), output(base.unet, probe(base)))


def test_names_are_those_that_peft_saves_and_training_changes_nothing_else(base: Base) -> None:
    adapted = AdaptedUNet(base, 4, TARGETS)
    saved = get_peft_model_state_dict(adapted.unet)
    assert {tensor.name for tensor in adapted.layout.tensors} == {f"unet.{name}" for name in saved}
    assert sum(parameter.numel() for parameter in adapted.parameters) == adapted.layout.size


def test_write_then_read_is_the_identity(base: Base) -> None:
    adapted = AdaptedUNet(base, 4, TARGETS)
    vector = random_adapter(adapted.layout)
    adapted.write(vector)
    assert np.array_equal(adapted.read(), vector)
    assert not np.array_equal(AdaptedUNet(base, 4, TARGETS).read(), vector)  # the base is not touched


def test_a_foreign_layout_is_refused_by_the_first_tensor_that_differs(base: Base) -> None:
    adapted = AdaptedUNet(base, 4, TARGETS)
    before = adapted.read()
    fewer, less = initial_adapter(base, 4, ["to_q", "to_k"], seed=0)
    with pytest.raises(LayoutError, match=r"tensor unet\..*to_out\.0\.lora_A\.weight is missing"):
        adapted.write(less, fewer)
    narrower, thin = initial_adapter(base, 2, TARGETS, seed=0)
    with pytest.raises(LayoutError, match="shape"):
        adapted.write(thin, narrower)
    with pytest.raises(LayoutError):
        adapted.write(before[:-1])
    assert np.array_equal(adapted.read(), before)


def test_unknown_target_modules_are_refused(base: Base) -> None:
    with pytest.raises(ValueError, match="to_nowhere"):
        AdaptedUNet(base, 4, ["to_nowhere"])


def test_a_saved_adapter_loads_into_a_pipeline_and_draws_the_same(base: Base, tmp_path: Path) -> None:
    adapted = AdaptedUNet(base, 4, TARGETS)
    vector = random_adapter(adapted.layout)
    adapted.write(vector)
    save_adapter(tmp_path / "adapter.safetensors", adapted.layout, vector)
    pipeline = base.pipeline(base.bare_unet())
    pipeline.load_lora_weights(tmp_path / "adapter.safetensors")
    batch = probe(base)
    ours, theirs, plain = output(adapted.unet, batch), output(pipeline.unet, batch), output(base.unet, batch)
    assert torch.equal(ours, theirs)
    assert (ours - plain).abs().mean() > 0.01
    layout, stored = load_adapter(tmp_path / "adapter.safetensors")
    assert layout == adapted.layout and np.array_equal(stored, vector)


def test_the_same_round_gives_the_same_bits_whatever_came_before(start: tuple[AdapterLayout, Vector]) -> None:
    layout, vector = start
    kept = vector.copy()
    one, other = trainer(), trainer()
    assert one.layout == layout
    first = one.train(vector, round_number=1)
    other.train(first.vector, round_number=2)
    again = other.train(vector, round_number=1)
    assert np.array_equal(first.vector, again.vector) and first.loss == again.loss
    assert np.array_equal(vector, kept) and not np.array_equal(first.vector, vector)
    assert not np.array_equal(one.train(vector, round_number=2).vector, first.vector)
    assert not np.array_equal(trainer(seed=6).train(vector, round_number=1).vector, first.vector)


def test_devices_own_different_examples_and_tell_their_steps(start: tuple[AdapterLayout, Vector]) -> None:
    told: list[int] = []
    device = trainer(device_index=0, device_count=6)
    result = device.train(start[1], round_number=1, on_step=told.append)
    assert told == [1, 2, 3] and result.steps == 3 and np.isfinite(result.loss)
    assert abs(2 * device.examples - trainer(device_index=0).examples) <= 1


def test_training_lowers_the_loss_on_the_devices_own_style(
    base: Base, start: tuple[AdapterLayout, Vector]
) -> None:
    device = trainer(steps=10, batch_size=16)
    batch = device._batch(list(range(0, device.examples, 20)), torch.Generator().manual_seed(0))

    def loss(vector: Vector) -> float:
        device._adapted.write(vector)
        with torch.no_grad():
            return float(denoising_loss(device._adapted.unet, base, batch).mean())

    trained = device.train(start[1], round_number=1).vector
    assert loss(trained) < 0.99 * loss(start[1])


@pytest.mark.parametrize(("kind", "target"), [("epsilon", "noise"), ("v_prediction", "velocity")])
def test_the_loss_is_measured_against_what_the_scheduler_predicts(base: Base, kind: str, target: str) -> None:
    scheduler = type(base.scheduler).from_config(base.scheduler.config, prediction_type=kind)
    changed = dataclasses.replace(base, scheduler=scheduler)
    batch = probe(base)
    velocity = scheduler.get_velocity(batch.latents, batch.noise, batch.timesteps)
    wanted = {"noise": batch.noise, "velocity": velocity}[target]
    noisy = scheduler.add_noise(batch.latents, batch.noise, batch.timesteps)
    drawn = output(base.unet, dataclasses.replace(batch, latents=noisy))
    expected = (drawn - wanted).square().mean((1, 2, 3))
    with torch.no_grad():
        plain = denoising_loss(base.unet, changed, batch)
        weighted = denoising_loss(base.unet, changed, batch, min_snr_gamma=5.0)
    assert torch.allclose(plain, expected)
    signal = scheduler.alphas_cumprod[batch.timesteps]
    snr = signal / (1 - signal)
    assert torch.allclose(weighted, expected * snr.clamp(max=5) / (snr + (kind == "v_prediction")), rtol=1e-4)


def test_a_prediction_type_that_cannot_be_trained_is_refused(base: Base) -> None:
    scheduler = type(base.scheduler).from_config(base.scheduler.config, prediction_type="sample")
    with pytest.raises(ValueError, match="prediction type 'sample'"):
        denoising_loss(base.unet, dataclasses.replace(base, scheduler=scheduler), probe(base))


def test_any_imagefolder_trains(tmp_path: Path, start: tuple[AdapterLayout, Vector]) -> None:
    device = trainer(data=str(write_folder(tmp_path)), partition="iid", device_index=0, device_count=2)
    assert device.examples == 9  # fewer than a round's 24: they come up again
    assert device.train(start[1], round_number=1).steps == 3


def test_a_prepared_trainer_gives_the_same_update_and_is_for_one(start: tuple[AdapterLayout, Vector]) -> None:
    task = {"base": str(load_base().path), "data": "emoji", "partition": "style", "rank": 4, "seed": 5}
    task |= {"target_modules": TARGETS, "learning_rate": 2e-3, "steps": 3, "batch_size": 8}
    prepare(device_count=3, **task, min_snr_gamma=None)
    prepared, fresh = trainer(), trainer()
    assert prepared._adapted is not fresh._adapted
    updates = [one.train(start[1], round_number=1).vector for one in (prepared, fresh)]
    np.testing.assert_array_equal(*updates)


def test_between_rounds_a_trainer_holds_no_activations(start: tuple[AdapterLayout, Vector]) -> None:
    def resident_mb() -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6

    one = trainer(batch_size=32, steps=2)
    one.train(start[1], round_number=1)
    before, during = resident_mb(), []
    one.train(start[1], round_number=2, on_step=lambda _: during.append(resident_mb()))
    assert max(during) > before + 50
    assert resident_mb() < before + 20
