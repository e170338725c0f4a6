"""One part of `fedcell bench links`, measured beside one load, and kept on disk."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from emulation.calibration import Check, calibrate
from emulation.hypervisor import SPOILING_SHARE, Theft, wait_for_calm
from emulation.link import AccessLink
from emulation.topology import Network
from experiments.bench.grid import Part
from experiments.bench.loads import Load, Loaded
from experiments.whole_file import write_whole

IN_SECONDS = ("rtt", "delay", "timing")
"""Metrics whose gate is a time; the others' is a share of what was configured."""
_NEXT_SEED = 10_000
_ATTEMPTS = 2
"""What a hypervisor may have spoilt is measured so often at most; --resume goes on from there."""


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
    """Share of this machine's processor time that a hypervisor gave to others, the last time."""
    took_s: float
    thrown_away: tuple[str, ...] = ()
    """Earlier measurements of the same links that had a miss, and why they were not kept, a line each."""

    @property
    def spoilt(self) -> set[str]:
        """The links with a miss or a violation; all of them where a violation names none."""
        every = {row["link"] for row in self.rows}
        accused = {reason.split()[0] for reason in self.violations}
        return (every if accused - every else accused) | {row["link"] for row in self._misses()}

    def _misses(self) -> list[dict[str, Any]]:
        return [row for row in self.rows if row["verdict"] == "miss"]

    def why_not_kept(self, links: set[str]) -> str:
        reasons = [f"{row['link']} {row['direction']}: {row['metric']} missed" for row in self._misses()]
        reasons += [reason.partition(";")[0] for reason in self.violations]
        more = f" and {len(reasons) - 1} more" if len(reasons) > 1 else ""
        of_how_many = f"{len(links)} of {len({row['link'] for row in self.rows})} links"
        return (
            f"{self.part}, {self.load}: {of_how_many}, {self.stolen:.1%} of the processors stolen: "
            f"{reasons[0]}{more}"
        )

    def with_again(self, again: Measurement) -> Measurement:
        """This one, but for the links that were measured again."""
        anew = {row["link"] for row in again.rows}
        cores = [m.load_cpu * m.took_s for m in (self, again) if m.load_cpu is not None]
        took_s = self.took_s + again.took_s
        return replace(
            again,
            rows=[row for row in self.rows if row["link"] not in anew] + again.rows,
            load_cpu=sum(cores) / took_s if cores else None,
            took_s=took_s,
            thrown_away=(*self.thrown_away, self.why_not_kept(anew)),
        )


def measure(part: Part, load: Load, backend: str, seed: int, folder: Path, *, resume: bool) -> Measurement:
    """Measure, again those links whose miss may be a hypervisor's doing, and keep it all in `folder`.

    With `resume` the clean links of an earlier measurement are taken as they are. Raises LinkError.
    """
    asked = hashlib.sha256(repr((part.links, part.quick, part.frames_per_s, backend)).encode()).hexdigest()
    file = folder / f"{part.name}-{load.name}.json".replace(" ", "-")
    measured = _read(file) if resume else None
    if measured is not None and measured.asked != asked:
        measured = None
    for attempt in range(_ATTEMPTS):
        links = part.links
        if measured is not None:
            spoilt = measured.spoilt
            if not spoilt or (attempt and measured.stolen <= SPOILING_SHARE):
                break
            links = links if part.together else tuple(link for link in links if link.device in spoilt)
            print(f"bench links: again; {measured.why_not_kept(spoilt)}", file=sys.stderr, flush=True)
            wait_for_calm()
        # Other losses and jitter each time: the same ones would miss again where they missed by chance.
        again = 0 if measured is None else 1 + len(measured.thrown_away)
        latest = _measure(replace(part, links=links), load, backend, seed + _NEXT_SEED * again, asked)
        measured = latest if measured is None else measured.with_again(latest)
        _keep(measured, file)
    assert measured is not None
    return measured


def _keep(measured: Measurement, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, json.dumps(asdict(measured)))


def _read(file: Path) -> Measurement | None:
    if not file.is_file():
        return None
    document = json.loads(file.read_text())
    return Measurement(**document | {"thrown_away": tuple(document["thrown_away"])})


def _measure(part: Part, load: Load, backend: str, seed: int, asked: str) -> Measurement:
    with Network(part.links, backend=backend, seed=seed) as network, Loaded(load) as loaded:
        start, theft = time.monotonic(), Theft()
        checks = calibrate(network, quick=part.quick, frames_per_s=part.frames_per_s)
        took_s = time.monotonic() - start
        return Measurement(
            part=part.name,
            load=load.title,
            asked=asked,
            rows=rows(checks, part.links, part.name, load),
            violations=[*network.violations(), *loaded.violations()],
            load_cpu=loaded.cpu_s() / took_s if load.processes else None,
            stolen=theft.share(),
            took_s=took_s,
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
