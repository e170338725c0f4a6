"""An adapter of one's own outlives the process that trained it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from running import INITIAL, LAYOUT

from client.own import OwnAdapter
from client.synthetic import SyntheticTrainer
from proto.adapter import AdapterLayout, LayoutError, adapter_file, save_adapter

TRAINER = SyntheticTrainer(LAYOUT, device_index=0, steps=1, examples=1, seed=0)


def test_it_begins_as_everybody_s_and_goes_on_where_it_was(tmp_path: Path) -> None:
    own = OwnAdapter(tmp_path / "dev0")
    np.testing.assert_array_equal(own.before(1, TRAINER), INITIAL)
    own.keep(1, LAYOUT, INITIAL + np.float32(1))
    np.testing.assert_array_equal(own.before(2, TRAINER), INITIAL + np.float32(1))
    # A new process; round 2 was missed.
    np.testing.assert_array_equal(OwnAdapter(tmp_path / "dev0").before(3, TRAINER), INITIAL + np.float32(1))


def test_another_layout_s_is_refused(tmp_path: Path) -> None:
    other = AdapterLayout.of({"a": (2,)})
    save_adapter(adapter_file(tmp_path, 0), other, np.zeros(2, np.float32))
    with pytest.raises(LayoutError, match=r"round-0000.safetensors is not an adapter of this task's layout"):
        OwnAdapter(tmp_path).before(1, TRAINER)
