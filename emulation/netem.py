"""The netem backend: links in the kernel, Mininet's way repaired.

A veth pair joins device and access node, and both directions are shaped at the access node, one hop
away from their senders: on a sender's own egress TCP small queues and super-packets would falsify
them. Downlink: egress of the access node's port. Uplink: its ingress, redirected to an IFB device.

Each carries netem (delay, jitter, loss) with a TBF (rate, queue in bytes) as its child, so a frame first
takes the delay and then queues for the link; for a constant delay the departures are the same as the
other way round. One thing is not: netem draws losses before the queue, so that a lost frame takes no time
on the link. Every number is read back, and a kernel that took another one is refused.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from emulation.backend import Direction, LinkCounters, LinkEnds
from emulation.link import FRAME_BYTES, AccessLink, LinkError, LinkSpec

_SMALLEST_BYTES = 66
"""A TCP acknowledgement on layer 2: what a delay line must have room for at full rate."""
_TIMER_S = 250e-6
"""How late the kernel may release a frame before TBF's bucket overflows and rate is lost."""
_ORDER_BPS = 100e9
"""With a rate netem keeps frames in order in spite of jitter; at this one a frame takes 0.1 us."""

_PROBE = (
    ("IFB devices", "ip link add probe type ifb"),
    ("sch_netem", "tc qdisc add dev probe root handle 1: netem delay 1ms 1us distribution normal rate 1gbit"),
    ("sch_tbf", "tc qdisc add dev probe parent 1:1 handle 2: tbf rate 1mbit burst 1600 limit 3000"),
    ("sch_ingress", "tc qdisc add dev lo ingress"),
    (
        "cls_u32 and act_mirred",
        "tc filter add dev lo ingress u32 match u32 0 0 action mirred egress redirect dev probe",
    ),
)


def probe() -> str | None:
    """None if this kernel does all that is needed, tried in a scratch namespace; else what it lacks."""
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    script = "; ".join(f"{command} || {{ echo '{name}' >&3; exit 1; }}" for name, command in _PROBE)
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


def bucket_bytes(spec: LinkSpec) -> int:
    """TBF's burst: one full frame, and what falls due while the kernel's timer is late."""
    return FRAME_BYTES + max(86, math.ceil(spec.rate_bps * _TIMER_S / 8))


def delay_line_frames(spec: LinkSpec) -> int:
    """netem's limit: 1.5 times what is under way at full rate in the smallest frames, and the queue."""
    under_way = 1.5 * spec.rate_bps * (spec.delay_s + 4 * spec.jitter_s) / 8
    return math.ceil((under_way + spec.queue_bytes) / _SMALLEST_BYTES) + 100


def shaping(spec: LinkSpec, interface: str) -> list[list[str]]:
    """The tc commands that put `spec` in force on an interface's egress, whatever was there before."""
    netem = ["limit", str(delay_line_frames(spec)), "delay", _time(spec.delay_s)]
    if spec.jitter_s > 0:
        netem += [_time(spec.jitter_s), "distribution", "normal", "rate", f"{_ORDER_BPS:.0f}bit"]
    if spec.loss > 0:
        netem += ["loss", "random", f"{100 * spec.loss:.7f}%"]
    # The frame that TBF holds back for its tokens is the one in service: it does not wait, for a LinkSpec.
    limit = spec.queue_bytes + FRAME_BYTES
    tbf = ["rate", f"{spec.rate_bps:.0f}bit", "burst", str(bucket_bytes(spec)), "limit", str(limit)]
    device = ["tc", "qdisc", "replace", "dev", interface]
    return [
        [*device, "root", "handle", "1:", "netem", *netem],
        [*device, "parent", "1:1", "handle", "2:", "tbf", *tbf],
    ]


def redirection(interface: str, ifb: str) -> list[list[str]]:
    """The tc commands that send all that enters by `interface` through `ifb` first."""
    match = ["u32", "match", "u32", "0", "0"]
    action = ["action", "mirred", "egress", "redirect", "dev", ifb]
    where = ["dev", interface, "ingress", "pref", "1", "protocol", "all", "handle", "800::800"]
    return [
        ["tc", "qdisc", "replace", "dev", interface, "ingress"],
        ["tc", "filter", "replace", *where, *match, *action],
    ]


