"""A sweep's two tidy tables, from what its trials left.

`results.csv` has a row a trial, also where it failed: the varied keys, what became of it, and totals over
its rounds and devices. `rounds.csv` has a row a trial and round. Times are emulated, but for `wall_s`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.config import ConfigError
from experiments.sweep.store import Record, Store
from experiments.sweep.trial import Trial

LEVELS = [f"{level}_{way}_bytes" for level in ("payload", "message", "wire") for way in ("up", "down")]
_ALL_STYLES = "all"
"""The style of evaluation.csv that stands for every one of them."""

_BEFORE = ["outcome", "valid", "reason", "extrapolated"]
_NUMBERS = ["rounds_ended", "latency_mean_s", "latency_median_s", "bound_mean_s", "emulated_s"]
_AFTER = ["first_loss", "final_loss", "wall_s", "tries", "node", "run_dir"]
COLUMNS = ["trial", *_BEFORE, *_NUMBERS, *LEVELS, *_AFTER]
"""Of results.csv, beside the varied keys, which follow `trial`. emulated_s: from the first round's start to
the last's end; first_loss, final_loss: held out, before and after training; tries: how often it was run."""

ROUND_COLUMNS = ["trial", "outcome", "valid", "extrapolated", "round", "start_s", "latency_s", "bound_s"]
ROUND_COLUMNS += ["cohort", "clients_finished", *LEVELS, "retransmitted_segments", "loss"]
"""Of rounds.csv, and after them whatever else the runs' own rounds.csv have."""


Rows = tuple[dict[str, Any], list[dict[str, Any]]]


@dataclass(frozen=True)
class Tables:
    results: pd.DataFrame
    rounds: pd.DataFrame


def check_labels(trials: Sequence[Trial]) -> None:
    """Raises ConfigError for labels that differ between trials or are called like a column."""
    for trial in trials:
        if trial.labels.keys() != trials[0].labels.keys():
            raise ConfigError(f"'{trial}' and '{trials[0]}': the trials of a sweep have the same labels")
        if taken := trial.labels.keys() & {*COLUMNS, *ROUND_COLUMNS}:
            raise ConfigError(
                f"{min(taken)}: a column of the results has this name; call the label otherwise"
            )


def tables(trials: Sequence[Trial], rows: Mapping[str, Rows]) -> Tables:
    """Of all trials, in their order; `rows` by trial id of those that ended."""
    labels = list(trials[0].labels) if trials else []
    results, rounds = [], []
    for trial in trials:
        row, by_round = rows.get(trial.id) or (_not_run(trial), [])
        results.append(row)
        rounds += by_round
    more = [column for row in rounds for column in row]
    return Tables(
        pd.DataFrame(results, columns=[COLUMNS[0], *labels, *COLUMNS[1:]]),
        pd.DataFrame(
            rounds, columns=[*dict.fromkeys([ROUND_COLUMNS[0], *labels, *ROUND_COLUMNS[1:], *more])]
        ),
    )


def _not_run(trial: Trial) -> dict[str, Any]:
    reason = "the sweep has not come to it"
    return {"trial": trial.id, **trial.labels, "outcome": "not run", "valid": False, "reason": reason}


def rows_of(trial: Trial, record: Record, store: Store) -> Rows:
    """Its row of results.csv and its rows of rounds.csv, from the run directory."""
    ending = record.ending
    head: dict[str, Any] = {"trial": trial.id, **trial.labels}
    head |= {"outcome": ending.outcome, "valid": ending.outcome == "valid"}
    row = head | {"reason": ending.reason, "wall_s": ending.wall_s, "node": ending.node}
    row["tries"] = 1 + len(record.earlier)
    if ending.outcome == "failed":
        return row, []
    run_dir = store.folder_of(trial) / ending.run_dir
    row["run_dir"] = str(run_dir.relative_to(store.folder))
    rounds = pd.read_csv(run_dir / "rounds.csv")
    losses = _losses(run_dir)
    if len(rounds):
        row |= {
            "extrapolated": bool(rounds.get("extrapolated", pd.Series(False)).any()),
            "rounds_ended": len(rounds),
            "latency_mean_s": rounds["latency_s"].mean(),
            "latency_median_s": rounds["latency_s"].median(),
            "bound_mean_s": rounds["bound_s"].mean(),
            "emulated_s": (rounds["start_s"] + rounds["latency_s"]).max(),
        }
        row |= {level: int(rounds[level].sum()) for level in LEVELS}
    if losses:
        row |= {"first_loss": losses[min(losses)], "final_loss": losses[max(losses)]}
    by_round = [values | {"loss": losses.get(values["round"])} for values in rounds.to_dict("records")]
    return row, [head | {str(column): value for column, value in values.items()} for values in by_round]


def _losses(run_dir: Path) -> dict[int, float]:
    """Round -> held-out loss over every style; nothing where nobody evaluated."""
    file = run_dir / "evaluation.csv"
    if not file.exists():
        return {}
    table = pd.read_csv(file)
    table = table[table["style"] == _ALL_STYLES]
    return {int(number): float(loss) for number, loss in zip(table["round"], table["loss"], strict=True)}
