"""Synthetic updates: as large as real ones, repeatable, and made where nothing measures it."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from client.sd15 import sd15_lora_layout
from client.synthetic import SyntheticTrainer, initial_adapter
from client.training import UnsupportedError
from proto.adapter import AdapterLayout, LayoutError, Vector

ROOT = Path(__file__).parents[2]
TINY = AdapterLayout.of({"x.lora_A.weight": (4, 100), "x.lora_B.weight": (100, 4)})
WHOLE = AdapterLayout.of({"conv.weight": (64, 32, 3, 3), "norm.weight": (32,), "norm.bias": (32,)})


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


def synthetic(layout: AdapterLayout = TINY, *, device: int = 0, seed: int = 0) -> SyntheticTrainer:
    return SyntheticTrainer(layout, device_index=device, steps=5, examples=10, seed=seed)


def train(*, device: int = 0, seed: int = 0, number: int = 1) -> Vector:
    trainer = synthetic(device=device, seed=seed)
    return trainer.train(np.zeros(TINY.size, np.float32), round_number=number).vector


def test_training_is_determined_by_seed_device_and_round() -> None:
    assert train().tobytes() == train().tobytes()
    others = [train(device=1), train(seed=1), train(number=2), train(device=2), train(number=3)]
    assert len({vector.tobytes() for vector in [train(), *others]}) == 6


def test_what_was_drawn_beforehand_is_what_would_have_been_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the round that comes, of another than was expected, and where there is no room for it."""
    start = np.ones(TINY.size, np.float32)
    expected = np.random.default_rng((0, 0, 7)).standard_normal(TINY.size, np.float32) * np.float32(1e-3) + 1
    trainer = synthetic()
    trainer.anticipate(7)
    with monkeypatch.context() as patch:
        patch.setattr(SyntheticTrainer, "_draw", None)
        assert np.array_equal(trainer.train(start, round_number=7).vector, expected)
    trainer.anticipate(6)
    assert np.array_equal(trainer.train(start, round_number=7).vector, expected)
    monkeypatch.setattr("client.synthetic._KEPT_VALUES", TINY.size - 1)
    trainer.anticipate(7)
    assert not trainer._drawn
    assert np.array_equal(trainer.train(start, round_number=7).vector, expected)


@pytest.mark.parametrize("factor", ["A", "B"])
def test_a_factor_that_is_not_trained_stays_as_it_was(factor: str) -> None:
    start = np.linspace(-1, 1, TINY.size, dtype=np.float32)
    both = TINY.unpack(synthetic().train(start, round_number=1).vector)
    one = TINY.unpack(synthetic().train(start, round_number=1, trained=factor).vector)
    for name, values in TINY.unpack(start).items():
        assert np.array_equal(one[name], both[name] if f"lora_{factor}" in name else values)
        assert not np.array_equal(both[name], values)


def test_the_whole_unet_has_no_factors_and_no_base() -> None:
    trainer = synthetic(WHOLE)
    start = initial_adapter(WHOLE, seed=0)
    assert trainer.train(start, round_number=1).vector.std() > 0
    with pytest.raises(UnsupportedError, match=r"training A alone is for adapter\.kind=lora"):
        trainer.train(start, round_number=1, trained="A")
    with pytest.raises(UnsupportedError, match=r"merging into the base is for adapter\.kind=lora"):
        trainer.merge(WHOLE, start)


def test_what_is_merged_must_be_of_the_same_modules() -> None:
    other = AdapterLayout.of({"x.lora_A.weight": (9, 100), "x.lora_B.weight": (100, 9)})
    synthetic().merge(other, np.zeros(other.size, np.float32))
    foreign = AdapterLayout.of({"y.lora_A.weight": (9, 100), "y.lora_B.weight": (100, 9)})
    with pytest.raises(LayoutError, match=r"tensor x\.lora_A\.weight is missing"):
        synthetic().merge(foreign, np.zeros(foreign.size, np.float32))


def test_a_whole_unets_initial_values_keep_the_scale_of_what_passes_through() -> None:
    tensors = WHOLE.unpack(initial_adapter(WHOLE, seed=0))
    assert tensors["conv.weight"].std() == pytest.approx((32 * 9) ** -0.5, rel=0.05)
    assert (tensors["norm.weight"] == 1).all() and not tensors["norm.bias"].any()


def test_one_vector_is_all_that_training_and_the_initial_values_need() -> None:
    """Traced: 3.4 GB of a whole UNet are made in place."""
    layout = AdapterLayout.of({"conv.weight": (2**10, 2**10)})
    adapter = np.zeros(layout.size, np.float32)
    for work in (
        lambda: initial_adapter(layout, seed=0),
        lambda: synthetic(layout).train(adapter, round_number=1),
    ):
        tracemalloc.start()
        work()
        assert tracemalloc.get_traced_memory()[1] < 1.1 * adapter.nbytes
        tracemalloc.stop()


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
