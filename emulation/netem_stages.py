"""One direction of a link as the kernel's queueing disciplines: the commands, and what reads back of them.

A frame passes three interfaces in the access node's namespace, each with one discipline at its root:

  queue   HTB of the link's rate; its leaf holds what waits: plug (bytes), pfifo or codel (frames)
  wire    netem with the link's rate: serialisation on a virtual clock, which a late timer does not slow
  air     netem: delay, jitter, loss, duplicates, corruption, in order

HTB's bucket, LEAD_S of the rate, lets frames run ahead into `wire` by that much, so that a timer that is
late by less costs no rate; `wire` takes the bursts out again. What is ahead counts as waiting. TBF would not
do: every change fills its bucket anew, and its bucket cannot be smaller than a frame.

`queue` and `wire` are the two ends of a veth pair, whose far end turns every frame around. Redirections join
it to the access node's port, which takes what comes back, and is marked, as if it had just come:

  up      port ingress -> queue egress => wire egress => air egress => port ingress, marked: on its way
  down    port egress  -> queue egress => wire egress => port egress, marked: its own root is air

Only the uplink needs a second pair for its air. An IFB in its place would be one device fewer, but a copied
frame has no mac_len there: a netem that corrupts clones, as TCP's all are, brings the kernel down (6.1).
tc-htb(8), tc-netem(8), tc-mirred(8).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

from emulation.backend import LinkCounters
from emulation.link import FRAME_BYTES, LinkError, LinkSpec

Qdiscs = Mapping[str, Sequence[Mapping[str, Any]]]
"""Per interface, what `tc -s -j qdisc show` lists of it."""

LEAD_S = 2e-3
"""How late the kernel may release a frame without loss of rate; a new rate holds after that and a frame."""
_ORDER_BPS = 100e9
"""With a rate netem keeps frames in order in spite of jitter; at this one a frame takes 0.1 us."""
_SLOWEST_BPS = 1e3
"""HTB forgets what a class owes beyond 60 s; here a full frame takes 12."""
_SMALLEST_BYTES = 42
"""An ARP frame: none of ours is shorter."""
_DIST_UNIT, _DIST_MOST, _INT16 = 8192, 16384, 32767  # netem's distribution tables, linux/pkt_sched.h.
_CODEL_US = {"target": 5_000, "interval": 100_000}


@dataclass(frozen=True)
class Way:
    """Where one direction's stages are: interface names, and the mark of frames that come back."""

    direction: Literal["up", "down"]
    access: str
    number: int

    @property
    def queue(self) -> str:
        return f"{self.direction}{self.number}-queue"

    @property
    def wire(self) -> str:
        return f"{self.direction}{self.number}-wire"

    @property
    def air(self) -> str:
        return f"up{self.number}-air" if self.direction == "up" else self.access

    @property
    def out(self) -> str | None:
        """The far end of the uplink's `air`; the downlink's is the device's own interface."""
        return f"up{self.number}-out" if self.direction == "up" else None

    @property
    def mark(self) -> int:
        """Not 0, and of this direction only: a frame may cross several links in one namespace."""
        return 2 * self.number + (1 if self.direction == "up" else 2)


def refuse(where: str, spec: LinkSpec) -> None:
    """Raise LinkError, naming the link (`where`) and the key, for what these disciplines cannot do."""
    table = spec.jitter_table or ()
    frames = spec.queue_frames
    for what, wrong in (
        ("trace: the kernel has no discipline that follows one", spec.trace is not None),
        (
            f"rate {spec.rate_bps:g} bit/s is not in {_SLOWEST_BPS:g}..{_ORDER_BPS:g}",
            not _SLOWEST_BPS <= spec.rate_bps <= _ORDER_BPS,
        ),
        ("aqm codel counts its queue in frames: give queue in packets", spec.aqm == "codel" and not frames),
        (
            f"queue of {spec.queue_bytes} bytes and {frames} frames: it can keep but one bound",
            frames is not None and not _binds(spec) and frames * _SMALLEST_BYTES < spec.queue_bytes,
        ),
        ("outage needs a queue in bytes and tail drop", spec.outages is not None and _leaf(spec) != "plug"),
        (f"jitter table of more than {_DIST_MOST} values", len(table) > _DIST_MOST),
        (
            "jitter table beyond 4 standard deviations",
            any(abs(value) * _DIST_UNIT > _INT16 for value in table),
        ),
    ):
        if wrong:
            raise LinkError(f"{where}: {what}; fix: emulation.backend=relay, which can")


