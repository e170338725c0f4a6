"""The adapter: named tensors to one vector and back, one digest for both ends, safetensors on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from proto import adapter as adapter_module
from proto.adapter import AdapterLayout, LayoutError, load_adapter, save_adapter

LAYOUT = AdapterLayout.of({"unet.b.lora_B.weight": (6, 2), "unet.a.lora_A.weight": (2, 3)})

shapes = st.dictionaries(
    st.text("ab.é_0", min_size=1, max_size=12),
    st.lists(st.integers(0, 5), max_size=4).map(tuple),
    max_size=8,
)


@given(shapes)
def test_unpacked_tensors_pack_to_the_same_vector(named: dict[str, tuple[int, ...]]) -> None:
    layout = AdapterLayout.of(named)
    vector = np.random.default_rng(0).standard_normal(layout.size, np.float32)
    tensors = layout.unpack(vector)
    assert {name: tensor.shape for name, tensor in tensors.items()} == named
    np.testing.assert_array_equal(layout.pack(tensors), vector)


def test_tensors_stand_in_the_vector_in_order_of_name_rows_first() -> None:
    """The order that both ends rely on, whatever order a framework lists its tensors in."""
    tensors = {
        "unet.b.lora_B.weight": np.arange(6, 18).reshape(6, 2),
        "unet.a.lora_A.weight": np.arange(6).reshape(2, 3),
    }
    np.testing.assert_array_equal(LAYOUT.pack(tensors), np.arange(18, dtype=np.float32))


def test_unpacked_tensors_are_views_so_one_vector_is_all_the_memory() -> None:
    vector = np.zeros(LAYOUT.size, np.float32)
    LAYOUT.unpack(vector)["unet.b.lora_B.weight"][:] = 7
    assert vector.sum() == 7 * 12


def test_the_digest_does_not_depend_on_the_order_in_which_tensors_are_listed() -> None:
    named = {"a": (2, 3), "b": (4,), "c": ()}
    assert AdapterLayout.of(named).digest == AdapterLayout.of(dict(reversed(named.items()))).digest


@pytest.mark.parametrize(
    "other",
    [
        {"a": (3, 2), "b": (4,)},  # same number of values, another shape
        {"A": (2, 3), "b": (4,)},  # another name
        {"a": (2, 3), "b": (4, 1)},
        {"a": (2, 3)},
        {"a": (2, 3), "b": (4,), "c": (0,)},
    ],
)
def test_the_digest_changes_with_any_name_or_shape(other: dict[str, tuple[int, ...]]) -> None:
    assert AdapterLayout.of(other).digest != AdapterLayout.of({"a": (2, 3), "b": (4,)}).digest


def test_a_missing_or_extra_tensor_is_named() -> None:
    tensors = LAYOUT.unpack(np.zeros(LAYOUT.size, np.float32))
    extra = {**tensors, "unet.new": np.zeros(1, np.float32)}
    with pytest.raises(LayoutError, match=r"unet\.new is missing from the layout"):
        LAYOUT.pack(extra)
    del tensors["unet.a.lora_A.weight"]
    with pytest.raises(LayoutError, match=r"unet\.a\.lora_A\.weight is missing from the tensors"):
        LAYOUT.pack(tensors)


def test_a_tensor_of_another_shape_is_named_though_it_has_as_many_values() -> None:
    tensors = LAYOUT.unpack(np.zeros(LAYOUT.size, np.float32))
    tensors["unet.b.lora_B.weight"] = tensors["unet.b.lora_B.weight"].reshape(2, 6)
    with pytest.raises(LayoutError, match=r"unet\.b\.lora_B\.weight: shape \(2, 6\), layout \(6, 2\)"):
        LAYOUT.pack(tensors)


@pytest.mark.parametrize("shape", [(17,), (19,), (18, 1), ()])
def test_a_vector_of_another_size_is_not_unpacked(shape: tuple[int, ...]) -> None:
    with pytest.raises(LayoutError, match="layout has 18 values"):
        LAYOUT.unpack(np.zeros(shape, np.float32))


def test_a_saved_adapter_loads_exactly(tmp_path: Path) -> None:
    vector = np.random.default_rng(0).standard_normal(LAYOUT.size, np.float32)
    save_adapter(tmp_path / "a.safetensors", LAYOUT, vector)
    layout, loaded = load_adapter(tmp_path / "a.safetensors")
    assert layout == LAYOUT
    assert layout.digest == LAYOUT.digest
    np.testing.assert_array_equal(loaded, vector)


def test_the_same_adapter_is_the_same_file_byte_for_byte(tmp_path: Path) -> None:
    """What makes "two runs agree" checkable with cmp."""
    vector = np.ones(LAYOUT.size, np.float32)
    save_adapter(tmp_path / "a.safetensors", LAYOUT, vector)
    save_adapter(tmp_path / "b.safetensors", LAYOUT, vector)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_a_file_saved_in_half_precision_loads_as_float32(tmp_path: Path) -> None:
    save_file({"a": np.array([0.5, 2.0], np.float16)}, tmp_path / "half.safetensors")
    _, vector = load_adapter(tmp_path / "half.safetensors")
    assert vector.dtype == np.float32
    np.testing.assert_array_equal(vector, [0.5, 2.0])


@pytest.mark.parametrize("content", [b"", b"not safetensors at all", b"\xff" * 64])
def test_a_file_that_is_no_adapter_is_one_line_with_its_path(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.safetensors"
    path.write_bytes(content)
    with pytest.raises(LayoutError) as caught:
        load_adapter(path)
    assert f"{path} is not a safetensors adapter" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_truncated_adapter_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_adapter(path, LAYOUT, np.ones(LAYOUT.size, np.float32))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(LayoutError):
        load_adapter(path)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match="missing"):
        load_adapter(tmp_path / "missing.safetensors")


def test_a_write_that_fails_half_way_leaves_the_old_adapter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint is whole or not there: the disk fills after 10 bytes, and the old file still loads."""
    path = tmp_path / "a.safetensors"
    old = np.ones(LAYOUT.size, np.float32)
    save_adapter(path, LAYOUT, old)

    def disk_full(tensors: object, filename: Path, metadata: object = None) -> None:
        Path(filename).write_bytes(b"0123456789")
        raise OSError("No space left on device")

    monkeypatch.setattr(adapter_module, "save_file", disk_full)
    with pytest.raises(OSError, match="No space left"):
        save_adapter(path, LAYOUT, 2 * old)
    np.testing.assert_array_equal(load_adapter(path)[1], old)


def test_a_checkpoint_is_an_ordinary_safetensors_file_of_named_tensors(tmp_path: Path) -> None:
    """So that StableDiffusionPipeline.load_lora_weights, or any other tool, reads it."""
    save_adapter(tmp_path / "a.safetensors", LAYOUT, np.arange(18, dtype=np.float32))
    tensors = load_file(tmp_path / "a.safetensors")
    assert {name: value.shape for name, value in tensors.items()} == {
        "unet.a.lora_A.weight": (2, 3),
        "unet.b.lora_B.weight": (6, 2),
    }
