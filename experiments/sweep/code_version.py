"""Which code measures: a digest of all that a trial's numbers depend on; one of other code is not done."""

from __future__ import annotations

import hashlib
from fnmatch import fnmatch
from functools import cache
from importlib import metadata
from pathlib import Path

from experiments.run import PACKAGES

_ROOT = Path(__file__).parents[2]
_OURS = ("proto", "server", "client", "emulation", "experiments")
_KINDS = {".py", ".c", ".h", ".safetensors", ".json"}
_ASIDE = [f"experiments/{name}/*" for name in ("bench", "figures", "paper", "report", "results", "sweep")]
_ASIDE += ["experiments/cli*.py"]
"""What starts runs or draws them, and changes none."""


@cache
def code_version() -> str:
    """Hexadecimal digest of our sources, the bundled base, and the packages' versions."""
    digest = hashlib.sha256()
    for folder in _OURS:
        for path in sorted((_ROOT / folder).rglob("*")):
            name = path.relative_to(_ROOT)
            if path.suffix not in _KINDS or any(fnmatch(str(name), aside) for aside in _ASIDE):
                continue
            digest.update(f"{name}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    for package in PACKAGES:
        digest.update(f"{package} {metadata.version(package)}\0".encode())
    return digest.hexdigest()[:16]
