"""The global adapter of each round on disk."""

from __future__ import annotations

from pathlib import Path

from proto.adapter import AdapterLayout, Vector, save_adapter


def checkpoint_path(directory: Path, round_number: int) -> Path:
    """Where the adapter that round `round_number` produced lives; 0 is the initial one."""
    return directory / f"round-{round_number:04d}.safetensors"


def write_checkpoint(directory: Path, round_number: int, layout: AdapterLayout, adapter: Vector) -> None:
    """Write it whole or not at all."""
    directory.mkdir(parents=True, exist_ok=True)
    save_adapter(checkpoint_path(directory, round_number), layout, adapter)
