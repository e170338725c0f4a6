"""`fedcell bench transport`: an adapter down and up over a clean link: how close to what physics allows?

The same on one link after another: fedcell, with the kernel's initial window and where that is short of the
link also with one that fills it, and if asked Flower by both of its paths.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from experiments import config, units
from experiments.bench import transport_tables
from experiments.bench.links import machine
from experiments.bench.transport_peers import PEERS, Peer, PeerError, check_installed, run_peer
from experiments.bench.transport_rows import Case, Row, least_window, rows_of
from experiments.config import ConfigError, Experiment
from experiments.figures import style
from experiments.figures import transport as figure
from experiments.fleet import RunError
from experiments.run import Run, make_run_dir
from proto.adapter import load_adapter

CONFIG = Path(__file__).parent.parent / "configs" / "transport.yaml"
LINKS = ("1mbit/25ms", "10mbit/25ms", "50mbit/25ms", "100mbit/25ms", "10mbit/100ms")
PEER_LINKS = ("10mbit/25ms",)
FEDCELL = "fedcell"
_KERNELS_WINDOW = 10
_SLOW_BPS, _SLOW_ROUNDS = 2e6, 2
"""A slow link gets fewer rounds: at 1 Mbit/s one takes a minute."""
_STEADY_S = 1e-3
"""By so much the two clocks may drift apart in a run before its frames' times are no use."""
_REPEATS = 2
"""A run that the machine made invalid is made again; a missed target never is."""


@dataclass(frozen=True)
class Target:
    """The largest ratio of latency to bound in the first round and in the later ones."""

    first: float
    later: float


TARGETS = {
    (1e6, 0.025): Target(1.06, 1.06),
    (10e6, 0.025): Target(1.03, 1.01),
    (50e6, 0.025): Target(1.06, 1.06),
}
WIRE_TARGET = 1.08


@dataclass
class TransportBench:
    """What the bench came to."""

    rows: list[Row] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    """A system that gave no rows, or fewer than asked for: which and why."""
    repeated: list[str] = field(default_factory=list)
    """Runs thrown away because they were invalid, and why."""
    took_s: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether everything ran, validly, and every target is met by one of the settings tried for it."""
        ran = not self.failures and all(row.valid for row in self.rows)
        links = {verdict["link"] for verdict in self.verdicts()}
        met = {verdict["link"] for verdict in self.verdicts() if verdict["met"]}
        return ran and links == met

    def verdicts(self) -> list[dict[str, Any]]:
        """For each link with a target and each setting tried: its worst ratios, and whether it is met."""
        found = []
        for case in dict.fromkeys(row.case for row in self.rows if row.system == FEDCELL):
            rows = [row for row in self.rows if row.system == FEDCELL and row.case == case]
            target = TARGETS.get((case.rate_bps, case.one_way_delay_s))
            if target is not None:
                found.append({"link": case.link, "settings": case.settings, **judge(rows, target)})
        return found

    def to_json(self) -> dict[str, Any]:
        """The `bench transport` document of the command line."""
        return {
            "valid": self.holds,
            "targets": self.verdicts(),
            "failures": self.failures,
            "repeated": self.repeated,
            "took_s": self.took_s,
            "machine": machine(),
            "rows": [asdict(row) for row in self.rows],
        }


def judge(rows: Sequence[Row], target: Target) -> dict[str, Any]:
    """The rounds of one case against a target; every round counts."""
    first = [row.ratio for row in rows if row.round == 1]
    later = [row.ratio for row in rows if row.round > 1]
    wire = max(row.wire_ratio for row in rows)
    met = (
        all(ratio <= target.first for ratio in first)
        and all(ratio <= target.later for ratio in later)
        and wire <= WIRE_TARGET
    )
    valid = all(row.valid for row in rows)
    return {
        "first": max(first, default=None),
        "first_target": target.first,
        "later": max(later, default=None),
        "later_target": target.later,
        "wire": wire,
        "wire_target": WIRE_TARGET,
        "valid": valid,
        "met": met and valid,
    }


def parse_link(text: str) -> Case:
    """`10mbit/25ms` -> a link's rate and one-way delay. Raises ConfigError."""
    rate, slash, delay = text.partition("/")
    try:
        if not slash:
            raise ValueError("write for example 10mbit/25ms")
        case = Case(units.rate(rate), units.duration(delay))
    except ValueError as error:
        raise ConfigError(f"link '{text}': {error}") from error
    if case.rate_bps <= 0:
        raise ConfigError(f"link '{text}': a link needs more than 0 bit/s")
    return case


def cases_of(link: Case) -> list[Case]:
    """The link as the kernel starts on it, and where its window is short of the link also with one that is
    not."""
    window = least_window(link)
    if window <= _KERNELS_WINDOW:
        return [link]
    return [link, Case(link.rate_bps, link.one_way_delay_s, window)]


