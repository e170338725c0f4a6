"""The adapter of one that trains by itself: nothing of it crosses the network."""

from __future__ import annotations

from pathlib import Path

from client.training import Trainer
from proto.adapter import AdapterLayout, LayoutError, Vector, adapter_file, load_adapter, save_adapter


class OwnAdapter:
    """In memory, and in `folder` as it is after each round; without a folder in memory alone."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._vector: Vector | None = None

    def before(self, number: int, trainer: Trainer) -> Vector:
        """What round `number` starts from, shape (layout.size,): what the last one left, be it that of an
        earlier process, or the trainer's initial adapter. Raises LayoutError."""
        if self._vector is None:
            self._vector = self._left(number, trainer.layout)
        if self._vector is None:
            self._vector = trainer.initial()
        return self._vector

    def keep(self, number: int, layout: AdapterLayout, vector: Vector) -> None:
        """It is what round `number` has come to; the caller must not change it."""
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            save_adapter(adapter_file(self._folder, number), layout, vector)
        self._vector = vector

    def _left(self, number: int, layout: AdapterLayout) -> Vector | None:
        """That of the last round before `number` of which there is a file."""
        if self._folder is None:
            return None
        for earlier in reversed(range(number)):
            path = adapter_file(self._folder, earlier)
            if path.exists():
                stored, vector = load_adapter(path)
                if stored != layout:
                    raise LayoutError(f"{path} is not an adapter of this task's layout")
                return vector
        return None
