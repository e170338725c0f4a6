"""What calibration runs inside a host's namespaces: senders, receivers and pings on plain sockets.

`python -m emulation.probes SOCKET` forks an agent for each request on that descriptor: a process in a host's
network that reads one JSON request a line on standard input and answers one JSON line each. It shares nothing
with the code that puts links in force, and nothing but the standard library is imported. Times are
nanoseconds of CLOCK_REALTIME, as the kernel's receive timestamps are; all hosts share the machine's clock.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from typing import Any

SMALL_BYTES = 60
"""A small frame on layer 2: Ethernet 14, IPv4 20, UDP 8, and the stamp with 2 bytes to spare."""
PING_BYTES = 98
"""An echo request on layer 2: Ethernet 14, IPv4 20, ICMP 8 and 56 of payload, as ping(8) sends."""

_STAMP = struct.Struct("!QQ")  # sequence number, when it was sent
_HEADERS = 14 + 20 + 8
_SO_TIMESTAMPNS, _SO_RXQ_OVFL, _SO_RCVBUFFORCE = 35, 40, 33  # asm-generic/socket.h
_TCP_NOTSENT_LOWAT = 25  # linux/tcp.h
_UDP_SEGMENT, _SEGMENTS = 103, 40  # linux/udp.h; what one call may send, below 64 KiB
_TIMESPEC, _COUNT = struct.Struct("=qq"), struct.Struct("=I")
_RECEIVE_BUFFER = 8 << 20

_STDIN = 0
_PR_SET_PDEATHSIG, _CLONE_NEWNET = 1, 0x40000000  # linux/prctl.h, linux/sched.h
_ETH_P_IP, _PACKET_HOST = 0x0800, 0  # linux/if_ether.h, linux/if_packet.h
_open: dict[str, socket.socket] = {}


def _line() -> bytes:
    """A line of standard input, and no byte more: select() would not see what a buffer has taken."""
    line = b""
    while byte := os.read(_STDIN, 1):
        line += byte
        if byte == b"\n":
            break
    return line


def _receiving(kind: int, protocol: int = 0, family: int = socket.AF_INET) -> socket.socket:
    """A socket whose messages carry the kernel's receive timestamp and its count of overruns."""
    sock = socket.socket(family, kind, protocol)
    sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    sock.setsockopt(socket.SOL_SOCKET, _SO_RXQ_OVFL, 1)
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
    except PermissionError:  # An ordinary user gets what net.core.rmem_max allows; overruns would show.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
    return sock


def _receive(sock: socket.socket) -> tuple[bytes, int, int, Any]:
    """One message: payload, kernel timestamp, overruns of this socket so far, whom it came from."""
    payload, ancillary, _, address = sock.recvmsg(2048, 128)
    stamp = overruns = 0
    for _, kind, data in ancillary:
        if kind == _SO_TIMESTAMPNS:
            seconds, nanoseconds = _TIMESPEC.unpack(data[:16])
            stamp = seconds * 1_000_000_000 + nanoseconds
        elif kind == _SO_RXQ_OVFL:
            (overruns,) = _COUNT.unpack(data[:4])
    return payload, stamp, overruns, address


def listen(_: dict[str, Any]) -> dict[str, Any]:
    """Open a UDP socket for the next `collect`. -> port."""
    sock = _open["udp"] = _receiving(socket.SOCK_DGRAM)
    sock.bind(("", 0))
    return {"port": sock.getsockname()[1]}


def tap(_: dict[str, Any]) -> dict[str, Any]:
    """As `listen`, and see the frames themselves too, before the kernel drops the damaged. -> port."""
    _open["raw"] = _receiving(socket.SOCK_RAW, socket.htons(_ETH_P_IP), socket.AF_PACKET)
    return listen({})


def collect(request: dict[str, Any]) -> dict[str, Any]:
    """Take datagrams until the next line on standard input, and then until `quiet_s` brings none.

    -> frames: [sequence number, sent, received] each, and overruns of the socket.
    """
    sock = _open.pop("udp")
    frames, overruns, stopping = [], 0, False
    with sock:
        while True:
            watched: list[Any] = [sock] if stopping else [sock, _STDIN]
            ready, _, _ = select.select(watched, [], [], request["quiet_s"] if stopping else None)
            if sock in ready:
                payload, received, overruns, _ = _receive(sock)
                sequence, sent = _STAMP.unpack(payload[: _STAMP.size])
                frames.append((sequence, sent, received))
            elif not ready:
                return {"frames": frames, "overruns": overruns}
            if _STDIN in ready:
                _line()
                stopping = True


