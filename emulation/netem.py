"""The netem backend: links in the kernel, Mininet's way repaired.

A veth pair joins device and access node, and both directions are shaped at the access node, one hop
away from their senders: on a sender's own egress TCP small queues and super-packets would falsify them.
How a direction is made of queueing disciplines: emulation.netem_stages. Every number that the kernel tells is
read back, and a kernel that took another one is refused.

Cannot be had here, and is refused by name: traces, air that is shared (a fixed share is a rate), and queues
whose bound the kernel cannot keep. A corrupted frame may be hit in its Ethernet header too, and is lost then.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from emulation import netem_tc
from emulation.backend import Direction, LinkCounters, LinkEnds
from emulation.link import AccessLink, LinkChange, LinkError, LinkSpec
from emulation.netem_outages import OutageClock
from emulation.netem_stages import (
    Way,
    changing,
    count,
    differences,
    distribution,
    distribution_name,
    gate,
    interfaces,
    redirections,
    refuse,
    shaping,
)
from emulation.netem_tc import Tc

_PROBE = (
    ("veth", "ip link add probe type veth peer name eborp"),
    ("sch_netem", "tc qdisc add dev eborp root handle 1: netem delay 1ms rate 1gbit"),
    ("sch_htb", "tc qdisc add dev probe root handle 1: htb default 1"),
    ("sch_htb", "tc class add dev probe parent 1: classid 1:1 htb rate 1mbit burst 1600"),
    ("sch_plug", "tc qdisc add dev probe parent 1:1 handle 2: plug limit 3000"),
    ("sch_ingress", "tc qdisc add dev probe clsact"),
    ("cls_fw and act_gact", "tc filter add dev probe egress pref 1 protocol all handle 1 fw action pass"),
    (
        "cls_u32, act_skbedit and act_mirred",
        "tc filter add dev probe ingress pref 2 protocol all u32 match u32 0 0"
        " action skbedit mark 1 pipe action mirred egress redirect dev eborp",
    ),
)
_PROBE_CODEL = ("sch_codel", "tc qdisc add dev lo root codel limit 10")


def probe() -> str | None:
    """None if this kernel does what every link needs, tried in a scratch namespace; else what it lacks."""
    return _try(_PROBE)


def _try(commands: Sequence[tuple[str, str]]) -> str | None:
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    script = "; ".join(f"{command} || {{ echo '{name}' >&3; exit 1; }}" for name, command in commands)
    tried = subprocess.run(
        ["unshare", "--net", *user, "sh", "-c", f"exec 3>&1; {script}"], capture_output=True, text=True
    )
    if tried.returncode == 0:
        return None
    lacking = tried.stdout.strip()
    if not lacking:
        return f"no network namespace to try in: {tried.stderr.strip()}"
    return f"this kernel has no {lacking}; fix: modprobe it, or use the relay backend"


def create() -> Netem:
    """This module's backend."""
    return Netem()


@dataclass
class _Line:
    """A direction in force. `spec` has the rate that is left to it; `held` who keeps it down by now."""

    way: Way
    spec: LinkSpec
    share: float
    held: set[str] = field(default_factory=set)


