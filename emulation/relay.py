"""The relay backend: links in user space, for kernels without netem.

Each end of a link is a TAP device. One process, this module run with `python -m emulation.relay`,
holds all their descriptors and carries frames between them (relay.c) on the schedule of relay_core.h.
It is a process of its own, so that nobody else's interpreter lock or garbage delays a frame; it runs
under SCHED_FIFO with its memory locked where that is allowed, and dies with its parent.

The process and its parent share a SOCK_SEQPACKET pair: one JSON message each way to begin with, then
a path's number asks for that path's counters.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from emulation.backend import Direction, LinkCounters, LinkEnds
from emulation.link import AccessLink, LinkError, LinkSpec
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
_COUNTS = struct.Struct("=9Q")
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


def lateness_limit_s(spec: LinkSpec) -> float:
    """How late the 99th percentile of frames may leave: 100 us, or 5 % of a full frame's time if more."""
    return max(_LEAST_LATENESS_S, 0.05 * spec.frame_time_s())


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
        self._paths: dict[Direction, LinkSpec] = {}
        self._missed_before: dict[str, int] = {}

    def refuse(self, link: AccessLink) -> None:
        """Refuse rates at which a frame takes less than the relay's own time for it (a few us)."""
        for direction, spec in (("up", link.up), ("down", link.down)):
            if spec.rate_bps > 1e9:
                raise LinkError(f"{link.device} {direction}: {spec.rate_bps:g} bit/s; relay: at most 1e9")

    def start(self, ends: Sequence[LinkEnds], seed: int) -> None:
        """Start the relay process; return once it carries frames. LinkError if it does not come up."""
        self._ends = list(ends)
        wires = []
        for end in ends:
            assert end.taps is not None, "the relay's wires are TAPs"
            device, access = end.taps
            for direction, spec, taps in (
                ("up", end.link.up, (device, access)),
                ("down", end.link.down, (access, device)),
            ):
                self._paths[end.link.device, direction] = spec
                stream = _seed(seed, end.link.device, direction)
                wires.append((*taps, *_parameters(spec), stream))
        self._missed_before = self._missed()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(_ANSWER_S)
        self._control = ours
        with theirs:
            self._process = subprocess.Popen(
                [*_python(), "carry", str(theirs.fileno()), str(os.getpid())],
                pass_fds=[theirs.fileno(), *(tap for end in ends for tap in end.taps or ())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=_environment(),
                start_new_session=True,  # The terminal's Ctrl-C is for the run, which then stops us.
            )
        ready = json.loads(self._ask(json.dumps(wires).encode()))
        for end in ends:  # The TAPs are the relay's alone: they go if it goes, and no host waits in vain.
            for tap in end.taps or ():
                os.close(tap)
        self.realtime, self.memory_locked = ready["realtime"], ready["memory_locked"]

    def counters(self) -> dict[Direction, LinkCounters]:
        """See emulation.backend.Backend; LinkError if the relay is gone."""
        return {
            path: _unpack(self._ask(struct.pack("=I", number))) for number, path in enumerate(self._paths)
        }

    def violations(self) -> list[str]:
        """A dead relay, frames that left too late, and frames that never reached the relay or left it."""
        try:
            counters = self.counters()
        except LinkError as error:
            return [str(error)]
        reasons = []
        for (device, direction), count in counters.items():
            where, limit_s = f"{device} {direction}", lateness_limit_s(self._paths[device, direction])
            if count.delivered_frames >= _JUDGED_FRAMES and count.lateness_p99_s > limit_s:
                reasons.append(
                    f"{where}: the relay was late, p99 {count.lateness_p99_s * 1e6:.0f} us "
                    f"(limit {limit_s * 1e6:.0f} us)"
                    + ("" if self.realtime else ", it has no real-time rank here")
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
        if self._control is None or self._process is None:
            raise LinkError("the relay is not running")
        try:
            with self._asking:
                self._control.send(question)
                answer = self._control.recv(1 << 16)
        except OSError as error:
            answer, reason = b"", f"does not answer ({error})"
        else:
            reason = "is gone"
        if not answer:
            status = self._process.poll()
            raise LinkError(f"the relay {reason if status is None else f'died with status {status}'}")
        return answer

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


def _parameters(spec: LinkSpec) -> tuple[float, float, float, float, int]:
    return (spec.rate_bps, spec.delay_s, spec.jitter_s, spec.loss, spec.queue_bytes)


def _seed(seed: int, device: str, direction: str) -> int:
    """A stream of its own for every direction, the same in every run of one seed."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{device}/{direction}".encode(), digest_size=8).digest())


def _unpack(answer: bytes) -> LinkCounters:
    offered, offered_bytes, delivered, delivered_bytes, queue, loss, write, oversize, latest = _COUNTS.unpack(
        answer[: _COUNTS.size]
    )
    bins = struct.unpack(f"={_relay.LATENESS_BINS}Q", answer[_COUNTS.size :])
    return LinkCounters(
        offered_frames=offered,
        offered_bytes=offered_bytes,
        delivered_frames=delivered,
        delivered_bytes=delivered_bytes,
        drops_queue=queue,
        drops_loss=loss,
        drops_device=write + oversize,
        lateness_p50_s=min(_quantile_ns(bins, 0.5), latest) * 1e-9,
        lateness_p99_s=min(_quantile_ns(bins, 0.99), latest) * 1e-9,
        lateness_max_s=latest * 1e-9,
    )


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


def _carry(control: socket.socket, parent: int) -> None:
    """The relay process: take the wires, take what rank the machine grants, carry frames to the end."""
    die_with_parent(parent)
    wires = [tuple(wire) for wire in json.loads(control.recv(1 << 20))]
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(_PRIORITY))
        realtime = True
    except PermissionError:
        realtime = False
    control.send(json.dumps({"realtime": realtime, "memory_locked": _relay.lock_memory()}).encode())
    _relay.run(wires, control.fileno())


def _main(argv: Sequence[str]) -> int:
    match argv:
        case ["carry", control, parent]:
            _carry(socket.socket(fileno=int(control)), int(parent))
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
