"""What was asked of a run's models, worked out once and kept beside the run."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from client.diffusion.retrieval import Answers, Split
from experiments.evaluate import Scorer
from experiments.whole_file import write_whole

MakeScorer = Callable[[], Scorer]
"""Called when it is first needed: a Scorer loads the base and the data."""


def kept(file: Path, key: list[Any], work: Callable[[], dict[Any, Any]]) -> dict[Any, Any]:
    """What `file` holds for `key`, its own keys as texts; or what `work` returns, which it holds then."""
    try:
        stored = json.loads(file.read_text())
        if stored["key"] == key:
            return dict(stored["values"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # Not there, or of another call: worked out anew.
    values = work()
    write_whole(file, json.dumps({"key": key, "values": values}))
    return values


def losses_of(scorer: MakeScorer, run_dir: Path, per_style: int) -> dict[int, float]:
    """Held-out loss after each round, 0 being before training."""
    losses = kept(run_dir / "losses.json", [per_style], lambda: scorer().losses(run_dir))
    return {int(number): float(loss) for number, loss in losses.items()}


def answers_of(
    scorer: MakeScorer,
    run_dir: Path,
    split: Split,
    queries: int,
    part: int,
    parts: int,
    number: int | None = None,
) -> Answers:
    """Of the model after round `number` (None: the last), by the `part`-th of `parts` sets of names, which
    are `queries` together."""
    key = f"{queries} {part} {parts}"
    file = run_dir / f"retrieval-{split}-{'last' if number is None else number}.npz"
    try:
        with np.load(file) as stored:
            if str(stored["key"]) == key:
                return Answers(*(stored[field.name] for field in fields(Answers)))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        pass
    answers = scorer().retrieval(run_dir, split, queries // parts, part, parts, number)
    partial = file.with_suffix(".partial.npz")
    np.savez_compressed(partial, key=np.array(key), **asdict(answers))
    partial.replace(file)
    return answers


def joined(parts: list[Answers]) -> Answers:
    """All of them as one: of several seeds, each asked for names of its own."""
    return Answers(
        *(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Answers))
    )
