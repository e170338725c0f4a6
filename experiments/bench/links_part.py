"""One part of `fedcell bench links`, measured beside one load, and kept on disk."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from emulation.calibration import Check, calibrate
from emulation.hypervisor import SPOILING_SHARE, Theft
from emulation.link import AccessLink
from emulation.topology import Network
from experiments.bench.grid import Part
from experiments.bench.loads import Load, Loaded

IN_SECONDS = ("rtt", "delay", "timing")
"""Metrics whose gate is a time; the others' is a share of what was configured."""
_ATTEMPTS = 3
"""What a hypervisor may have spoilt is measured so often at most."""


@dataclass(frozen=True)
class Measurement:
    """A part's rows and what its backend said of itself."""

    part: str
    load: str
    asked: str
    """Digest of what was measured: links, mode, backend."""
    rows: list[dict[str, Any]]
    violations: list[str]
    load_cpu: float | None
    """Cores that the load got."""
    stolen: float
    """Share of this machine's processor time that a hypervisor gave to others meanwhile."""
    took_s: float
    thrown_away: tuple[str, ...] = ()
    """Earlier measurements of the same that had a miss, and why they were not kept, a line each."""

    @property
    def clean(self) -> bool:
        """Without a miss or a violation."""
        return not self.violations and not self.misses

    @property
    def misses(self) -> int:
        return sum(row["verdict"] == "miss" for row in self.rows)

    def why_thrown_away(self) -> str:
        what = f"{self.misses} missed" if self.misses else self.violations[0].partition(";")[0]
        return f"{self.part}, {self.load}: {what}, {self.stolen:.1%} of the processors stolen"


def measure(part: Part, load: Load, backend: str, seed: int, folder: Path, *, resume: bool) -> Measurement:
    """Measure, again if a hypervisor may be to blame for a miss, and keep the last in `folder`.

    With `resume` a clean measurement of the same that is there already is taken as it is. Raises LinkError.
    """
    asked = hashlib.sha256(repr((part.links, part.quick, part.frames_per_s, backend)).encode()).hexdigest()
    file = folder / f"{part.name}-{load.name}.json".replace(" ", "-")
    earlier = _read(file) if resume else None
    thrown_away: tuple[str, ...] = ()
    if earlier is not None and earlier.asked == asked:
        if earlier.clean:
            return earlier
        thrown_away = (*earlier.thrown_away, earlier.why_thrown_away())
    for attempt in range(_ATTEMPTS):
        measured = _measure(part, load, backend, seed, asked, thrown_away)
        if measured.clean or measured.stolen <= SPOILING_SHARE or attempt == _ATTEMPTS - 1:
            break
        thrown_away = (*thrown_away, measured.why_thrown_away())
        print(f"bench links: again; {thrown_away[-1]}", file=sys.stderr, flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(asdict(measured)))
    partial.replace(file)
    return measured


def _read(file: Path) -> Measurement | None:
    if not file.is_file():
        return None
    document = json.loads(file.read_text())
    return Measurement(**document | {"thrown_away": tuple(document["thrown_away"])})


def _measure(
    part: Part, load: Load, backend: str, seed: int, asked: str, thrown_away: tuple[str, ...]
) -> Measurement:
    with Network(part.links, backend=backend, seed=seed) as network, Loaded(load) as loaded:
        start, theft = time.monotonic(), Theft()
        checks = calibrate(network, quick=part.quick, frames_per_s=part.frames_per_s)
        took_s = time.monotonic() - start
        return Measurement(
            part=part.name,
            load=load.title,
            asked=asked,
            rows=rows(checks, part.links, part.name, load),
            violations=network.violations(),
            load_cpu=loaded.cpu_s() / took_s if load.processes else None,
            stolen=theft.share(),
            took_s=took_s,
            thrown_away=thrown_away,
        )


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
