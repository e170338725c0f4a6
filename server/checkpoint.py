"""The global adapter of each round on disk."""

from __future__ import annotations

from pathlib import Path

from proto.adapter import AdapterLayout, Vector, adapter_file, save_adapter


def write_checkpoint(directory: Path, round_number: int, layout: AdapterLayout, adapter: Vector) -> None:
    """Write the adapter that round `round_number` produced, 0 the initial one, whole or not at all."""
    directory.mkdir(parents=True, exist_ok=True)
    save_adapter(adapter_file(directory, round_number), layout, adapter)
