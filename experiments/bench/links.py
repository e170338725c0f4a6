"""`fedcell bench links`: links configured against links measured, over a grid, at rest and under load."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from emulation.backend import choose
from emulation.calibration import Check, calibrate, estimate_s
from emulation.hypervisor import stolen_s
from emulation.link import AccessLink
from emulation.topology import Network
from experiments.bench import grid, links_tables
from experiments.bench.forwarding import TARGET_FRAMES_PER_S, frames_per_s
from experiments.bench.grid import GridSize, Part
from experiments.bench.loads import Load, Loaded
from experiments.figures import fidelity, style

IN_SECONDS = ("rtt", "delay", "timing")
"""Metrics whose gate is a time; the others' is a share of what was configured."""
_BUILD_S, _BUILD_LINK_S = 4.0, 0.5
_FORWARDING_S = 10.0
_STOLEN, _REPEATS = 0.001, 2
"""A miss while a hypervisor had more of the processors may be its own: measured again, twice."""


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
    repeated: list[str] = field(default_factory=list)
    """Measurements thrown away, because a hypervisor had the processors just then."""
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
            "repeated": self.repeated,
            "took_s": self.took_s,
            "machine": machine(),
            "rows": self.rows,
        }


def run(size: GridSize, backend: str) -> LinksBench:
    """Measure; what is under way, and for how long, goes to standard error. Raises LinkError.

    Must run inside a sandbox (emulation.sandbox).
    """
    parts = grid.parts(size)
    bench = LinksBench(choose(backend).name, size)
    start = time.monotonic()
    left_s = _FORWARDING_S + sum(_estimate_s(part) * len(part.loads) for part in parts)
    cores: list[float] = []
    for number, part in enumerate(parts):
        for load in part.loads:
            beside = f" beside {load.title}" if load.processes else ""
            _say(f"{part.name}: {len(part.links)} links{beside}; about {left_s / 60:.0f} min to go")
            for again in range(_REPEATS + 1):
                measured = _measure(part, load, bench.backend, seed=100 * number + load.processes)
                if not measured.spoilt or again == _REPEATS:
                    break
                bench.repeated.append(f"{part.name}{beside}: {measured.stolen:.1%} stolen")
                _say(f"again, for a hypervisor took {measured.stolen:.1%} of the processors")
            bench.rows += measured.rows
            bench.violations += [f"{part.name}{beside}: {reason}" for reason in measured.violations]
            if measured.load_cpu is not None:
                cores.append(measured.load_cpu)
            left_s -= _estimate_s(part)
    _say("frames a second")
    bench.frames_per_s = frames_per_s(bench.backend)
    bench.load_cpu = sum(cores) / len(cores) if cores else None
    bench.took_s = time.monotonic() - start
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


def rows(checks: Sequence[Check], links: Sequence[AccessLink], part: str, load: Load) -> list[dict[str, Any]]:
    """Checks with what their links were asked to be (SI units), and by how much they are off.

    `deviation` is measured less configured, as a share of configured unless the metric is IN_SECONDS or
    nothing was configured; `of_gate` is that deviation as a share of what the gate allows on its side.
    """
    asked = {link.device: link for link in links}
    found = []
    for check in checks:
        link = asked[check.link]
        spec = link.down if check.direction == "down" else link.up
        verdict = {True: "pass", False: "miss", None: "reported"}[check.passed]
        if check.passed is None and check.measured is None:
            verdict = "not tested"
        found.append(
            {
                "part": part,
                "load": load.name,
                "rate_bps": spec.rate_bps,
                "delay_s": spec.delay_s,
                "jitter_s": spec.jitter_s,
                "loss": spec.loss,
                **{key: value for key, value in asdict(check).items() if key not in ("bounds", "passed")},
                "deviation": _deviation(check),
                "of_gate": _of_gate(check),
                "verdict": verdict,
            }
        )
    return found


def _deviation(check: Check) -> float | None:
    if check.measured is None or check.configured is None:
        return None
    away = check.measured - check.configured
    return away if check.metric in IN_SECONDS or not check.configured else away / check.configured


def _of_gate(check: Check) -> float | None:
    if check.measured is None or check.configured is None or check.bounds is None:
        return None
    away = check.measured - check.configured
    room = check.bounds[1] - check.configured if away > 0 else check.configured - check.bounds[0]
    return away / room if room > 0 else None if away else 0.0


@dataclass
class _Measured:
    rows: list[dict[str, Any]]
    violations: list[str]
    load_cpu: float | None
    stolen: float
    """Share of this machine's processor time that a hypervisor gave to others meanwhile."""

    @property
    def spoilt(self) -> bool:
        missed = bool(self.violations) or any(row["verdict"] == "miss" for row in self.rows)
        return missed and self.stolen > _STOLEN


def _measure(part: Part, load: Load, backend: str, seed: int) -> _Measured:
    with Network(part.links, backend=backend, seed=seed) as network, Loaded(load) as loaded:
        start, stolen_before_s = time.monotonic(), stolen_s()
        checks = calibrate(network, quick=part.quick)
        took_s = time.monotonic() - start
        return _Measured(
            rows(checks, part.links, part.name, load),
            network.violations(),
            loaded.cpu_s() / took_s if load.processes else None,
            (stolen_s() - stolen_before_s) / (took_s * (os.cpu_count() or 1)),
        )


def _estimate_s(part: Part) -> float:
    building_s = _BUILD_S + _BUILD_LINK_S * len(part.links)
    return building_s + estimate_s(part.links, quick=part.quick)


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
