"""The held-out losses and the retrieval of trials, worked out once and kept beside each run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np

from client.diffusion.retrieval import Answers, Split
from experiments.bench.compression_settings import Preset
from experiments.evaluate import Scorer


def losses_of(scorer: Callable[[], Scorer], run_dir: Path, preset: Preset) -> dict[int, float]:
    """Kept, or worked out now."""
    file, key = run_dir / "losses.json", [preset.per_style]
    try:
        stored = json.loads(file.read_text())
        if stored["key"] == key:
            return {int(number): float(loss) for number, loss in stored["losses"].items()}
    except (OSError, ValueError, KeyError, TypeError):
        pass  # Not there, or of another call: worked out anew.
    losses = scorer().losses(run_dir)
    file.write_text(json.dumps({"key": key, "losses": losses}))
    return losses


def answers_of(
    scorer: Callable[[], Scorer], run_dir: Path, preset: Preset, split: Split, part: int
) -> Answers:
    """Of the last adapter, by this seed's part of the names: kept, or worked out now."""
    parts = len(preset.seeds)
    key = f"{preset.queries} {part} {parts}"
    file = run_dir / f"retrieval-{split}.npz"
    try:
        with np.load(file) as stored:
            if str(stored["key"]) == key:
                return Answers(*(stored[field.name] for field in fields(Answers)))
    except (OSError, ValueError, KeyError):
        pass
    answers = scorer().retrieval(run_dir, split, preset.queries // parts, part, parts)
    partial = file.with_suffix(".partial.npz")
    np.savez_compressed(partial, key=np.array(key), **asdict(answers))
    partial.replace(file)
    return answers


def joined(parts: list[Answers]) -> Answers:
    """All of them as one: of several seeds, each asked for names of its own."""
    return Answers(
        *(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Answers))
    )


def same_adapters(run_dir: Path, other: Path) -> bool:
    """Whether a run made the same global adapters as another in all of its rounds, bit by bit."""
    return _digests(run_dir).items() <= _digests(other).items()


def _digests(run_dir: Path) -> dict[str, str]:
    files = sorted((run_dir / "adapters").glob("round-*.safetensors"))
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
