"""The suite end to end: plan, trials, tables, figures, report."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from experiments.figures import style
from experiments.paper import report, tables
from experiments.paper.figures import (
    allocation,
    analytic,
    bandwidth,
    cost,
    devices,
    energy,
    latency,
    learning,
    paths,
    privacy,
)
from experiments.paper.headline import claims, headline, where_not
from experiments.paper.learned import learned, privacy_costs
from experiments.paper.measured import Measured, measured
from experiments.paper.plan import trials_of
from experiments.paper.presets import Preset
from experiments.paper.schemes import SCHEMES
from experiments.paper.scores import scores
from experiments.record import json_rows, write_manifest, write_table
from experiments.sweep import run_trials
from experiments.sweep.code_version import code_version
from experiments.whole_file import write_whole

FIGURES: dict[str, Callable[[dict[str, pd.DataFrame]], Figure]] = {
    "cost": cost.draw,
    "latency": latency.draw,
    "bandwidth": bandwidth.draw,
    "devices": devices.draw,
    "paths": paths.draw,
    "learning": learning.draw,
    "energy": energy.draw,
    "analytic": analytic.draw,
    "allocation": allocation.draw,
    "privacy": privacy.draw,
}
"""In the order of the issue that asked for them, and of the report."""


@dataclass(frozen=True)
class Suite:
    """What it came to. `figures` name -> PDF; `tables` name -> table, each a CSV in the folder."""

    folder: Path
    tables: dict[str, pd.DataFrame]
    figures: dict[str, Path]
    report: Path
    took_s: float

    @property
    def trials(self) -> pd.DataFrame:
        return self.tables["trials"]

    @property
    def bad(self) -> pd.DataFrame:
        """Trials that are invalid, failed or were never run."""
        return self.trials[~self.trials["valid"].astype(bool)]

    @property
    def valid(self) -> bool:
        return self.bad.empty

    @property
    def headlines(self) -> list[str]:
        return list(claims(self.tables["headline"]))

    @property
    def limits(self) -> list[str]:
        return list(where_not(*(self.tables[name] for name in ("headline", "bandwidth", "energy"))))

    @property
    def troubles(self) -> list[str]:
        return [
            f"{row['outcome'].upper()}: {row['part']}, {row['scheme']}, {row['point']}, seed {row['seed']}: "
            f"{row['reason']}"
            for row in self.bad.to_dict("records")
        ]

    def to_json(self) -> dict[str, Any]:
        """The `paper` document of the command line."""
        return {
            "out_dir": str(self.folder),
            "figures": {name: str(path) for name, path in self.figures.items()},
            "report": str(self.report),
            "tables": {name: str(self.folder / f"{name}.csv") for name in self.tables},
            "valid": self.valid,
            "trials": len(self.trials),
            "not_valid": self.troubles,
            "headline": json_rows(self.tables["headline"]),
            "claims": self.headlines,
            "where_not": self.limits,
            "took_s": self.took_s,
        }


def run(preset: Preset, folder: Path, *, retry_invalid: bool = False) -> Suite:
    """Run what is not done in `folder`, and draw everything anew. Must not run inside a sandbox.

    Raises ConfigError before anything runs; DataError and BaseError where there is nothing to train on.
    """
    begin = time.monotonic()
    planned = trials_of(preset)
    sweeps = []
    for family, wanted in planned.items():
        _say(f"{len(wanted)} trials of {family}")
        sweep = run_trials(
            wanted,
            folder / "sweeps" / family,
            retry_invalid=retry_invalid,
            repeats=preset.repeats,
            about={"paper": preset.name},
            say=_say,
        )
        sweeps.append((wanted, sweep))
    found = tables.prepared(measured(sweeps, folder))
    _say("asking what was learned")
    every = _tables(found, preset, folder)
    for name, table in every.items():
        write_table(table, folder / f"{name}.csv")
    figures = _draw(every, folder)
    result = Suite(folder, every, figures, folder / "report.html", time.monotonic() - begin)
    write_whole(result.report, report.document(result, preset))
    write_manifest(result.to_json() | {"preset": preset.name, "code": code_version()}, folder / "paper.json")
    return result


def _tables(found: Measured, preset: Preset, folder: Path) -> dict[str, pd.DataFrame]:
    every = {"trials": found.trials} | {name: make(found) for name, make in tables.TABLES.items()}
    asked = scores(found, preset, folder, _say)
    every |= {"learning": learned(asked.losses), "retrieval": asked.retrieval}
    every |= {"privacy": privacy_costs(found, asked), "headline": headline(found, asked.losses)}
    return {name: _in_order(table) for name, table in every.items()}


def _in_order(table: pd.DataFrame) -> pd.DataFrame:
    """By schemes as they are listed, where a table has any; families, parts and policies stay together."""
    if "scheme" not in table:
        return table
    first = [column for column in ("family", "part", "against") if column in table]
    places = pd.DataFrame(
        {"scheme": table["scheme"].map({name: place for place, name in enumerate(SCHEMES)})}
    )
    for column in first:
        places[column] = pd.factorize(table[column])[0]
    return table.loc[places.sort_values([*first, "scheme"], kind="stable").index].reset_index(drop=True)


def _draw(every: dict[str, pd.DataFrame], folder: Path) -> dict[str, Path]:
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    written = {}
    for name, draw in FIGURES.items():
        # Each point says itself whether it can be trusted.
        _, written[name] = style.save(draw(every), folder / "figures" / name, valid=True)
    return written


def _say(text: str) -> None:
    print(f"paper: {text}", file=sys.stderr, flush=True)
