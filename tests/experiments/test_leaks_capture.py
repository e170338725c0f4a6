"""A pcap file as what crossed the link, and everything that makes it less than that."""

from __future__ import annotations

import random
from pathlib import Path

import dpkt
import pytest

from experiments.leaks.capture import CaptureError, Crossed, read_capture
from tests.experiments.captured import DEVICE, PORT, SERVER, connection, frame, write_pcap

UP, DOWN = random.Random(1).randbytes(5000), random.Random(2).randbytes(3000)


def crossed(folder: Path, frames: list[bytes], snaplen: int = 65535) -> Crossed:
    write_pcap(folder / "dev0-eth0.pcap", frames, snaplen)
    return read_capture(folder / "dev0-eth0.pcap", PORT)


def datagram(source: bytes, destination: bytes, payload: bytes, **fields: int) -> bytes:
    """A frame of UDP."""
    content = dpkt.udp.UDP(sport=5, dport=6, data=payload, ulen=8 + len(payload))
    packet = dpkt.ip.IP(src=source, dst=destination, p=17, data=content, **fields)
    packet.len = len(packet)
    return bytes(dpkt.ethernet.Ethernet(data=packet))


def test_both_directions_of_a_connection(tmp_path: Path) -> None:
    found = crossed(tmp_path, connection(UP, DOWN))
    (one,) = found.connections
    assert (one.up.data, one.down.data) == (UP, DOWN)
    assert (found.up_bytes, found.down_bytes, found.problems) == (5000, 3000, [])


def test_ports_that_are_used_again_are_another_connection(tmp_path: Path) -> None:
    frames = connection(UP, DOWN) + connection(DOWN, UP, first=(77, 99))
    found = crossed(tmp_path, frames)
    assert [(one.up.data, one.down.data) for one in found.connections] == [(UP, DOWN), (DOWN, UP)]
    assert found.problems == []


def test_what_is_not_tcp_is_there_too(tmp_path: Path) -> None:
    frames = [datagram(DEVICE, SERVER, b"told"), datagram(SERVER, DEVICE, b"heard")]
    arp = bytes(dpkt.ethernet.Ethernet(data=dpkt.arp.ARP(), type=dpkt.ethernet.ETH_TYPE_ARP))
    found = crossed(tmp_path, [*frames, arp, *connection(UP, DOWN)])
    assert found.up.endswith(b"told") and b"heard" in found.down and arp in found.down
    assert found.problems == []


def test_a_frame_that_was_damaged_on_the_link_is_not_in_the_stream(tmp_path: Path) -> None:
    frames = connection(UP, DOWN)
    at = next(index for index, one in enumerate(frames) if DOWN[:100] in one)
    damaged = frames[at][:-9] + bytes([frames[at][-9] ^ 4]) + frames[at][-8:]
    found = crossed(tmp_path, [*frames[:at], damaged, *frames[at:]])
    assert found.connections[0].down.data == DOWN and found.problems == []
    assert DOWN[:100] in found.down


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (
            lambda frames: [one for one in frames if UP[:99] not in one],
            "1448 bytes were received by TCP but not",
        ),
        (lambda frames: frames[3:], "no connection to the server's port 50051 was captured"),
        (lambda frames: frames[1:], "no connection to the server's port"),
        (
            lambda frames: frames[:1] + frames[2:],
            "1 directions of TCP connections began before the capture did",
        ),
        (lambda frames: [*frames, datagram(DEVICE, SERVER, b"half", mf=1)], "1 IP fragments"),
        (lambda frames: [], "no connection"),
    ],
    ids=["a frame is missing", "no handshake", "no SYN", "no answer to it", "a fragment", "nothing"],
)
def test_what_is_missing_is_said(tmp_path: Path, spoil, says: str) -> None:  # type: ignore[no-untyped-def]
    assert any(says in problem for problem in crossed(tmp_path, spoil(connection(UP, DOWN))).problems)


def test_headers_alone_are_no_capture_of_a_payload(tmp_path: Path) -> None:
    problems = crossed(tmp_path, connection(UP, DOWN), snaplen=128).problems
    assert "7 frames were cut short: capture with network.snaplen=64kB" in problems


@pytest.mark.parametrize("content", [None, b"", b"no capture, but as long as a header", bytes(24)])
def test_what_is_no_capture_is_one_line(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "dev0-eth0.pcap"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CaptureError, match=f"{path} is not a capture: ") as caught:
        read_capture(path, PORT)
    assert "\n" not in str(caught.value)


def test_the_frames_made_here_are_as_the_kernel_makes_them() -> None:
    """Their checksums are right: what the reader checks is not what it made itself."""
    packet = dpkt.ethernet.Ethernet(frame(True, 5, 6, b"payload")).data
    assert dpkt.in_cksum(bytes(packet)[:20]) == 0
