"""Frames of any interfaces into pcap files, in their own namespaces, by one process for all of them.

The kernel cuts frames to `snaplen` and hands them over by the block (PACKET_MMAP, TPACKET_V3: Linux,
Documentation/networking/packet_mmap.rst), so that this process wakes seldom and disturbs the timing
little. It is niced, and what it misses is counted. No packet library is needed: a pcap file is a header
and the frames (draft-ietf-opsawg-pcap), here with nanoseconds.
"""

from __future__ import annotations

import ctypes
import io
import json
import mmap
import os
import selectors
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from emulation.link import LinkError
from emulation.sandbox import die_with_parent

# linux/if_packet.h, linux/if_ether.h, asm-generic/socket.h, linux/sched.h
_SOL_PACKET, _RX_RING, _STATISTICS, _VERSION = 263, 5, 6, 10
_TPACKET_V3, _ETH_P_ALL, _SO_ATTACH_FILTER, _CLONE_NEWNET = 2, 3, 26, 0x40000000
_STATUS_USER = 1
_BLOCK = struct.Struct("=8xIII")  # status, frames, offset of the first
_BLOCK_STATUS_AT = 8
_FRAME = struct.Struct("=IIIII4xH")  # next, seconds, nanoseconds, captured, length; where the frame is

_BLOCK_BYTES, _BLOCKS, _FRAME_BYTES = 1 << 18, 32, 1 << 11
"""Of the ring that holds frames until they are written: 8 MiB an interface."""
_RETIRE_MS = 50
_PCAP = struct.Struct("=IHHiIII")
_RECORD = struct.Struct("=IIII")
_NANOSECOND_MAGIC, _ETHERNET = 0xA1B23C4D, 1
_NICENESS = 10
_ANSWER_S = 20.0


class Capture:
    """Captures from `with` to the block's end, each into `folder`/<interface>.pcap.

    `interfaces` all there are, with a process in the namespaces of each; `wanted` some of
    them. Raises LinkError for one that does not exist.
    """

    def __init__(
        self,
        interfaces: Mapping[str, int],
        wanted: Sequence[str],
        folder: Path,
        *,
        snaplen: int = 128,
    ) -> None:
        names = list(dict.fromkeys(wanted))
        for name in names:
            if name not in interfaces:
                raise LinkError(f"no interface {name} to capture; there are {', '.join(sorted(interfaces))}")
        self._jobs = {name: (interfaces[name], str(folder / f"{name}.pcap")) for name in names}
        self._folder, self._snaplen = folder, snaplen
        self._process: subprocess.Popen[bytes] | None = None
        self._counts: dict[str, dict[str, int]] = {}
        self._failure: str | None = None

    def __enter__(self) -> Capture:
        if not self._jobs:
            return self
        self._folder.mkdir(exist_ok=True)
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-m", "emulation.capture", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parent.parent)},
            start_new_session=True,
        )
        try:
            ready = self._ask(json.dumps({"jobs": self._jobs, "snaplen": self._snaplen}))
            if "error" in ready:
                raise LinkError(f"capture: {ready['error']}")
        except BaseException:
            self._process.kill()
            self._process.communicate()
            self._process = None
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is None:
            return
        try:
            self._counts = self._ask("stop")
        except LinkError as failure:
            self._failure = str(failure)
        self._process.kill()
        self._process.communicate()
        self._process = None

    def summary(self) -> dict[str, Any]:
        """After the block: per interface its file and counts, and how its times compare with the run's."""
        return {
            "interfaces": {
                name: {"file": f"{self._folder.name}/{name}.pcap", **self._counts.get(name, {})}
                for name in self._jobs
            },
            "snaplen_bytes": self._snaplen,
            "realtime_minus_monotonic_s": time.time() - time.monotonic(),
            "note": "capturing takes some of the processor from the run; its frames carry CLOCK_REALTIME",
        }

    def warnings(self) -> list[str]:
        """After the block: what is missing from the files."""
        if self._failure:
            return [self._failure]
        return [
            f"capture of {name}: {count['dropped']} frames are missing, {count['frames']} are there"
            for name, count in self._counts.items()
            if count["dropped"]
        ]

    def _ask(self, line: str) -> dict[str, Any]:
        assert self._process is not None and self._process.stdin and self._process.stdout
        try:
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
            with selectors.DefaultSelector() as selector:
                selector.register(self._process.stdout, selectors.EVENT_READ)
                answer = self._process.stdout.readline() if selector.select(_ANSWER_S) else b""
        except OSError:
            answer = b""
        if not answer:
            raise LinkError("the capture process died or does not answer: captures are incomplete")
        document: dict[str, Any] = json.loads(answer)
        return document


