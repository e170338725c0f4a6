"""`fedcell bench scale`: how many devices, each a real process that really trains, a machine carries.

Training takes turns on the cores, so that many devices take long; a compute profile says how long the device
would take, and time is dilated until the real work of all devices fits into it. How far is measured first.
"""

from __future__ import annotations

import itertools
import math
import os
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emulation.calibration import estimate_s as calibration_s
from emulation.dilation import dilate
from emulation.hypervisor import SPOILING_SHARE, Theft
from experiments import config, record, timeline
from experiments.bench import local_round
from experiments.config import ConfigError, Experiment
from experiments.memory import MemoryWatch
from experiments.run import Run
from experiments.timeline import Event

CONFIG = Path(__file__).parent.parent / "configs" / "scale.yaml"
DEVICES = (4, 16, 50, 100)
START_TARGET_S = 60.0
PRIVATE_TARGET_MB = 120.0
TOTAL_TARGET_MB = 24e3
MARGIN = 2.0
"""Real work may take that much longer than it did when it was measured, before it outlasts the profile."""

STARTS = ("network", "model", "calibration", "server", "forks", "joins")
"""Parts of `start_s`, one after the other: building the network (the model loads meanwhile), the rest of
loading it, calibration, starting the server, forking devices, until all have joined and round 1 starts."""

_START_S, _START_EACH_S = 15.0, 0.35  # For the estimate: a run's start and end, and what a device adds.


@dataclass(frozen=True)
class Row:
    """One run. Times in real seconds, but for `emulated_s` (of all rounds), `latency_s` and `bound_s` (of the
    last). Memory in MB (1e6 bytes): the most any device had to itself while it trained, the median device's
    most, and what all processes of the run held together."""

    devices: int
    start_s: float
    starts_s: dict[str, float]
    private_mb: float
    private_median_mb: float
    devices_seen: int
    """Of how many devices the memory was seen while they trained."""
    total_mb: float
    dilation: float
    wall_s: float
    emulated_s: float
    wall_per_emulated_s: float
    latency_s: float
    bound_s: float
    rounds: list[dict[str, Any]]
    valid: bool
    invalid_reasons: list[str]
    warnings: list[str]
    stolen: float
    """Share of the processors that a hypervisor took meanwhile."""
    repeated: bool
    """Whether this is the second try, for the first was invalid and a hypervisor in it."""
    run_dir: str
    misses: list[str] = field(default_factory=list)


def run(output: Path, sizes: Sequence[int] = DEVICES, file: Path = CONFIG) -> Iterator[Row]:
    """A run with each number of devices, its row when it has ended. Must run inside a sandbox
    (emulation.sandbox)."""
    cores = len(os.sched_getaffinity(0))
    work_s = local_round.measure_s(sized(file, max(sizes), 1.0, output))
    _say(f"a device's round of training takes {work_s:.2f} s with all {cores} cores busy")
    experiments = []
    for devices in sizes:
        dilation = fitting_dilation(devices, cores, work_s, profile_s(sized(file, devices, 1.0, output)))
        experiments.append(sized(file, devices, dilation, output))
    left_s = [estimate_s(experiment) for experiment in experiments]
    for number, (devices, experiment) in enumerate(zip(sizes, experiments, strict=True)):
        minutes = sum(left_s[number:]) / 60
        _say(f"{devices} devices at a dilation of {experiment.dilation:g}; about {minutes:.0f} min to go")
        row = _measure(devices, experiment)
        if not row.valid and row.stolen > SPOILING_SHARE:  # Once more, and no more.
            _say(f"INVALID: {row.invalid_reasons[0]} (one of {len(row.invalid_reasons)})")
            _say(f"again, for a hypervisor took {row.stolen:.1%} of the processors")
            row = _measure(devices, experiment, repeated=True)
        yield row


def sized(file: Path, devices: int, dilation: float, output: Path) -> Experiment:
    """The experiment with so many devices. Raises ConfigError for one that cannot be scaled."""
    changes = [f"dilation={dilation:g}", f"output={output}", f"network.devices.0.count={devices}"]
    experiment = config.load(file, [*changes, f"name=scale-{devices}"])
    if len(experiment.network.devices) != 1 or experiment.compute.seconds_per_step is None:
        raise ConfigError(
            f"{file}: to be scaled it needs one entry in network.devices, and a compute profile"
        )
    return experiment


