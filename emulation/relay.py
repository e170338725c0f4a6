"""The relay backend: links in user space, for kernels without netem.

Each end of a link is a TAP device. One process, this module run with `python -m emulation.relay`,
holds all their descriptors and carries frames between them (relay.c) on the schedule of relay_core.h.
It is a process of its own, so that nobody else's interpreter lock or garbage delays a frame; it runs
under SCHED_FIFO with its memory locked where that is allowed, and dies with its parent.

The process gets its links as one JSON document (emulation.relay_parameters) in a file of memory. It and its
parent share a SOCK_SEQPACKET pair: it says when it is ready; then messages ask for a path's counters, or
change a path and have no answer, so that a hundred links can follow a channel from one thread.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from emulation import relay_parameters
from emulation.backend import Direction, LinkCounters, LinkEnds
from emulation.hypervisor import stolen_s
from emulation.link import AccessLink, LinkChange, LinkError, LinkSpec
from emulation.sandbox import die_with_parent

try:
    from emulation import _relay
except ImportError as error:
    _relay = None  # type: ignore[assignment]
    _UNBUILT = str(error)

_TUN = "/dev/net/tun"
_TUNSETIFF = 0x400454CA  # linux/if_tun.h
_IFF_TAP, _IFF_NO_PI = 0x0002, 0x1000
_TAP_FRAMES = 10_000
"""What a TAP holds until the relay reads it: at 1 Gbit/s of full frames, 0.1 s of a relay held up."""

_PRIORITY = 50  # SCHED_FIFO, the middle: above every ordinary process, below the kernel's watchdogs.
_COUNTS, _MACHINE = struct.Struct("=12Q"), struct.Struct("=6Q")  # relay.c: counters_t, machine_t
_ANSWER_S = 10.0
_JUDGED_FRAMES = 100  # Fewer say nothing of a 99th percentile.
_LEAST_LATENESS_S = 100e-6


def open_tap(name: str) -> int:
    """Make the TAP device `name` in this network namespace and return its descriptor.

    The device lives as long as the descriptor, also in another namespace. It hands over plain frames:
    no packet information, no checksum or segmentation left to do. Raises LinkError.
    """
    try:
        fd = os.open(_TUN, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise LinkError(f"no {_TUN}; fix: modprobe tun") from None
    except OSError as error:
        raise LinkError(
            f"{_TUN} cannot be opened ({error.strerror}); fix: chmod 666 {_TUN}, as root"
        ) from None
    try:
        fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TAP | _IFF_NO_PI))
        # By netlink: the ioctl for it is refused to the root of a user namespace.
        longer = ["ip", "link", "set", name, "txqueuelen", str(_TAP_FRAMES)]
        subprocess.run(longer, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        os.close(fd)
        raise LinkError(f"TAP {name} cannot be made: {error}") from None
    return fd


def probe() -> str | None:
    """None if TAP devices can be made in a namespace of our own here, else why not and the fix."""
    if _relay is None:
        return f"emulation._relay is not built ({_UNBUILT}); fix: pip install -e ."
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    tried = subprocess.run(
        ["unshare", "--net", *user, *_python(), "probe"], capture_output=True, text=True, env=_environment()
    )
    lines = (tried.stdout + tried.stderr).strip().splitlines()
    return None if tried.returncode == 0 else (lines or ["the probe died without a word"])[-1]


def create() -> Relay:
    """This module's backend."""
    return Relay()


def lateness_limit_s(rate_bps: float, jitter_s: float = 0.0) -> float:
    """How late the 99th percentile of frames may leave: 100 us, or 5 % of a full frame's time or of the
    jitter's deviation if that is more.

    Jitter in order holds frames behind a late one, and lets them all go at its instant: the last of a
    hundred waits for a hundred writes, however free the processor is.
    """
    return max(_LEAST_LATENESS_S, 0.05 * LinkSpec(rate_bps).frame_time_s(), 0.05 * jitter_s)