class Netem:
    """Links made of the kernel's queueing disciplines; see emulation.backend.Backend."""

    name = "netem"
    wire = "veth"

    def __init__(self) -> None:
        self._lines: dict[Direction, _Line] = {}
        self._lock = threading.Lock()
        self._outages: OutageClock | None = None
        self._tables: tempfile.TemporaryDirectory[str] | None = None
        self._tc: Tc | None = None

    def refuse(self, link: AccessLink) -> None:
        """Refuse what the kernel's disciplines cannot do: see emulation.netem_stages.refuse."""
        if link.roams:
            raise LinkError(
                f"{link.device}: roams from air to air, and the kernel has no scheduler of airtime; "
                "fix: emulation.backend=relay, which has"
            )
        if link.air is not None and link.air.scheduler != "fixed":
            raise LinkError(
                f"{link.device}: sharing {link.air.scheduler}: the kernel has no scheduler of airtime; "
                "fix: emulation.backend=relay, which has, or sharing fixed"
            )
        for direction, spec in (("up", link.up), ("down", link.down)):
            refuse(f"{link.device} {direction}", spec)
            if spec.aqm == "codel" and (reason := _try([_PROBE_CODEL])):
                raise LinkError(f"{link.device} {direction}: aqm codel: {reason}")

    def start(self, ends: Sequence[LinkEnds], seed: int) -> None:
        """Put every link in force and read it back; netem draws from the kernel's generator, not `seed`."""
        sharing = Counter(end.link.air for end in ends if end.link.air is not None)
        for number, end in enumerate(ends):
            share = 1 / sharing[end.link.air] if end.link.air else 1.0
            for direction, spec in (("up", end.link.up), ("down", end.link.down)):
                way = Way("up" if direction == "up" else "down", end.access_interface, number)
                shared = replace(spec, rate_bps=spec.rate_bps * share)
                refuse(f"{end.link.device} {direction}", shared)
                self._lines[end.link.device, direction] = _Line(way, shared, share)
        self._tc = Tc(self._write_tables())
        lines = list(self._lines.values())
        netem_tc.ip([line for one in lines for line in interfaces(one.way)])
        self._tc.do([f"qdisc add dev {end.access_interface} clsact" for end in ends])
        self._tc.do([line for one in lines for line in shaping(one.way, one.spec)])
        self._tc.do([line for one in lines for line in redirections(one.way)])
        if wrong := self.violations():
            raise LinkError("; ".join(wrong))
        asked = {way: line.spec.outages for way, line in self._lines.items() if line.spec.outages}
        if asked:
            self._outages = OutageClock(asked, seed, lambda way, up: self._hold(way, "outage", up))

    def change(self, direction: Direction, change: LinkChange) -> None:
        """Change a direction; what netem already holds keeps its time (netem_stages.changing)."""
        where = " ".join(direction)
        with self._lock:
            if (line := self._lines.get(direction)) is None:
                raise LinkError(f"{where}: not in force")
            new = replace(
                line.spec,
                rate_bps=line.spec.rate_bps if change.rate_bps is None else change.rate_bps * line.share,
                delay_s=line.spec.delay_s if change.delay_s is None else change.delay_s,
                loss=line.spec.loss if change.loss is None else change.loss,
            )
            possible = new.delay_s >= 0 and 0 <= new.loss <= new.loss_burst / (new.loss_burst + 1)
            if change.air is not None or not possible:
                raise LinkError(f"{where}: cannot become {change}")
            refuse(where, new)
            self._do(changing(line.way, line.spec, new))
            line.spec = new
        if change.up is not None:
            self._hold(direction, "change", change.up)

    def counters(self) -> dict[Direction, LinkCounters]:
        """See emulation.backend.Backend."""
        qdiscs = netem_tc.qdiscs()
        try:
            return {direction: count(line.way, line.spec, qdiscs) for direction, line in self._lines.items()}
        except LookupError as error:
            raise LinkError(f"counters: {error.args[0]}") from None

    def watch(self) -> None:
        """Nothing here counts lateness."""

    def violations(self) -> list[str]:
        """Whatever reads back differently from what was asked for, and outages that came late."""
        if not self._lines:
            return []
        with self._lock:
            qdiscs = netem_tc.qdiscs()
            classes = netem_tc.classes([line.way.queue for line in self._lines.values()])
            found = [
                f"{device} {direction}: {difference}"
                for (device, direction), line in self._lines.items()
                for difference in differences(line.way, line.spec, qdiscs, classes[line.way.queue])
            ]
        return found + (self._outages.violations() if self._outages else [])

    def stop(self) -> None:
        """Take the stages away; what hangs on the access node's ports goes with them."""
        if self._outages:
            self._outages.stop()
            self._outages = None
        if self._tc:
            self._tc.close()
            self._tc = None
        there = {entry.name for entry in Path("/sys/class/net").iterdir()}
        ours = [name for line in self._lines.values() for name in (line.way.queue, line.way.out)]
        netem_tc.ip([f"link del {name}" for name in ours if name in there])
        self._lines = {}
        if self._tables:
            self._tables.cleanup()
            self._tables = None

    def _hold(self, direction: Direction, who: str, up: bool) -> None:
        """Hold the queue while anyone wants it held. Raises LinkError, naming the link, if it cannot be."""
        with self._lock:
            line = self._lines[direction]
            held = line.held - {who} if up else line.held | {who}
            try:
                if bool(held) != bool(line.held):
                    self._do([gate(line.way, line.spec, up=not held)])
            except LinkError as error:
                raise LinkError(f"{' '.join(direction)}: {error}") from None
            line.held = held

    def _do(self, lines: Sequence[str]) -> None:
        if self._tc is None:
            raise LinkError("the links are not in force")
        self._tc.do(lines)

    def _write_tables(self) -> Path:
        """A folder of the distributions that jitter is drawn from, the normal one among them."""
        self._tables = tempfile.TemporaryDirectory(prefix="fedcell-netem-")
        folder = Path(self._tables.name)
        (folder / "normal.dist").write_text(distribution(LinkSpec(1.0)))
        for line in self._lines.values():
            if line.spec.jitter_table:
                name = distribution_name(line.way, line.spec)
                (folder / f"{name}.dist").write_text(distribution(line.spec))
        return folder
