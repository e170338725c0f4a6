"""The adapters that a run has left, round by round: the global ones, or each device's own."""

from __future__ import annotations

from pathlib import Path

from experiments.preflight import EvaluationError
from proto.adapter import AdapterLayout, Vector, load_adapter

_NAMES = "round-*.safetensors"


def owners(run_dir: Path) -> list[str]:
    """The devices that have adapters of their own, dev0 first; if none has, "" for all of them together."""
    devices = {path.parent.name for path in (run_dir / "adapters").glob(f"*/{_NAMES}")}
    return sorted(devices, key=lambda name: (len(name), name)) or [""]


def read_adapters(run_dir: Path, owner: str = "") -> dict[int, tuple[AdapterLayout, Vector]]:
    """Round -> the adapter after it, in order; round 0 is the one that training began with.

    A device that missed a round still has what it had. Raises EvaluationError.
    """
    folder = run_dir / "adapters"
    paths = [*folder.glob(_NAMES), *(folder / owner).glob(_NAMES)]
    try:
        adapters = {_round(path): load_adapter(path) for path in paths}
    except ValueError as error:
        raise EvaluationError(f"{run_dir}: {error}") from error
    last = max(map(_round, folder.rglob(_NAMES)), default=0)
    if 0 not in adapters or last == 0:
        raise EvaluationError(f"{run_dir} has no adapters of round 0 and a later one: no round was finished")
    if owner:
        for number in range(1, last + 1):
            adapters.setdefault(number, adapters[number - 1])
    return dict(sorted(adapters.items()))


def _round(path: Path) -> int:
    return int(path.stem.removeprefix("round-"))
