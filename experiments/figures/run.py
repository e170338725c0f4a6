"""All figures of one run, from its tables."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from experiments.figures import bytes as bytes_figure
from experiments.figures import channel as channel_figure
from experiments.figures import latency, style


class NotARunError(ValueError):
    """A folder without a run's tables; the message names what is missing."""


def draw_run(run_dir: Path) -> list[Path]:
    """figures/latency.* and figures/bytes.*; returns their paths. Raises NotARunError."""
    try:
        valid = bool(json.loads((run_dir / "manifest.json").read_text())["valid"])
        clients = pd.read_csv(run_dir / "clients.csv")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NotARunError(f"{run_dir} is not a finished run: {error}") from error
    folder = run_dir / "figures"
    folder.mkdir(exist_ok=True)
    paths = []
    figures = {"latency": latency.draw(clients), "bytes": bytes_figure.draw(clients)}
    if (run_dir / "channel.csv").exists():
        channel, rounds = pd.read_csv(run_dir / "channel.csv"), pd.read_csv(run_dir / "rounds.csv")
        figures["channel"] = channel_figure.draw(channel, rounds, clients)
    for name, figure in figures.items():
        paths += style.save(figure, folder / name, valid=valid)
    return paths
