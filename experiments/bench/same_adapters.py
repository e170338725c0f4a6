"""Whether two runs have learned the same, so that only one of them need be asked."""

from __future__ import annotations

import hashlib
from pathlib import Path


def same_adapters(run_dir: Path, other: Path) -> bool:
    """Whether a run made the same global adapters as another in all of its rounds, bit by bit."""
    return _digests(run_dir).items() <= _digests(other).items()


def _digests(run_dir: Path) -> dict[str, str]:
    files = sorted((run_dir / "adapters").glob("round-*.safetensors"))
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