def _binds(spec: LinkSpec) -> bool:
    """Whether the bound in frames is the one that holds, however small the frames."""
    return spec.queue_frames is not None and spec.queue_frames * FRAME_BYTES <= spec.queue_bytes


def _leaf(spec: LinkSpec) -> str:
    if spec.aqm == "codel":
        return "codel"
    return "pfifo" if _binds(spec) else "plug"


def lead_bytes(spec: LinkSpec) -> int:
    """HTB's bucket: what the rate makes of LEAD_S, and at most a quarter of the queue."""
    queue = FRAME_BYTES * spec.queue_frames if spec.queue_frames and _binds(spec) else spec.queue_bytes
    return max(1, min(math.ceil(spec.rate_bps * LEAD_S / 8), queue // 4))


def queue_limit(spec: LinkSpec) -> int:
    """The leaf's limit, in its own unit; CoDel must see waiting, so nothing of it may be elsewhere."""
    if _leaf(spec) == "plug":
        return max(FRAME_BYTES, spec.queue_bytes - lead_bytes(spec))
    return max(1, (spec.queue_frames or 1) - lead_bytes(spec) // FRAME_BYTES)


def wire_frames(spec: LinkSpec) -> int:
    """The limit of `wire`, beyond anything HTB lets run ahead."""
    return 2 * (lead_bytes(spec) + FRAME_BYTES) // _SMALLEST_BYTES + 100


def air_frames(spec: LinkSpec) -> int:
    """The limit of `air`: twice what is under way at full rate in the smallest frames."""
    return math.ceil(2 * spec.rate_bps * (spec.delay_s + 4 * spec.jitter_s) / 8 / _SMALLEST_BYTES) + 1000


def distribution_name(way: Way, spec: LinkSpec) -> str:
    """The table that netem draws this direction's jitter from: a file of that name and ".dist"."""
    return f"{way.direction}{way.number}" if spec.jitter_table else "normal"


def distribution(spec: LinkSpec) -> str:
    """That file: quantiles in 1/8192 of a standard deviation, at equal steps of probability."""
    steps = 4096
    quantiles = spec.jitter_table or [NormalDist().inv_cdf((i + 0.5) / steps) for i in range(steps)]
    return "\n".join(str(max(-_INT16, min(_INT16, round(_DIST_UNIT * value)))) for value in quantiles) + "\n"


def interfaces(way: Way) -> list[str]:
    """The lines for `ip -batch` that make this direction's interfaces."""
    pairs = [(way.queue, way.wire)] + ([(way.air, way.out)] if way.out else [])
    return [
        line
        for near, far in pairs
        for line in (
            f"link add {near} type veth peer name {far}",
            f"link set {near} up",
            f"link set {far} up",
        )
    ]


def redirections(way: Way) -> list[str]:
    """The lines for `tc -batch` that lead every frame through the three stages; the access has a clsact."""
    hook = "ingress" if way.direction == "up" else "egress"
    everything = "protocol all u32 match u32 0 0 action"
    back = "mirred {} redirect dev {}".format
    lines = []
    for interface, action in (
        (way.wire, back("egress", way.wire)),
        (way.queue, back("egress", way.air)),
        (way.out, back("ingress", way.access)),
    ):
        if interface:
            lines += [
                f"qdisc add dev {interface} clsact",
                f"filter add dev {interface} ingress {everything} {action}",
            ]
    return [
        *lines,
        f"filter add dev {way.access} {hook} pref 1 protocol all handle {way.mark} fw action pass",
        f"filter add dev {way.access} {hook} pref 2 {everything} skbedit mark {way.mark} pipe"
        f" action {back('egress', way.queue)}",
    ]


def shaping(way: Way, spec: LinkSpec) -> list[str]:
    """The lines for `tc -batch` that put `spec` in force on the three interfaces."""
    leaf = f"qdisc add dev {way.queue} parent 1:1 handle 2: {_leaf_options(spec)}"
    lines = [
        f"qdisc add dev {way.queue} root handle 1: htb default 1",
        f"class add {_class(way, spec)}",
        leaf,
        f"qdisc add dev {way.wire} root handle 1: {_wire_options(spec)}",
        f"qdisc replace dev {way.air} root handle 1: {_air_options(way, spec)}",
    ]
    if _leaf(spec) == "plug":
        lines.insert(3, gate(way, spec, up=True))
    return lines


def changing(way: Way, old: LinkSpec, new: LinkSpec) -> list[str]:
    """The lines for `tc -batch` from one spec to another of the same kind of queue; no frame is lost.

    What netem holds keeps its time: a new rate holds for all but LEAD_S and a frame, a new delay or loss for
    what comes after. A loss chain that changes starts in its good state.
    """
    lines = []
    if new.rate_bps != old.rate_bps:
        options = _leaf_options(new)
        lines = [
            f"class change {_class(way, new)}",
            f"qdisc change dev {way.queue} parent 1:1 handle 2: {options}",
            f"qdisc change dev {way.wire} root handle 1: {_wire_options(new)}",
        ]
    if _air_options(way, new) != _air_options(way, old):
        lines.append(f"qdisc change dev {way.air} root handle 1: {_air_options(way, new)}")
    return lines


def gate(way: Way, spec: LinkSpec, *, up: bool) -> str:
    """The line for `tc -batch` that lets the queue out, or keeps it. Raises LinkError where it cannot."""
    if _leaf(spec) != "plug":
        raise LinkError("only a queue in bytes with tail drop can be held; fix: emulation.backend=relay")
    return f"qdisc change dev {way.queue} parent 1:1 handle 2: plug {'release_indefinite' if up else 'block'}"


def _class(way: Way, spec: LinkSpec) -> str:
    rate, lead = f"{spec.rate_bps:.0f}bit", lead_bytes(spec)
    htb = f"htb rate {rate} ceil {rate} burst {lead} cburst {lead} quantum {FRAME_BYTES}"
    return f"dev {way.queue} parent 1: classid 1:1 {htb}"


def _leaf_options(spec: LinkSpec) -> str:
    options = f"{_leaf(spec)} limit {queue_limit(spec)}"
    if spec.aqm == "codel":
        options += "".join(f" {key} {value}us" for key, value in _CODEL_US.items()) + " noecn"
    return options


def _wire_options(spec: LinkSpec) -> str:
    return f"netem limit {wire_frames(spec)} rate {spec.rate_bps:.0f}bit"


def _air_options(way: Way, spec: LinkSpec) -> str:
    words = [f"netem limit {air_frames(spec)} delay {_time(spec.delay_s)}"]
    if spec.jitter_s > 0:
        words.append(f"{_time(spec.jitter_s)} distribution {distribution_name(way, spec)}")
    bad, good = chain(spec)
    if spec.loss > 0 and spec.loss_burst > 1:
        words.append(f"loss gemodel {_percent(bad)} {_percent(good)} 100% 0%")
    else:
        words.append(f"loss random {_percent(spec.loss)}")
    words.append(f"duplicate {_percent(spec.duplicate)} corrupt {_percent(spec.corrupt)}")
    return " ".join([*words, f"rate {_ORDER_BPS:.0f}bit"])


def chain(spec: LinkSpec) -> tuple[float, float]:
    """Gilbert's chain: probabilities to go bad, r p / (1 - p), and to recover, r = 1 / mean burst."""
    recover = 1 / spec.loss_burst
    return recover * spec.loss / (1 - spec.loss), recover


def _time(seconds: float) -> str:
    """To the nanosecond; tc's netem does not know the unit ns, though the kernel counts in it."""
    return f"{seconds * 1e6:.3f}us"


def _percent(share: float) -> str:
    return f"{100 * share:.7f}%"


def differences(way: Way, spec: LinkSpec, qdiscs: Qdiscs, htb_class: str) -> list[str]:
    """How what is in force differs from `spec`; `htb_class` as `tc class show` prints it.

    The kernel tells neither plug's limit nor a jitter's distribution; the first shows in what waits.
    """
    try:
        leaf = _found(qdiscs, way.queue, _leaf(spec), "1:1")
        wire = _found(qdiscs, way.wire, "netem", None)["options"]
        air = _found(qdiscs, way.air, "netem", None)["options"]
        rate, ceil, burst, cburst = _class_numbers(htb_class)
    except LookupError as error:
        return [str(error.args[0])]
    lead, delay, limit = lead_bytes(spec), air.get("delay", {}), queue_limit(spec)
    bad, good = chain(spec)
    bursty = spec.loss > 0 and spec.loss_burst > 1
    model, random = air.get("loss-gemodel", {}), air.get("loss-random", {})
    found: dict[str, tuple[float, float, float]] = {
        "rate of the queue (bit/s)": (rate, spec.rate_bps, 1e-3 * spec.rate_bps),
        "ceil of the queue (bit/s)": (ceil, spec.rate_bps, 1e-3 * spec.rate_bps),
        "burst (byte)": (burst, lead, 0.02 * lead + 2),
        "cburst (byte)": (cburst, lead, 0.02 * lead + 2),
        "rate of the wire (byte/s)": (wire.get("rate", {}).get("rate", 0), spec.rate_bps / 8, 1.0),
        "limit of the wire (frames)": (wire["limit"], wire_frames(spec), 0.5),
        "delay of the wire (s)": (wire.get("delay", {}).get("delay", 0.0), 0.0, 0.0),
        "limit of the air (frames)": (air["limit"], air_frames(spec), 0.5),
        "order kept by a rate (byte/s)": (air.get("rate", {}).get("rate", 0), _ORDER_BPS / 8, 1.0),
        "delay (s)": (delay.get("delay", 0.0), spec.delay_s, 1e-6),
        "jitter (s)": (delay.get("jitter", 0.0), spec.jitter_s, 1e-6),
        "loss": (random.get("loss", 0.0), 0.0 if bursty else spec.loss, 1e-6),
        "loss burst: p": (model.get("p", 0.0), bad if bursty else 0.0, 1e-6),
        "loss burst: r": (model.get("r", 0.0), good if bursty else 0.0, 1e-6),
        "loss burst: 1-h": (model.get("1-h", 0.0), 1.0 if bursty else 0.0, 1e-6),
        "loss burst: 1-k": (model.get("1-k", 0.0), 0.0, 1e-6),
        "duplicate": (air.get("duplicate", {}).get("duplicate", 0.0), spec.duplicate, 1e-6),
        "corrupt": (air.get("corrupt", {}).get("corrupt", 0.0), spec.corrupt, 1e-6),
    }
    if _leaf(spec) == "plug":  # After a change to a shorter queue what waits may still exceed the new limit.
        found["waiting (byte)"] = (max(0, leaf.get("backlog", 0) - spec.queue_bytes), 0, 0)
    else:
        found["queue (frames)"] = (leaf["options"]["limit"], limit, 0.5)
    if spec.aqm == "codel":
        found |= {f"codel's {k} (us)": (leaf["options"][k], us, 2) for k, us in _CODEL_US.items()}
    return [
        f"{what} reads {read:.9g}, not {asked:.9g}"
        for what, (read, asked, tolerance) in found.items()
        if abs(read - asked) > tolerance
    ]


def count(way: Way, spec: LinkSpec, qdiscs: Qdiscs) -> LinkCounters:
    """Counters of one direction; the kernel counts dropped frames but not their bytes.

    netem does not say what it corrupted; what it duplicated is what came out beyond what went in.
    """
    leaf = _found(qdiscs, way.queue, _leaf(spec), "1:1")
    wire, air = (_found(qdiscs, name, "netem", None) for name in (way.wire, way.air))
    tail = leaf["drop_overlimit"] if spec.aqm == "codel" else leaf["drops"]
    return LinkCounters(
        offered_frames=leaf["packets"] + leaf["drops"] + leaf["qlen"],
        offered_bytes=leaf["bytes"] + leaf["backlog"],
        delivered_frames=air["packets"],
        delivered_bytes=air["bytes"],
        drops_queue=tail + wire["drops"],
        drops_aqm=leaf["drops"] - tail,
        drops_loss=air["drops"],
        duplicated=max(0, air["packets"] + air["drops"] + air["qlen"] - wire["packets"]),
    )


def _found(qdiscs: Qdiscs, interface: str, kind: str, parent: str | None) -> Mapping[str, Any]:
    """The discipline of that kind, at the interface's root or below `parent`. Raises LookupError."""
    for qdisc in qdiscs.get(interface, ()):
        if qdisc["kind"] == kind and (qdisc.get("parent") == parent if parent else qdisc.get("root")):
            return qdisc
    raise LookupError(f"no {kind} at {'the root' if parent is None else parent} of {interface}")


_CLASS = re.compile(
    r"class htb 1:1 root leaf 2: .*?rate (\S+)bit ceil (\S+)bit burst (\S+)b cburst (\S+)b(?:\s|$)"
)


def _class_numbers(shown: str) -> tuple[float, float, float, float]:
    """HTB's rate and ceil (bit/s), burst and cburst (bytes); tc has no JSON of its classes."""
    match = _CLASS.search(shown)
    if match is None:
        raise LookupError("no htb class 1:1")
    rate, ceil = (_scaled(text, 1000) for text in match.groups()[:2])
    burst, cburst = (_scaled(text, 1024) for text in match.groups()[2:])
    return rate, ceil, burst, cburst


def _scaled(text: str, step: int) -> float:
    unit = text[-1] if text[-1] in "KMGT" else ""
    return float(text.removesuffix(unit)) * step ** (" KMGT".index(unit) if unit else 0)