def run(
    output: Path,
    *,
    links: Sequence[str] = LINKS,
    rounds: int = 3,
    peers: Sequence[str] = (),
    overrides: Sequence[str] = (),
) -> TransportBench:
    """fedcell on every link, and Flower on those in `peers`; both written `10mbit/25ms`.

    Must run inside a sandbox (emulation.sandbox). Raises ConfigError, PeerError.
    """
    if peers:
        check_installed()
    if any(override.startswith("dilation=") for override in overrides):
        raise ConfigError("dilation: this bench measures real time")
    ours = [case for link in links for case in cases_of(parse_link(link))]
    theirs = [parse_link(link) for link in peers]
    bench, start = TransportBench(), time.monotonic()
    for case in ours:
        wanted = _SLOW_ROUNDS if rounds > _SLOW_ROUNDS and case.rate_bps <= _SLOW_BPS else rounds
        experiment = _experiment(case, output, wanted, overrides)
        _measure(bench, f"{FEDCELL}, {case.link}, {case.settings}", partial(_fedcell, case, experiment))
    for case in theirs:
        for peer in PEERS:
            short = replace(peer, rounds=min(peer.rounds, rounds))
            experiment = _experiment(case, output, short.rounds, overrides)
            what = f"{peer.name}, {peer.tensors} tensor{'s' if peer.tensors > 1 else ''}, {case.link}"
            _measure(bench, what, partial(_flower, short, case, experiment))
    bench.took_s = time.monotonic() - start
    return bench


def _experiment(case: Case, output: Path, rounds: int, overrides: Sequence[str]) -> Experiment:
    """What runs on one link. Raises ConfigError."""
    settings = [f"output={output}", f"rounds={rounds}"]
    for way in ("up", "down"):
        settings.append(f"network.devices.0.{way}.rate={case.rate_bps!r}bit")
        settings.append(f"network.devices.0.{way}.delay={case.one_way_delay_s!r}s")
    if case.initial_window is not None:
        settings.append(f"network.tcp.initial_window={case.initial_window}")
    return config.load(CONFIG, [*settings, *overrides])


def _measure(
    bench: TransportBench, what: str, measure: Callable[[], tuple[list[Row], list[str], str]]
) -> None:
    """Add the rows of one system and case, and a line for what went wrong with it.

    `measure` returns rows, reasons why they are invalid, and how the system failed ("" if it did not).
    """
    for again in range(_REPEATS + 1):
        _say(what)
        rows, reasons, failure = measure()
        if not reasons or failure or again == _REPEATS:
            break
        bench.repeated.append(f"{what}: {'; '.join(reasons)}")
        _say(f"again, for it was invalid: {'; '.join(reasons)}")
    bench.rows += rows
    bench.failures += [f"{what}: {reason}" for reason in [*reasons, failure] if reason]


def _fedcell(case: Case, experiment: Experiment) -> tuple[list[Row], list[str], str]:
    clocks = Clocks()
    try:
        result = Run(experiment).execute()
    except RunError as error:
        return [], [], str(error)
    layout, _ = load_adapter(result.run_dir / "initial.safetensors")
    rows = rows_of(
        FEDCELL,
        len(layout.tensors),
        case,
        experiment.links()[0],
        result.run_dir,
        realtime_minus_monotonic_s=clocks.difference_s(),
        valid=result.valid,
    )
    return rows, result.invalid_reasons, ""


def _flower(peer: Peer, case: Case, experiment: Experiment) -> tuple[list[Row], list[str], str]:
    name = f"flower-{peer.name.split()[-1].lower()}-{peer.tensors}"
    clocks, folder, failure = Clocks(), make_run_dir(experiment.output, name), ""
    reasons: list[str] = []
    try:
        reasons = run_peer(peer, experiment, folder)
    except PeerError as error:
        failure = f"{error}; logs in {folder / 'logs'}"
    rows = rows_of(
        peer.name,
        peer.tensors,
        case,
        experiment.links()[0],
        folder,
        realtime_minus_monotonic_s=clocks.difference_s(),
        valid=not reasons,
    )
    return rows, reasons, failure


class Clocks:
    """How far apart CLOCK_REALTIME, of captured frames, and CLOCK_MONOTONIC, of events, are."""

    def __init__(self) -> None:
        self._before_s = _difference_s()

    def difference_s(self) -> float | None:
        """Realtime less monotonic; None if that changed since the beginning."""
        now_s = _difference_s()
        return now_s if abs(now_s - self._before_s) <= _STEADY_S else None


def _difference_s() -> float:
    return time.time() - time.monotonic()


def write(bench: TransportBench, folder: Path) -> list[Path]:
    """transport.json, transport.md and the figure, in `folder`; their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "transport.json").write_text(json.dumps(bench.to_json(), indent=1) + "\n")
    (folder / "transport.md").write_text(transport_tables.markdown(bench.to_json(), bench.rows))
    # A miss is a bar beyond its target: the figure itself shows what is wrong.
    pictures = style.save(figure.draw(bench.rows), folder / "transport", valid=True)
    return [folder / "transport.json", folder / "transport.md", *pictures]


def _say(text: str) -> None:
    print(f"bench transport: {text}", file=sys.stderr, flush=True)
