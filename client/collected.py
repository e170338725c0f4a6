"""What devices have sent of their training data, on the server's host: a file of each."""

from __future__ import annotations

from pathlib import Path

SUFFIX = ".data"


def collected_files(folder: Path) -> list[Path]:
    """In the devices' order, whoever was first. Raises ValueError where there is none."""
    files = sorted(folder.glob(f"*{SUFFIX}"), key=lambda path: (len(path.name), path.name))
    if not files:
        raise ValueError(f"{folder} holds no device's training data")
    return files
