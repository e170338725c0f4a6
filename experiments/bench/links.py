"""`fedcell bench links`: links configured against links measured, over a grid, at rest and under load."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from emulation.backend import choose
from emulation.calibration import estimate_s
from experiments.bench import grid, links_tables
from experiments.bench.forwarding import TARGET_FRAMES_PER_S, frames_per_s
from experiments.bench.grid import GridSize, Part
from experiments.bench.links_part import measure
from experiments.figures import fidelity, style

_BUILD_S, _BUILD_LINK_S = 4.0, 0.5
_FORWARDING_S = 10.0


@dataclass
class LinksBench:
    """What the bench came to: a row per link, direction, metric and load."""

    backend: str
    grid: GridSize
    rows: list[dict[str, Any]] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    """What a backend said of itself; each makes the bench invalid."""
    frames_per_s: float = 0.0
    load_cpu: float | None = None
    """Cores that the load got, mean over the measurements beside one."""
    thrown_away: list[str] = field(default_factory=list)
    """Links measured again, because a hypervisor had the processors just then, or with --resume."""
    took_s: float = 0.0

    def count(self, verdict: str) -> int:
        return sum(row["verdict"] == verdict for row in self.rows)

    @property
    def valid(self) -> bool:
        return not self.violations and not self.count("miss")

    def table(self) -> pd.DataFrame:
        return pd.DataFrame(self.rows)

    def to_json(self) -> dict[str, Any]:
        """The `bench links` document of the command line."""
        return {
            "backend": self.backend,
            "grid": self.grid,
            "valid": self.valid,
            "passed": self.count("pass"),
            "failed": self.count("miss"),
            "not_tested": self.count("not tested"),
            "frames_per_s": self.frames_per_s,
            "frames_per_s_target": TARGET_FRAMES_PER_S,
            "violations": self.violations,
            "load_cpu": self.load_cpu,
            "thrown_away": self.thrown_away,
            "took_s": self.took_s,
            "machine": machine(),
            "rows": self.rows,
        }


def run(size: GridSize, backend: str, folder: Path, *, resume: bool = False) -> LinksBench:
    """Measure; what is under way, and for how long, goes to standard error. Raises LinkError.

    Each part is kept in `folder` when it is done. Must run inside a sandbox (emulation.sandbox).
    """
    parts = grid.parts(size)
    bench = LinksBench(choose(backend).name, size)
    left_s = _FORWARDING_S + sum(_estimate_s(part) * len(part.loads) for part in parts)
    cores: list[float] = []
    for number, part in enumerate(parts):
        for load in part.loads:
            beside = f" beside {load.title}" if load.processes else ""
            _say(f"{part.name}: {len(part.links)} links{beside}; about {left_s / 60:.0f} min to go")
            seed = 100 * number + load.processes
            measured = measure(part, load, bench.backend, seed, folder / "parts", resume=resume)
            bench.rows += measured.rows
            bench.violations += [f"{part.name}{beside}: {reason}" for reason in measured.violations]
            bench.thrown_away += measured.thrown_away
            bench.took_s += measured.took_s
            if measured.load_cpu is not None:
                cores.append(measured.load_cpu)
            left_s -= _estimate_s(part)
    _say("frames a second")
    bench.frames_per_s = frames_per_s(bench.backend)
    bench.load_cpu = sum(cores) / len(cores) if cores else None
    return bench


def write(bench: LinksBench, folder: Path) -> list[Path]:
    """links.csv, links.json, links.md and the figure, in `folder`; their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    table = bench.table()
    table.to_csv(folder / "links.csv", index=False)
    (folder / "links.json").write_text(json.dumps(bench.to_json(), indent=1) + "\n")
    (folder / "links.md").write_text(links_tables.markdown(bench.to_json(), table))
    # A miss is a point beyond its gate: the figure itself shows what is wrong.
    pictures = style.save(fidelity.draw(table), folder / "links", valid=True)
    return [folder / "links.csv", folder / "links.json", folder / "links.md", *pictures]


def _estimate_s(part: Part) -> float:
    building_s = _BUILD_S + _BUILD_LINK_S * len(part.links)
    return building_s + estimate_s(part.links, quick=part.quick, frames_per_s=part.frames_per_s)


def machine() -> dict[str, Any]:
    """What was measured on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cpu": names[0] if names else platform.machine(),
        "kernel": platform.release(),
        "date": time.strftime("%Y-%m-%d"),
    }


def _say(text: str) -> None:
    print(f"bench links: {text}", file=sys.stderr, flush=True)