def differences(spec: LinkSpec, qdiscs: Sequence[Mapping[str, Any]]) -> list[str]:
    """How the qdiscs of an interface, as `tc -s -j qdisc show` lists them, differ from `spec`."""
    by_kind = {qdisc["kind"]: qdisc for qdisc in qdiscs}
    missing = [kind for kind in ("netem", "tbf") if kind not in by_kind]
    if missing:
        return [f"no {kind} qdisc" for kind in missing]
    netem, tbf = by_kind["netem"]["options"], by_kind["tbf"]["options"]
    delay = netem.get("delay", {})
    rate_Bps = spec.rate_bps / 8
    # tc prints TBF's limit as the time that what exceeds the bucket takes, in microseconds.
    lat_us = (spec.queue_bytes + FRAME_BYTES - bucket_bytes(spec)) / rate_Bps * 1e6
    found = {
        "rate (byte/s)": (tbf["rate"], rate_Bps, 1.0),
        "burst (byte)": (tbf["burst"], bucket_bytes(spec), 0.01 * bucket_bytes(spec) + 1),
        "queue (us)": (tbf.get("lat", 0.0), max(0.0, lat_us), 0.01 * abs(lat_us) + 2),
        "delay (s)": (delay.get("delay", 0.0), spec.delay_s, 1e-6),
        "jitter (s)": (delay.get("jitter", 0.0), spec.jitter_s, 1e-6),
        "loss": (netem.get("loss-random", {}).get("loss", 0.0), spec.loss, 1e-6),
        "limit (frames)": (netem["limit"], delay_line_frames(spec), 0.5),
        "parent": (by_kind["tbf"].get("parent") == "1:1", True, 0.0),
    }
    if spec.jitter_s > 0:
        found["order"] = ("rate" in netem, True, 0.0)
    return [
        f"{what} reads {read}, not {asked:.9g}"
        for what, (read, asked, tolerance) in found.items()
        if abs(read - asked) > tolerance
    ]


def count(qdiscs: Sequence[Mapping[str, Any]]) -> LinkCounters:
    """Counters of one direction; the kernel counts dropped frames but not their bytes.

    netem counts as its drops what it lost and what its child refused.
    """
    by_kind = {qdisc["kind"]: qdisc for qdisc in qdiscs}
    netem, tbf = by_kind["netem"], by_kind["tbf"]
    return LinkCounters(
        offered_frames=netem["packets"] + netem["drops"] + netem["qlen"],
        offered_bytes=netem["bytes"] + netem["backlog"],
        delivered_frames=netem["packets"],
        delivered_bytes=netem["bytes"],
        drops_queue=tbf["drops"],
        drops_loss=netem["drops"] - tbf["drops"],
    )


class Netem:
    """Links made of the kernel's queueing disciplines; see emulation.backend.Backend."""

    name = "netem"
    wire = "veth"

    def __init__(self) -> None:
        self._ways: dict[Direction, tuple[LinkSpec, str]] = {}

    def refuse(self, link: AccessLink) -> None:
        """Refuse what tc cannot count: below a byte a second or above 100 Gbit/s."""
        for direction, spec in (("up", link.up), ("down", link.down)):
            if not 8 <= spec.rate_bps <= _ORDER_BPS:
                raise LinkError(
                    f"{link.device} {direction}: {spec.rate_bps:g} bit/s; netem: 8 to {_ORDER_BPS:g}"
                )

    def start(self, ends: Sequence[LinkEnds], seed: int) -> None:
        """Put every link in force and read it back; netem draws from the kernel's generator, not `seed`."""
        for end in ends:
            ifb = f"up-{end.link.device}"
            self._ways[end.link.device, "up"] = (end.link.up, ifb)
            self._ways[end.link.device, "down"] = (end.link.down, end.access_interface)
            _run(["ip", "link", "add", ifb, "type", "ifb"])
            _run(["ip", "link", "set", ifb, "up"])
            for command in (
                *shaping(end.link.up, ifb),
                *redirection(end.access_interface, ifb),
                *shaping(end.link.down, end.access_interface),
            ):
                _run(command)
        if wrong := self.violations():
            raise LinkError("; ".join(wrong))

    def counters(self) -> dict[Direction, LinkCounters]:
        """See emulation.backend.Backend."""
        return {way: count(_shown(interface)) for way, (_, interface) in self._ways.items()}

    def violations(self) -> list[str]:
        """Whatever reads back differently from what was asked for."""
        return [
            f"{device} {direction}: {difference}"
            for (device, direction), (spec, interface) in self._ways.items()
            for difference in differences(spec, _shown(interface))
        ]

    def stop(self) -> None:
        """Take the IFB devices away; the rest goes with the access node's ports."""
        for (_, direction), (_, interface) in self._ways.items():
            if direction == "up":
                _run(["ip", "link", "del", interface])
        self._ways = {}


def _time(seconds: float) -> str:
    """To the nanosecond; tc's netem does not know the unit ns, though the kernel counts in it."""
    return f"{seconds * 1e6:.3f}us"


def _shown(interface: str) -> list[dict[str, Any]]:
    qdiscs: list[dict[str, Any]] = json.loads(_run(["tc", "-s", "-j", "qdisc", "show", "dev", interface]))
    return qdiscs


def _run(argv: Sequence[str]) -> str:
    done = subprocess.run(argv, capture_output=True, text=True)
    if done.returncode != 0:
        raise LinkError(f"{' '.join(argv)}: {(done.stderr.strip() or 'failed').splitlines()[-1]}")
    return done.stdout
