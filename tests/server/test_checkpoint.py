"""Checkpoints: one file a round, in a folder that need not exist, never half written."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from proto.adapter import AdapterLayout, adapter_file, load_adapter
from server.checkpoint import write_checkpoint

LAYOUT = AdapterLayout.of({"a": (2, 3)})


def test_names_sort_in_order_of_rounds() -> None:
    names = [adapter_file(Path(), number).name for number in (0, 3, 20, 1000)]
    assert names[1] == "round-0003.safetensors"
    assert names == sorted(names)


def test_a_checkpoint_makes_its_folder_and_loads_exactly(tmp_path: Path) -> None:
    adapter = np.random.default_rng(0).standard_normal(6, np.float32)
    write_checkpoint(tmp_path / "deep" / "adapters", 2, LAYOUT, adapter)
    layout, loaded = load_adapter(tmp_path / "deep" / "adapters" / "round-0002.safetensors")
    assert layout == LAYOUT
    assert loaded.tobytes() == adapter.tobytes()


def test_nothing_but_whole_checkpoints_is_left_in_the_folder(tmp_path: Path) -> None:
    for number in range(3):
        write_checkpoint(tmp_path, number, LAYOUT, np.zeros(6, np.float32))
    write_checkpoint(tmp_path, 2, LAYOUT, np.ones(6, np.float32))  # again: replaced
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "round-0000.safetensors",
        "round-0001.safetensors",
        "round-0002.safetensors",
    ]
    np.testing.assert_array_equal(load_adapter(adapter_file(tmp_path, 2))[1], np.ones(6))
