"""Where a transfer's time went, by its frames: made by hand, and read from a pcap file."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from emulation.link import FRAME_BYTES, SEGMENT_BYTES, LinkSpec
from experiments.bench.transport_frames import Frame, Transfer, Way, read

LINK = LinkSpec(rate_bps=1e6, delay_s=0.010)
FRAME_S = 8 * FRAME_BYTES / 1e6
SENDER, RECEIVER = "02:00:00:00:00:00", "02:00:00:00:00:01"


def segment(t: float, number: int, length: int = FRAME_BYTES) -> Frame:
    """The sender's segment of that number."""
    return Frame(t, SENDER, length, (1, 2), number * SEGMENT_BYTES, length - FRAME_BYTES + SEGMENT_BYTES)


def ack(t: float, number: int) -> Frame:
    """The receiver has everything before the segment of that number."""
    return Frame(t, RECEIVER, 66, (2, 1), 0, 0, number * SEGMENT_BYTES)


def transfer(sent: list[Frame], start_s: float, end_s: float, segments: int) -> Transfer:
    """Every segment arrives at the link's pace after it was sent."""
    came, free = [], 0.0
    for frame in sent:
        if frame.source == SENDER:
            free = max(free, frame.t) + 8 * frame.length / LINK.rate_bps
            came.append(
                Frame(free + LINK.delay_s, SENDER, frame.length, frame.flow, frame.sequence, frame.payload)
            )
    found = Way(SENDER, sent, came, LINK).transfer(start_s, end_s, segments * FRAME_S + LINK.delay_s)
    assert found is not None
    parts = (found.before, found.payload, found.framing, found.window, found.pauses, found.after)
    assert sum(parts) == pytest.approx(end_s - start_s)
    return found


def test_a_full_link_takes_the_bound_and_what_comes_before_and_after() -> None:
    found = transfer([segment(1.0, n) for n in range(5)], 0.998, 1.0 + 5 * FRAME_S + 0.010 + 0.003, 5)
    assert (found.before, found.after) == (pytest.approx(0.002), pytest.approx(0.003))
    assert (found.framing, found.window, found.pauses) == pytest.approx((0, 0, 0), abs=1e-9)


def test_a_sender_that_goes_on_when_an_acknowledgement_comes_waited_for_its_window() -> None:
    sent = [segment(1.0, 0), segment(1.0, 1), ack(1.1, 1), segment(1.1002, 2)]
    found = transfer(sent, 1.0, 1.2, 3)
    assert found.window == pytest.approx(0.1002 - 2 * FRAME_S)
    assert found.pauses == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    "sent",
    [
        [segment(1.0, 0), segment(1.0, 1), ack(1.05, 1), segment(1.1, 2)],  # Long after the acknowledgement.
        [segment(1.0, 0), segment(1.0, 1), ack(1.1, 2), segment(1.1002, 2)],  # Nothing was out any more.
        [segment(1.0, 0), segment(1.0, 1), segment(1.1, 2)],
    ],
)
def test_any_other_idle_time_is_a_pause(sent: list[Frame]) -> None:
    found = transfer(sent, 1.0, 1.2, 3)
    assert found.pauses == pytest.approx(sent[-1].t - 1 - 2 * FRAME_S)
    assert found.window == pytest.approx(0, abs=1e-9)


def test_a_frame_that_was_on_its_way_before_the_start_is_another_s() -> None:
    sent = [segment(0.995, 9, 100), *(segment(1.1, n) for n in range(3))]
    found = transfer(sent, 1.0, 1.2, 3)
    assert found.before == pytest.approx(0.1)
    assert found.pauses == pytest.approx(0, abs=1e-9)


def test_what_is_sent_again_is_counted_and_is_framing() -> None:
    found = transfer([segment(1.0, 0), segment(1.0, 1), segment(1.0, 0), segment(1.0, 2)], 1.0, 1.1, 3)
    assert found.retransmitted == 1
    assert found.framing == pytest.approx(FRAME_S)


def test_sequence_numbers_wrap_around() -> None:
    last = Frame(1.0, SENDER, FRAME_BYTES, (1, 2), (1 << 32) - SEGMENT_BYTES, SEGMENT_BYTES)
    assert transfer([last, segment(1.0, 0), segment(1.0, 1)], 1.0, 1.1, 3).retransmitted == 0


def test_without_a_frame_nothing_is_known() -> None:
    assert Way(SENDER, [], [], LINK).transfer(0, 1, 0.1) is None
    acknowledgement = Frame(0.5, SENDER, 66, (1, 2), 0, 0, 7)
    assert Way(SENDER, [acknowledgement], [acknowledgement], LINK).transfer(0, 1, 0.1) is None


def test_a_capture_is_read_and_its_cut_last_record_is_not(tmp_path: Path) -> None:
    ethernet = bytes.fromhex("020000000001020000000000") + b"\x08\x00"
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + 32 + 100, 0, 0, 64, 6, 0, b"\n\0\0\1", b"\n\0\0\2")
    tcp = struct.pack("!HHIIBBHHH", 5001, 40000, 1000, 2000, 8 << 4, 0x10, 0, 0, 0)
    head = ethernet + ip + tcp + bytes(12)
    arp = ethernet[:12] + b"\x08\x06" + bytes(28)
    records = b"".join(
        struct.pack("=IIII", 1000, 500_000_000, len(data), length) + data
        for data, length in ((head, 166), (arp, 42))
    )
    (tmp_path / "x.pcap").write_bytes(bytes(24) + records + struct.pack("=IIII", 1001, 0, 66, 66) + b"cut")
    first, second = read(tmp_path / "x.pcap", realtime_minus_monotonic_s=990.0)
    assert first == Frame(pytest.approx(10.5), SENDER, 166, (5001, 40000), 1000, 100, 2000)  # type: ignore[arg-type]
    assert (second.source, second.length, second.payload, second.acknowledges) == (SENDER, 42, 0, None)
