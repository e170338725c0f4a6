"""What the trials' run directories hold, as three tidy tables with the trials' labels.

`trials` a row a trial, whatever became of it; `rounds` a row a trial and round (its rounds.csv); `devices` a
row a trial, round and device (its clients.csv, and what the device's link and compute were asked to be); of
central training the server's own trainer is there too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from experiments import computing
from experiments.config import Experiment
from experiments.sweep import Sweep, Trial

HEAD = ["trial", "part", "family", "scheme", "point", "seed", "outcome", "valid"]
"""Of every table here."""
_OF_TRIALS = [*HEAD, "reason", "tries", "wall_s", "run_dir"]


@dataclass(frozen=True)
class Measured:
    trials: pd.DataFrame
    rounds: pd.DataFrame
    devices: pd.DataFrame


def measured(sweeps: Sequence[tuple[Sequence[Trial], Sweep]], folder: Path) -> Measured:
    """Of several sweeps; run directories are given relative to `folder`."""
    trials, rounds, devices = [], [], []
    for wanted, sweep in sweeps:
        experiments = {one.id: one.experiment for one in wanted}
        for row in sweep.results.rename(columns={"setting": "scheme"}).to_dict("records"):
            run_dir: Any = row.get("run_dir")
            has_run = isinstance(run_dir, str) and bool(run_dir)
            where = str((sweep.folder / run_dir).relative_to(folder)) if has_run else ""
            trials.append({key: row.get(key) for key in _OF_TRIALS} | {"run_dir": where})
            if not has_run or row["outcome"] == "not run":
                continue
            head = {key: row[key] for key in HEAD}
            experiment = experiments[row["trial"]]
            run = sweep.folder / run_dir
            rounds.append(_labelled(pd.read_csv(run / "rounds.csv"), head | _of_run(experiment)))
            devices.append(
                _labelled(
                    pd.read_csv(run / "clients.csv").merge(_asked(experiment), on="client", how="left"), head
                )
            )
    return Measured(pd.DataFrame(trials, columns=_OF_TRIALS), _joined(rounds), _joined(devices))


def _labelled(table: pd.DataFrame, head: dict[str, Any]) -> pd.DataFrame:
    """What the suite says of a trial stands for what its run calls by the same name."""
    own = table.drop(columns=[column for column in table if column in head])
    return pd.concat([pd.DataFrame([head] * len(table), index=table.index), own], axis=1)


def _joined(tables: list[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=HEAD)


def _of_run(experiment: Experiment) -> dict[str, Any]:
    return {
        "devices": len(experiment.expanded_devices()),
        "dilation": experiment.dilation,
        "noise_asked": experiment.privacy.noise_multiplier or 0.0,
    }


def _asked(experiment: Experiment) -> pd.DataFrame:
    """A row a device: its link's rates, round-trip time and loss, its TCP and what it computes on."""
    rows = []
    links = {link.device: link for link in experiment.links()}
    for name, device in experiment.expanded_devices():
        link = links[name]
        rows.append(
            {
                "client": name,
                "rate_up_bps": link.up.rate_bps,
                "rate_down_bps": link.down.rate_bps,
                "rtt_s": link.up.delay_s + link.down.delay_s,
                "packet_loss": link.up.loss,
                "congestion_control": device.congestion_control or experiment.network.congestion_control,
                "profile": profile.name if (profile := computing.profile_of(experiment, device)) else "",
            }
        )
    return pd.DataFrame(rows)