class Relay:
    """Links carried by one relay process; see emulation.backend.Backend."""

    name = "relay"
    wire = "tap"

    def __init__(self) -> None:
        self.realtime = False
        """Whether the relay got SCHED_FIFO."""
        self.memory_locked = False
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._asking = threading.Lock()
        self._ends: list[LinkEnds] = []
        self._links: dict[str, AccessLink] = {}
        self._numbers: dict[Direction, int] = {}
        self._cells: relay_parameters.Cells = {}
        self._fastest_bps: dict[Direction, float] = {}
        self._shares: dict[str, int] = {}
        self._watched_since: dict[Direction, bytes] = {}
        """What was counted when `watch` was called."""
        self._missed_before: dict[str, int] = {}
        self._stolen_before = self._waited_before = 0.0

    def refuse(self, link: AccessLink) -> None:
        """See emulation.backend.Backend and emulation.relay_parameters."""
        relay_parameters.refuse(link)

    def start(self, ends: Sequence[LinkEnds], seed: int) -> None:
        """Start the relay process; return once it carries frames. LinkError if it does not come up."""
        self._ends = list(ends)
        document, directions, self._cells = relay_parameters.describe(ends, seed)
        self._links = {end.link.device: end.link for end in ends}
        self._numbers = {direction: number for number, direction in enumerate(directions)}
        self._fastest_bps = {
            (device, way): spec.rate_bps
            for device, link in self._links.items()
            for way, spec in (("up", link.up), ("down", link.down))
        }
        members = relay_parameters.shares([end.link for end in ends])
        self._shares = {
            end.link.device: members[end.link.air]
            for end in ends
            if end.link.air is not None and end.link.air.scheduler == "fixed"
        }
        self._missed_before, self._stolen_before = self._missed(), stolen_s()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(_ANSWER_S)
        self._control = ours
        memory = os.memfd_create("links")
        with theirs, os.fdopen(memory, "wb", buffering=0) as file:
            file.write(document)
            file.seek(0)
            self._process = subprocess.Popen(
                [*_python(), "carry", str(theirs.fileno()), str(memory), str(os.getpid())],
                pass_fds=[theirs.fileno(), memory, *(tap for end in ends for tap in end.taps or ())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=_environment(),
                start_new_session=True,  # The terminal's Ctrl-C is for the run, which then stops us.
            )
        ready = json.loads(self._ask(b""))
        for end in ends:  # The TAPs are the relay's alone: they go if it goes, and no host waits in vain.
            for tap in end.taps or ():
                os.close(tap)
        self.realtime, self.memory_locked = ready["realtime"], ready["memory_locked"]
        self._waited_before = self._waited_s()

    def change(self, direction: Direction, change: LinkChange) -> None:
        """Have a direction change from now on; see emulation.link.LinkChange. Safe from any thread.

        Takes some ten microseconds. Raises LinkError for an impossible change, or if the relay is gone.
        """
        if direction not in self._numbers:
            raise LinkError(f"there is no link {' '.join(direction)}")
        device, way = direction
        relay_parameters.refuse_change(self._links[device], way, change)
        if change.rate_bps is not None:
            self._fastest_bps[direction] = max(self._fastest_bps[direction], change.rate_bps)
        server = None if change.air is None else self._cells.get((change.air, way))
        number, share = self._numbers[direction], self._shares.get(device, 1)
        self._send(relay_parameters.order(number, change, share, server))

    def counters(self) -> dict[Direction, LinkCounters]:
        """See emulation.backend.Backend; LinkError if the relay is gone."""
        return {
            direction: _unpack(counted, self._watched_since.get(direction))
            for direction, counted in self._counted().items()
        }

    def _counted(self) -> dict[Direction, bytes]:
        return {
            direction: self._ask(relay_parameters.question(number))
            for direction, number in self._numbers.items()
        }

    def watch(self) -> None:
        """See emulation.backend.Backend; LinkError if the relay is gone."""
        self._watched_since = self._counted()

    def violations(self) -> list[str]:
        """A dead relay, frames that left too late, and frames that never reached the relay or left it."""
        try:
            counters = self.counters()
        except LinkError as error:
            return [str(error)]
        reasons, machine = [], self._machine()
        since = self._watched_since
        for (device, direction), count in counters.items():
            link = self._links[device]
            jitter_s = (link.up if direction == "up" else link.down).jitter_s
            where = f"{device} {direction}"
            limit_s = lateness_limit_s(self._fastest_bps[device, direction], jitter_s)
            before = _unpack(since[device, direction]).delivered_frames if since else 0
            if count.delivered_frames - before >= _JUDGED_FRAMES and count.lateness_p99_s > limit_s:
                reasons.append(
                    f"{where}: the relay was late, p99 {count.lateness_p99_s * 1e6:.0f} us "
                    f"(limit {limit_s * 1e6:.0f} us); {machine}"
                )
            if count.drops_device:
                reasons.append(f"{where}: the receiving device refused {count.drops_device} frames")
        for interface, missed in self._missed().items():
            if missed > self._missed_before[interface]:
                reasons.append(
                    f"{interface}: {missed - self._missed_before[interface]} frames overran the TAP"
                )
        return reasons

    def stop(self) -> None:
        """End the relay (its control socket's end is its order to leave) and wait for it."""
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            try:
                self._process.wait(timeout=_ANSWER_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        self._ends = []

    def _ask(self, question: bytes) -> bytes:
        """The relay's answer to a message; to the empty one, the next thing it says of itself."""
        try:
            with self._asking:
                if question:
                    self._send(question)
                assert self._control is not None
                answer = self._control.recv(1 << 16)
        except OSError as error:
            raise self._gone(f"does not answer ({error})") from None
        if not answer:
            raise self._gone("is gone")
        return answer

    def _send(self, message: bytes) -> None:
        if self._control is None:
            raise LinkError("the relay is not running")
        try:
            self._control.send(message)
        except OSError as error:
            raise self._gone(f"does not listen ({error})") from None

    def _gone(self, how: str) -> LinkError:
        status = None if self._process is None else self._process.poll()
        return LinkError(f"the relay {how if status is None else f'died with status {status}'}")

    def _machine(self) -> str:
        """What the machine did to the relay, in words, for who wants to know why it was late."""
        try:
            wakes, late, worst_ns, holdups, held_ns, _ = _MACHINE.unpack(
                self._ask(relay_parameters.machine_question())
            )
        except LinkError as error:
            return str(error)
        words = [
            "" if self.realtime else "it has no real-time rank here",
            f"the machine woke it over 0.1 ms late {late} times in {wakes}, {worst_ns * 1e-6:.1f} ms at most",
            f"held it up {holdups} times while it ran, {held_ns * 1e-6:.0f} ms in all",
        ]
        words.append(f"let it wait {1e3 * (self._waited_s() - self._waited_before):.0f} ms for a processor")
        words.append(f"and lost {1e3 * (stolen_s() - self._stolen_before):.0f} ms to its hypervisor")
        return ", ".join(word for word in words if word)

    def _waited_s(self) -> float:
        """How long the relay could have run and did not, if this kernel keeps count of it."""
        assert self._process is not None
        kept = Path(f"/proc/{self._process.pid}/schedstat")  # Documentation/scheduler/sched-stats.rst
        return int(kept.read_text().split()[1]) * 1e-9 if kept.exists() else 0.0

    def _missed(self) -> dict[str, int]:
        """Frames each TAP dropped because nobody had read it, from its namespace's /proc/net/dev."""
        missed = {}
        for end in self._ends:
            for interface, process in (
                (end.device_interface, end.device_pid),
                (end.access_interface, "self"),
            ):
                for line in Path(f"/proc/{process}/net/dev").read_text().splitlines():
                    name, _, numbers = line.strip().partition(":")
                    if name == interface:
                        missed[interface] = int(numbers.split()[11])
        return missed


def _unpack(answer: bytes, since: bytes | None = None) -> LinkCounters:
    """What the relay counted; lateness of the frames `since` an earlier answer."""
    counts = _COUNTS.unpack(answer[: _COUNTS.size])
    offered, offered_bytes, delivered, delivered_bytes, *drops, duplicated, corrupted, latest = counts
    queue, aqm, loss, write, oversize = drops
    bins = _lateness(answer)
    if since is not None:
        bins = [count - before for count, before in zip(bins, _lateness(since), strict=True)]
        latest = min(latest, _quantile_ns(bins, 1))
    return LinkCounters(
        offered_frames=offered,
        offered_bytes=offered_bytes,
        delivered_frames=delivered,
        delivered_bytes=delivered_bytes,
        drops_queue=queue,
        drops_aqm=aqm,
        drops_loss=loss,
        drops_device=write + oversize,
        duplicated=duplicated,
        corrupted=corrupted,
        lateness_p50_s=min(_quantile_ns(bins, 0.5), latest) * 1e-9,
        lateness_p99_s=min(_quantile_ns(bins, 0.99), latest) * 1e-9,
        lateness_max_s=latest * 1e-9,
    )


def _lateness(answer: bytes) -> Sequence[int]:
    """Frames by how late they left; relay.c, bin_of."""
    return struct.unpack(f"={_relay.LATENESS_BINS}Q", answer[_COUNTS.size :])


def _quantile_ns(bins: Sequence[int], q: float) -> int:
    """The upper edge of the bin that holds quantile `q` (relay.c, bin_of): never too small."""
    total, seen = sum(bins), 0
    for number, count in enumerate(bins):
        seen += count
        if total and seen >= q * total:
            exponent = max(0, (number >> _relay.LATENESS_SUB_BITS) - 1)
            return (number - (exponent << _relay.LATENESS_SUB_BITS) + 1) << exponent
    return 0


def _python() -> list[str]:
    """This module as a command; -S because it needs nothing that site would bring, and starts faster."""
    return [sys.executable, "-S", "-m", "emulation.relay"]


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parent.parent)}


def _carry(control: socket.socket, memory: int, parent: int) -> None:
    """The relay process: take the links, take what rank the machine grants, carry frames to the end."""
    die_with_parent(parent)
    with os.fdopen(memory, "rb") as file:
        servers = relay_parameters.unpack(file.read())
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(_PRIORITY))
        realtime = True
    except PermissionError:
        realtime = False
    control.send(json.dumps({"realtime": realtime, "memory_locked": _relay.lock_memory()}).encode())
    _relay.run(servers, control.fileno())


def _main(argv: Sequence[str]) -> int:
    match argv:
        case ["carry", control, memory, parent]:
            _carry(socket.socket(fileno=int(control)), int(memory), int(parent))
        case ["probe"]:
            try:
                os.close(open_tap("probe"))
            except LinkError as error:
                print(error)
                return 1
        case _:
            print("emulation.relay is started by a Network; see emulation/topology.py", file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