def inspect(request: dict[str, Any]) -> dict[str, Any]:
    """As `collect`, after `tap`: small frames from `source` to `target`, damaged ones counted apart.

    A frame is ours if its addresses and port are, but for a single bit. Addresses and checksums cover all
    of a frame past its Ethernet header, so no damaged bit escapes. -> frames, overruns, corrupted.
    """
    frames: list[tuple[int, int, int]] = []
    corrupted, overruns, stopping = 0, 0, False
    addresses = socket.inet_aton(request["source"]) + socket.inet_aton(request["target"])
    with _open.pop("udp") as udp, _open.pop("raw") as sock:
        ours = int.from_bytes(addresses + struct.pack("!H", udp.getsockname()[1]))
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)  # It holds the port; nobody reads it.
        while True:
            watched: list[Any] = [sock] if stopping else [sock, _STDIN]
            ready, _, _ = select.select(watched, [], [], request["quiet_s"] if stopping else None)
            if sock in ready:
                frame, received, overruns, address = _receive(sock)
                theirs = int.from_bytes(frame[26:34] + frame[36:38])
                is_ours = len(frame) == SMALL_BYTES and (ours ^ theirs).bit_count() <= 1
                if is_ours and address[2] == _PACKET_HOST:
                    pseudo = struct.pack("!8sHH", addresses, socket.IPPROTO_UDP, SMALL_BYTES - 34)
                    if _checksum(frame[14:34]) == 0 == _checksum(pseudo + frame[34:]):
                        frames.append((*_STAMP.unpack_from(frame, _HEADERS), received))
                    else:
                        corrupted += 1
            elif not ready:
                return {"frames": frames, "overruns": overruns, "corrupted": corrupted}
            if _STDIN in ready:
                _line()
                stopping = True


def saturate(request: dict[str, Any]) -> dict[str, Any]:
    """Send full frames at `rate_bps` for `duration_s` after `preload` of them at once.

    The schedule is absolute: held up, it catches up, so that the link's queue stays filled. With a
    link of `link_bps` and `queue_bytes` the queue would have run dry for `idle_s` in all.
    -> sent, idle_s.
    """
    frame = request["frame_bytes"]
    frame_ns, link_ns = 8e9 * frame / request["rate_bps"], 8e9 * frame / request["link_bps"]
    held_ns = 8e9 * (request["queue_bytes"] + frame) / request["link_bps"]
    padding = bytes(frame - _HEADERS - _STAMP.size)
    sent, idle = 0, 0.0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((request["host"], request["port"]))
        start = busy = time.time_ns()
        end = start + request["duration_s"] * 1e9
        while (now := time.time_ns()) < end:
            due = start + (sent - request["preload"]) * frame_ns
            if due > now:
                time.sleep((due - now) * 1e-9)
                continue
            sock.send(_STAMP.pack(sent, now) + padding)
            sent += 1
            idle += max(0, now - busy)
            busy = min(max(busy, now) + link_ns, now + held_ns)
    return {"sent": sent, "idle_s": idle * 1e-9}


