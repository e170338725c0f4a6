"""The adapter as it crosses the network: one contiguous float32 vector in an agreed layout.

A layout is the ordered list of (tensor name, shape). Both ends compute its hash at registration, so a
vector can never be unpacked into tensors it was not packed from.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

Vector = NDArray[np.float32]


class LayoutError(ValueError):
    """Tensors and layout do not agree; the message names the first tensor that differs."""


@dataclass(frozen=True)
class TensorSpec:
    """Name and shape of one tensor of the adapter."""

    name: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class AdapterLayout:
    """The order in which an adapter's tensors stand in its vector."""

    tensors: tuple[TensorSpec, ...]

    @classmethod
    def of(cls, shapes: Mapping[str, Iterable[int]]) -> AdapterLayout:
        """The canonical layout of named shapes: sorted by name, whatever order they come in."""
        return cls(tuple(TensorSpec(name, tuple(shapes[name])) for name in sorted(shapes)))

    @cached_property
    def size(self) -> int:
        """Number of float32 values of the whole vector."""
        return sum(tensor.size for tensor in self.tensors)

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 over names, shapes and dtype."""
        text = json.dumps(["float32", [[t.name, list(t.shape)] for t in self.tensors]])
        return hashlib.sha256(text.encode()).digest()

    def pack(self, tensors: Mapping[str, NDArray[np.generic]]) -> Vector:
        """Named tensors -> vector of shape (size,). Raises LayoutError on any difference."""
        for name in sorted(set(tensors) ^ {t.name for t in self.tensors}):
            where = "layout" if name in tensors else "tensors"
            raise LayoutError(f"tensor {name} is missing from the {where}")
        vector = np.empty(self.size, np.float32)
        offset = 0
        for spec in self.tensors:
            value = tensors[spec.name]
            if value.shape != spec.shape:
                raise LayoutError(f"tensor {spec.name}: shape {value.shape}, layout {spec.shape}")
            vector[offset : offset + spec.size] = value.reshape(-1)
            offset += spec.size
        return vector

    def unpack(self, vector: Vector) -> dict[str, Vector]:
        """Vector of shape (size,) -> named tensors, views into it."""
        if vector.shape != (self.size,):
            raise LayoutError(f"vector of shape {vector.shape}, layout has {self.size} values")
        tensors, offset = {}, 0
        for spec in self.tensors:
            tensors[spec.name] = vector[offset : offset + spec.size].reshape(spec.shape)
            offset += spec.size
        return tensors


def adapter_file(folder: Path, round_number: int) -> Path:
    """Where the adapter that a round ended with lives; 0 is the one that training began with."""
    return folder / f"round-{round_number:04d}.safetensors"


def save_adapter(path: Path, layout: AdapterLayout, vector: Vector) -> None:
    """Write an adapter as safetensors, whole or not at all."""
    partial = path.with_suffix(".partial")
    save_file(layout.unpack(vector), partial, metadata={"format": "pt"})
    partial.replace(path)


def load_adapter(path: Path) -> tuple[AdapterLayout, Vector]:
    """Read an adapter and its layout. Raises LayoutError when the file is not one."""
    try:
        with safe_open(path, framework="np") as file:
            names = list(file.keys())
            layout = AdapterLayout.of({name: file.get_slice(name).get_shape() for name in names})
            vector, offset = np.empty(layout.size, np.float32), 0
            for spec in layout.tensors:  # One at a time: it may be most of this machine's memory.
                vector[offset : offset + spec.size] = file.get_tensor(spec.name).reshape(-1)
                offset += spec.size
    except (OSError, SafetensorError) as error:
        raise LayoutError(f"{path} is not a safetensors adapter: {error}") from error
    return layout, vector
