"""A run's folder as the report reads it: whatever is there, of whatever version, and nothing else."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from experiments import timeline
from experiments.timeline import Round

TABLES = ("rounds", "clients", "links", "channel", "evaluation", "retrieval")


class NotARunError(ValueError):
    """A folder that no report can be made of; the message says what is missing."""


@dataclass(frozen=True)
class RunFolder:
    """A run's manifest, those of its tables that exist, and its events where they were kept."""

    path: Path
    manifest: dict[str, Any]
    tables: dict[str, pd.DataFrame]
    events: list[Round]
    """By the event logs; empty where there are none."""

    @property
    def name(self) -> str:
        return str(self.manifest.get("run") or self.path.name)

    @property
    def valid(self) -> bool:
        return self.manifest.get("valid") is True

    @property
    def ended(self) -> bool:
        """Whether it came to its tables."""
        return "rounds" in self.tables and "clients" in self.tables

    def get(self, key: str, default: Any = None) -> Any:
        """A value of the configuration by its key, such as `adapter.rank`; an older run may lack it."""
        value: Any = self.manifest["config"]
        for part in key.split("."):
            if not isinstance(value, dict) or value.get(part) is None:
                return default
            value = value[part]
        return value

    def column(self, table: str, name: str) -> pd.Series | None:
        """A table's column; None where either is missing or nothing stands in it."""
        frame = self.tables.get(table)
        if frame is None or name not in frame or frame[name].isna().all():
            return None
        return frame[name]

    def picture(self, name: str) -> Path | None:
        """A figure of the run: figures/NAME.png, or NAME.png where results are kept flat."""
        places = (self.path / "figures" / f"{name}.png", self.path / f"{name}.png")
        return next((place for place in places if place.is_file()), None)

    @property
    def devices(self) -> list[str]:
        """In the order of their numbers."""
        names: set[str] = set()
        if "clients" in self.tables:
            names |= set(self.tables["clients"]["client"].astype(str))
        for one in self.events:
            names |= set(one.clients)
        return sorted(names, key=lambda name: (len(name), name))


def read_run(folder: Path) -> RunFolder:
    """Raises NotARunError, in one line, where there is no manifest or a table cannot be read."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
    except (OSError, ValueError) as error:
        raise NotARunError(f"{folder} is not a run: its manifest.json cannot be read: {error}") from error
    if not isinstance(manifest, dict) or not isinstance(manifest.get("config"), dict):
        raise NotARunError(f"{folder} is not a run: its manifest.json holds no configuration")
    tables = {}
    for name in TABLES:
        path = folder / f"{name}.csv"
        if path.exists():
            try:
                tables[name] = pd.read_csv(path)
            except pd.errors.EmptyDataError:
                continue  # A run in which nothing took place has tables without rows or columns.
            except (OSError, ValueError) as error:
                raise NotARunError(f"{path} cannot be read: {error}") from error
    for name, keys in (("rounds", {"round", "start_s", "latency_s"}), ("clients", {"round", "client"})):
        if name in tables and not keys <= set(tables[name]):
            raise NotARunError(f"{folder / name}.csv has no column {', '.join(keys - set(tables[name]))}")
    dilation = float(manifest["config"].get("dilation") or 1.0)
    try:
        events = timeline.build(timeline.read_events(folder / "events", dilation))
    except (KeyError, TypeError) as error:
        raise NotARunError(f"{folder / 'events'}: an event has no {error}") from error
    return RunFolder(folder, manifest, tables, events)