def pace(request: dict[str, Any]) -> dict[str, Any]:
    """Send `count` frames of `frame_bytes` every `interval_s`, at most `at_once` together. -> sent."""
    padding = bytes(request["frame_bytes"] - _HEADERS - _STAMP.size)
    interval = request["interval_s"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((request["host"], request["port"]))
        due = time.monotonic()
        for sequence in range(request["count"]):
            now = time.monotonic()
            if due > now:
                time.sleep(due - now)
            sock.send(_STAMP.pack(sequence, time.time_ns()) + padding)
            due = max(due, time.monotonic() - (request["at_once"] - 1) * interval) + interval
    return {"sent": request["count"]}


def ping(request: dict[str, Any]) -> dict[str, Any]:
    """Send `count` echo requests to `host` every `interval_s`. -> rtts_s of those answered."""
    identity = os.getpid() & 0xFFFF
    sent: dict[int, int] = {}
    rtts: list[float] = []
    with _receiving(socket.SOCK_RAW, socket.IPPROTO_ICMP) as sock:
        sock.connect((request["host"], 0))
        due = time.monotonic()
        for sequence in range(request["count"] + 1):
            last = sequence == request["count"]
            deadline = due + (request["wait_s"] if last else 0)
            while len(rtts) < sequence or not last:
                remaining = deadline - time.monotonic()
                if remaining <= 0 or not select.select([sock], [], [], remaining)[0]:
                    break
                packet, received, _, _ = _receive(sock)
                reply = packet[(packet[0] & 15) * 4 :]
                kind, _, _, echoed, number = struct.unpack("!BBHHH", reply[:8])
                if kind == 0 and echoed == identity and number in sent:
                    rtts.append((received - sent.pop(number)) * 1e-9)
            if not last:
                echo = struct.pack("!BBHHH", 8, 0, 0, identity, sequence) + bytes(56)
                echo = echo[:2] + struct.pack("!H", _checksum(echo)) + echo[4:]
                sent[sequence] = time.time_ns()
                sock.send(echo)
                due = max(due, time.monotonic() - request["interval_s"]) + request["interval_s"]
    return {"rtts_s": rtts}


def _checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of an even number of bytes."""
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def accept(_: dict[str, Any]) -> dict[str, Any]:
    """Open a TCP socket for the next `drain`. -> port."""
    sock = _open["tcp"] = socket.socket()
    sock.bind(("", 0))
    sock.listen(1)
    return {"port": sock.getsockname()[1]}


def drain(request: dict[str, Any]) -> dict[str, Any]:
    """Read one connection to its end. -> goodput_bps between `skip_s` and `until_s` after it opened."""
    with _open.pop("tcp") as listener:
        connection, _ = listener.accept()
    with connection:
        opened = first = last = time.monotonic()
        buffer, counted = bytearray(1 << 18), 0
        while length := connection.recv_into(buffer):
            now = time.monotonic()
            if now - opened < request["skip_s"]:
                first = last = now
            elif now - opened < request["until_s"]:
                last = now
                counted += length
    return {"goodput_bps": 8 * counted / (last - first) if last > first else 0.0}


def pour(request: dict[str, Any]) -> dict[str, Any]:
    """Send over one TCP connection for `duration_s`. -> congestion_control it used."""
    block = bytes(1 << 16)
    with socket.create_connection((request["host"], request["port"])) as sock:
        name = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0").decode()
        sock.setsockopt(
            socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, 1 << 17
        )  # Leave little to send after the end.
        end = time.monotonic() + request["duration_s"]
        while (remaining := end - time.monotonic()) > 0:
            if select.select([], [sock], [], remaining)[1]:
                sock.send(block, socket.MSG_DONTWAIT)
    return {"congestion_control": name}


def flood(request: dict[str, Any]) -> dict[str, Any]:
    """Send full frames at `rate_bps` for `duration_s`, many a call (UDP_SEGMENT, udp(7)). -> sent."""
    payload = request["frame_bytes"] - _HEADERS
    block = bytes(_SEGMENTS * payload)
    interval = 8 * _SEGMENTS * request["frame_bytes"] / request["rate_bps"]
    sent = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_UDP, _UDP_SEGMENT, payload)
        sock.connect((request["host"], request["port"]))
        due = time.monotonic()
        end = due + request["duration_s"]
        while (now := time.monotonic()) < end:
            if due > now:
                time.sleep(due - now)
            sent += sock.send(block) // payload
            due = max(due, now - 0.05) + interval
    return {"sent": sent}


def count(_: dict[str, Any]) -> dict[str, Any]:
    """What this namespace's interfaces have received (proc_pid_net(5), dev). -> frames, bytes, at_ns."""
    from pathlib import Path  # Slow to import, and of use to few agents.

    rows = [line.partition(":") for line in Path("/proc/thread-self/net/dev").read_text().splitlines()[2:]]
    received = [numbers.split() for name, _, numbers in rows if name.strip() != "lo"]
    return {
        "frames": sum(int(numbers[1]) for numbers in received),
        "bytes": sum(int(numbers[0]) for numbers in received),
        "at_ns": time.monotonic_ns(),
    }


_JOBS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    job.__name__: job
    for job in (listen, collect, tap, inspect, saturate, pace, ping, accept, drain, pour, flood, count)
}


def main() -> None:
    """Fork an agent for each message (a process in the network to join; its standard input and output)."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # Nobody waits for agents.
    parent = os.getpid()
    with socket.socket(fileno=int(sys.argv[1])) as control:
        while True:
            message, descriptors, _, _ = socket.recv_fds(control, 32, 2)
            if not message:
                return
            if os.fork() == 0:
                break
            for descriptor in descriptors:
                os.close(descriptor)
            control.send(b"!")
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return
    for standard, descriptor in enumerate(descriptors):
        os.dup2(descriptor, standard)
        os.close(descriptor)
    namespace = os.open(f"/proc/{int(message)}/ns/net", os.O_RDONLY)
    if libc.setns(namespace, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), f"setns into the network of process {int(message)}")
    _serve()


def _serve() -> None:
    """Answer requests until standard input ends."""
    # Ahead of ordinary load: a sender held up measures itself. Not real-time: a real-time rank for many
    # starves a core, and then the kernel halts every real-time process on it for 50 ms, relays too.
    with contextlib.suppress(PermissionError):
        os.nice(-20)
    while line := _line():
        request = json.loads(line)
        try:
            answer = _JOBS[request["job"]](request)
        except OSError as error:
            answer = {"error": f"{request['job']}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