def profile_s(experiment: Experiment) -> float:
    """How long a device's round of training takes by its profile, emulated seconds."""
    assert experiment.compute.seconds_per_step is not None
    return experiment.compute.seconds_per_step * experiment.training.steps


def fitting_dilation(devices: int, cores: int, work_s: float, profile_s: float) -> float:
    """The least whole dilation at which `cores` do all devices' work, `work_s` each, within their profile's
    time, with room for MARGIN. The last device has waited for all before it."""
    return float(max(1, math.ceil(MARGIN * math.ceil(devices / cores) * work_s / profile_s)))


def estimate_s(experiment: Experiment) -> float:
    """About how long a run takes, real seconds."""
    dilation, devices = experiment.dilation, len(experiment.expanded_devices())
    links = [dilate(link, dilation) for link in experiment.links()]
    round_s = dilation * (profile_s(experiment) + 2.0)  # About what transfers take.
    return _START_S + _START_EACH_S * devices + calibration_s(links, quick=True) + experiment.rounds * round_s


def _measure(devices: int, experiment: Experiment, *, repeated: bool = False) -> Row:
    began, theft = time.monotonic(), Theft()
    one = Run(experiment)
    with MemoryWatch(one.dir) as memory:
        result = one.execute()
    wall_s = time.monotonic() - began
    stolen = theft.share()
    private = sorted(memory.private_mb.values()) or [math.nan]
    rounds = record.json_rows(result.rounds[["round", "latency_s", "bound_s", "cohort", "clients_finished"]])
    starts = starts_s(timeline.read_events(one.dir / "events"))
    emulated_s = float(result.rounds["latency_s"].sum())
    row = Row(
        devices=devices,
        start_s=sum(starts.values()),
        starts_s=starts,
        private_mb=private[-1],
        private_median_mb=statistics.median(private),
        devices_seen=len(memory.private_mb),
        total_mb=memory.pss_mb,
        dilation=experiment.dilation,
        wall_s=wall_s,
        emulated_s=emulated_s,
        wall_per_emulated_s=wall_s / emulated_s,
        latency_s=rounds[-1]["latency_s"],
        bound_s=rounds[-1]["bound_s"],
        rounds=rounds,
        valid=result.valid,
        invalid_reasons=result.invalid_reasons,
        warnings=result.warnings,
        stolen=stolen,
        repeated=repeated,
        run_dir=str(result.run_dir),
    )
    row.misses.extend(misses(row))
    return row


def starts_s(events: Sequence[Event]) -> dict[str, float]:
    """The parts of a run's start, by `STARTS`, from its events in real time."""

    def time_of(kind: str, which: int = 0) -> float:
        return float([event["t"] for event in events if event["event"] == kind][which])

    marks = [time_of(kind) for kind in ("run_start", "network_built", "model_loaded", "calibrated")]
    marks += [time_of("client_forked"), time_of("client_forked", -1), time_of("round_start")]
    return {
        part: after - before for part, (before, after) in zip(STARTS, itertools.pairwise(marks), strict=True)
    }


def misses(row: Row) -> list[str]:
    """Targets that a row misses, in words."""
    found = []
    for what, value, target, unit in (
        ("start", row.start_s, START_TARGET_S, "s"),
        ("private memory", row.private_mb, PRIVATE_TARGET_MB, "MB"),
        ("the whole run's memory", row.total_mb, TOTAL_TARGET_MB, "MB"),
    ):
        if not value <= target:
            found.append(f"{what} {value:.0f} {unit}, target {target:.0f} {unit}")
    return found


def holds(rows: Sequence[Row]) -> bool:
    """Whether every run is valid and meets the targets."""
    return all(row.valid and not row.misses for row in rows)


def _say(text: str) -> None:
    print(f"bench scale: {text}", file=sys.stderr, flush=True)


def sizes(text: str) -> list[int]:
    """`4,16` -> numbers of devices. Raises ConfigError."""
    try:
        found = [int(word) for word in text.split(",")]
    except ValueError:
        found = []
    if not found or not all(1 <= size <= 1000 for size in found):
        raise ConfigError(f"--devices: {text!r} is no list of numbers from 1 to 1000, such as 4,16")
    return found