class _Tap:
    """One interface's socket, ring and file; made in the interface's namespace."""

    def __init__(self, interface: str, path: str, snaplen: int) -> None:
        self.frames = 0
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self.socket.setsockopt(_SOL_PACKET, _VERSION, _TPACKET_V3)
        cut = ctypes.create_string_buffer(struct.pack("=HBBI", 0x06, 0, 0, snaplen))  # BPF: ret #snaplen
        program = struct.pack("HxxxxxxP", 1, ctypes.addressof(cut))
        self.socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
        frames = _BLOCK_BYTES // _FRAME_BYTES * _BLOCKS
        ring = struct.pack("=7I", _BLOCK_BYTES, _BLOCKS, _FRAME_BYTES, frames, _RETIRE_MS, 0, 0)
        self.socket.setsockopt(_SOL_PACKET, _RX_RING, ring)
        self._ring = mmap.mmap(self.socket.fileno(), _BLOCK_BYTES * _BLOCKS, mmap.MAP_SHARED)
        self._next = 0
        self._file = io.BufferedWriter(io.FileIO(path, "wb"), 1 << 20)
        self._file.write(_PCAP.pack(_NANOSECOND_MAGIC, 2, 4, 0, 0, snaplen, _ETHERNET))
        self.socket.bind((interface, _ETH_P_ALL))

    def take(self) -> None:
        """Write out every block that the kernel has handed over, in order, and hand it back."""
        while True:
            base = self._next * _BLOCK_BYTES
            status, frames, offset = _BLOCK.unpack_from(self._ring, base)
            if not status & _STATUS_USER:
                return
            at = base + offset
            for _ in range(frames):
                step, seconds, nanoseconds, captured, length, mac = _FRAME.unpack_from(self._ring, at)
                self._file.write(_RECORD.pack(seconds, nanoseconds, captured, length))
                self._file.write(self._ring[at + mac : at + mac + captured])
                at += step
            self.frames += frames
            struct.pack_into("=I", self._ring, base + _BLOCK_STATUS_AT, 0)
            self._next = (self._next + 1) % _BLOCKS

    def close(self) -> dict[str, int]:
        """The last blocks, and how many frames are in the file and how many are missing from it."""
        _, dropped, _ = struct.unpack("=3I", self.socket.getsockopt(_SOL_PACKET, _STATISTICS, 12))
        self.take()
        self._file.close()
        return {"frames": self.frames, "dropped": dropped}


def _main(parent: int) -> None:
    """The capture process: a request, `{}` when it captures, a line to stop, counts."""
    die_with_parent(parent)
    request = json.loads(sys.stdin.readline())
    try:
        taps = {}
        for name, (pid, path) in request["jobs"].items():
            _join_network_of(pid)
            taps[name] = _Tap(name, path, request["snaplen"])
        os.nice(_NICENESS)
    except OSError as error:
        print(json.dumps({"error": f"{name}: {error}"}), flush=True)
        return
    print("{}", flush=True)
    with selectors.DefaultSelector() as selector:
        selector.register(sys.stdin, selectors.EVENT_READ)
        for tap in taps.values():
            selector.register(tap.socket, selectors.EVENT_READ, tap)
        stopping = False
        while not stopping:
            for key, _ in selector.select():
                if key.data is None:
                    stopping = True
                else:
                    key.data.take()
    time.sleep(3e-3 * _RETIRE_MS)  # By then the kernel has handed over what was left.
    print(json.dumps({name: tap.close() for name, tap in taps.items()}), flush=True)


def _join_network_of(pid: int) -> None:
    """setns(2) into the network namespace of process `pid`, for the sockets opened from now on."""
    with Path(f"/proc/{pid}/ns/net").open() as namespace:
        if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


if __name__ == "__main__":
    _main(int(sys.argv[1]))
