"""What the bundled base has learned in each trial, asked once and kept beside its run.

Held-out losses after every round, style retrieval after some, and how well members of the training set are
told from others by the final model (experiments/membership.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from client.diffusion.retrieval import load_gallery
from experiments import retrieval
from experiments.config import BUNDLED_BASE
from experiments.evaluate import Scorer
from experiments.kept_scores import answers_of, joined, kept, losses_of
from experiments.membership import membership_auc
from experiments.paper.measured import HEAD, Measured
from experiments.paper.presets import Preset


@dataclass(frozen=True)
class Scores:
    """`losses` a row a trial and round, 0 before training, with the emulated time of its end; `retrieval` a
    row a scheme, split of names and round, and ceiling and chance; `attacks` a row a trial."""

    losses: pd.DataFrame
    retrieval: pd.DataFrame
    attacks: pd.DataFrame


def scores(found: Measured, preset: Preset, folder: Path, say: Callable[[str], None]) -> Scores:
    """Of all trials of the bundled base that left a run, the invalid ones too: what is learned is no timing.

    Raises BaseError, and DataError where the emoji are not set up.
    """
    trials = found.trials[(found.trials["family"] == "bundled") & (found.trials["run_dir"] != "")]
    scorer = cache(lambda: Scorer(str(BUNDLED_BASE), preset.per_style))
    losses, attacks = [], []
    for number, row in enumerate(trials.to_dict("records"), start=1):
        run_dir = folder / row["run_dir"]
        head = {key: row[key] for key in HEAD}
        own = found.rounds[found.rounds["trial"] == row["trial"]]
        ends = {0: 0.0} | dict(zip(own["round"], own["start_s"] + own["latency_s"], strict=True))
        by_round = losses_of(scorer, run_dir, preset.per_style)
        losses += [head | {"round": n, "time_s": ends[n], "loss": by_round[n]} for n in ends]
        attacks.append(head | _attack(run_dir, preset))
        say(f"{number}/{len(trials)} {row['scheme']} {row['point']}: loss {by_round[max(ends)]:.4f}")
    return Scores(
        pd.DataFrame(losses, columns=[*HEAD, "round", "time_s", "loss"]),
        _retrieval(scorer, trials, pd.DataFrame(losses), preset, folder, say),
        pd.DataFrame(attacks, columns=[*HEAD, "auc", "auc_low", "auc_high"]),
    )


def _attack(run_dir: Path, preset: Preset) -> dict[str, float]:
    """AUC of the loss-threshold attack, with its interval."""

    def attacked() -> dict[str, float]:
        found = membership_auc(run_dir, most=preset.members, draws=preset.draws).attacks["loss"]
        return {"auc": found.auc, "auc_low": found.auc_low, "auc_high": found.auc_high}

    return kept(run_dir / "membership.json", [preset.members, preset.draws], attacked)


def _retrieval(
    scorer: Callable[[], Scorer],
    trials: pd.DataFrame,
    losses: pd.DataFrame,
    preset: Preset,
    folder: Path,
    say: Callable[[str], None],
) -> pd.DataFrame:
    """All seeds of a scheme together, each asked for names of its own."""
    rows: list[dict[str, Any]] = []
    learning = trials[trials["part"] == "learning"]
    for split in preset.splits if len(learning) else ():
        gallery = load_gallery(split)
        # Before training all are the base: one of them is asked for the others of its seed.
        first = dict(zip(learning["seed"][::-1], learning["run_dir"][::-1], strict=True))
        for scheme, own in learning.groupby("scheme", sort=False):
            for number in (0, *preset.retrieval_rounds):
                seeds = zip(own["seed"], own["run_dir"], strict=True)
                asked = [
                    answers_of(
                        *(scorer, folder / (run_dir if number else first[seed]), split, preset.queries),
                        *(preset.seeds.index(seed), len(preset.seeds), number),
                    )
                    for seed, run_dir in seeds
                ]
                when = losses[losses["trial"].isin(own["trial"]) & (losses["round"] == number)]
                head = {"scheme": scheme, "round": number, "time_s": when["time_s"].mean()}
                head["valid"] = bool(own["valid"].all())
                rows += [head | row for row in retrieval.rows(str(scheme), split, joined(asked), gallery)]
            say(f"drawn: {scheme}, {split} names")
        rows += retrieval.rows("ceiling", split, scorer().ceiling(split, preset.queries), gallery)
        rows.append(retrieval.chance_row(split, gallery))
    table = pd.DataFrame(rows, columns=["scheme", "round", "time_s", "valid", *_RETRIEVED])
    table["scheme"] = table["scheme"].fillna(table["source"])
    return table[table["style"] == retrieval.ALL].drop(columns=["source", "style"]).reset_index(drop=True)


_RETRIEVED = ["source", "names", "style", "queries"]
_RETRIEVED += [f"{measure}{end}" for measure in retrieval.MEASURES for end in ("", "_low", "_high")]
