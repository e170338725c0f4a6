"""A device's trainer: deterministic, effective, and told what to train."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from client.diffusion.base import Base, load_base
from client.diffusion.lora import TARGET_MODULES, initial_adapter
from client.diffusion.loss import denoising_loss
from client.diffusion.trainer import DiffusionTrainer, _pull, prepare
from client.training import UnsupportedError
from proto.adapter import AdapterLayout, Vector
from proto.lora import LoraLayout
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
        device.model.write(vector)
        with torch.no_grad():
            return float(denoising_loss(device.model.unet, base, batch).mean())

    trained = device.train(start[1], round_number=1).vector
    assert loss(trained) < 0.99 * loss(start[1])


def test_any_imagefolder_trains(tmp_path: Path, start: tuple[AdapterLayout, Vector]) -> None:
    device = trainer(data=str(write_folder(tmp_path)), partition="iid", device_index=0, device_count=2)
    assert device.examples == 9  # fewer than a round's 24: they come up again
    assert device.train(start[1], round_number=1).steps == 3


def test_a_prepared_trainer_gives_the_same_update_and_is_for_one(start: tuple[AdapterLayout, Vector]) -> None:
    task = {"base": str(load_base().path), "data": "emoji", "partition": "style", "rank": 4, "seed": 5}
    task |= {"target_modules": TARGETS, "learning_rate": 2e-3, "steps": 3, "batch_size": 8}
    prepare(device_count=3, **task, min_snr_gamma=None)
    prepared, fresh = trainer(), trainer()
    assert prepared.model is not fresh.model
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


@pytest.mark.parametrize("factor", ["A", "B"])
def test_a_factor_alone_is_trained(start: tuple[AdapterLayout, Vector], factor: str) -> None:
    layout = LoraLayout(start[0])
    frozen = "B" if factor == "A" else "A"
    begun = start[1] + np.float32(0.01)  # B = 0 gives A no gradient.
    one = trainer(steps=2)
    after = one.train(begun, round_number=1, trained=factor).vector
    assert np.array_equal(layout.take(after, frozen), layout.take(begun, frozen))
    assert (layout.take(after, factor) != layout.take(begun, factor)).mean() > 0.9
    # Nothing of it is left behind in the next round.
    both = one.train(begun, round_number=2).vector
    assert np.array_equal(both, trainer(steps=2).train(begun, round_number=2).vector)
    assert not np.array_equal(layout.take(both, frozen), layout.take(begun, frozen))


def test_fedprox_adds_the_gradient_of_its_term() -> None:
    parameter, anchor = torch.nn.Parameter(torch.randn(3, 4)), torch.randn(3, 4)
    (0.3 / 2 * (parameter - anchor).square().sum() + parameter.sum()).backward()
    expected, parameter.grad = parameter.grad, torch.ones(3, 4)
    _pull([parameter], [anchor], 0.3)
    torch.testing.assert_close(parameter.grad, expected)


def test_fedprox_keeps_a_device_near_the_global_adapter(start: tuple[AdapterLayout, Vector]) -> None:
    moved = {
        mu: np.linalg.norm(trainer(proximal_mu=mu).train(start[1], round_number=1).vector - start[1])
        for mu in (0.0, 100.0)
    }
    assert moved[100.0] < 0.9 * moved[0.0]


def test_devices_of_a_task_may_differ_in_rank(start: tuple[AdapterLayout, Vector]) -> None:
    """Forked from one process that has prepared them all, or each for itself."""
    ranks = [2, 4, 2]
    task = {"base": str(load_base().path), "data": "emoji", "partition": "style", "rank": ranks, "seed": 5}
    prepare(device_count=3, **task, target_modules=TARGETS, learning_rate=2e-3, steps=3, batch_size=8)
    prepared, fresh = trainer(rank=ranks), trainer(rank=ranks)
    assert prepared.model is not fresh.model and prepared.layout == fresh.layout == start[0]
    assert LoraLayout(trainer(rank=ranks, device_index=2).layout).rank == 2
    alone = trainer(rank=4)
    updates = [one.train(start[1], round_number=1).vector for one in (prepared, fresh, alone)]
    np.testing.assert_array_equal(updates[0], updates[1])
    np.testing.assert_array_equal(updates[0], updates[2])
    with pytest.raises(UnsupportedError, match="list of 3, one a device"):
        trainer(rank=[2, 4])


def test_what_is_merged_stays_under_every_later_adapter(start: tuple[AdapterLayout, Vector]) -> None:
    """Half of an adapter merged beneath the other half is the whole."""
    layout, vector = start
    noise = np.random.default_rng(0).standard_normal(layout.size).astype(np.float32)
    whole = vector + noise * np.float32(0.1)
    lora = LoraLayout(layout)
    one_half, other_half = whole.copy(), whole.copy()
    lora.put(one_half, "A", lora.take(whole, "A") / 2)
    lora.put(other_half, "B", lora.take(whole, "B") / 2)
    device = trainer(steps=1)
    unmerged = device.train(other_half, round_number=1).loss
    device.merge(layout, one_half)
    merged = device.train(other_half, round_number=1).loss
    expected = trainer(steps=1).train(whole, round_number=1).loss
    assert merged == pytest.approx(expected, rel=1e-4)
    assert unmerged != pytest.approx(expected, rel=1e-2)


def test_the_whole_unet_is_trained(base: Base) -> None:
    device = trainer(rank="full", steps=2, batch_size=4, learning_rate=1e-4)
    begun = device.model.read()
    result = device.train(begun, round_number=1)
    assert (result.vector != begun).mean() > 0.99 and np.isfinite(result.loss)
    again = trainer(rank="full", steps=2, batch_size=4, learning_rate=1e-4).train(begun, round_number=1)
    assert np.array_equal(again.vector, result.vector)
