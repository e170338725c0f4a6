"""Payloads in transit: any way of cutting arrives whole; nothing damaged, missing or too long gets in."""

from __future__ import annotations

import contextlib
import tracemalloc
import zlib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proto import payload as payload_module
from proto.federation_pb2 import Chunk
from proto.payload import CHUNK_BYTES, Intake, PayloadError


def chunks(payload: bytes, start: int = 0, chunk_bytes: int = CHUNK_BYTES) -> Iterator[Chunk]:
    """The chunks of a payload that is there in one piece."""
    return payload_module.chunks([payload[start:]], start, chunk_bytes)


class Assembler:
    """An Intake, and all the bytes it accepts."""

    def __init__(self, total_bytes: int) -> None:
        self._intake, self._total, self.bytes = Intake(total_bytes), total_bytes, b""

    @property
    def received(self) -> int:
        return self._intake.received

    @property
    def complete(self) -> bool:
        return self.received == self._total

    def add(self, piece: Chunk) -> None:
        self.bytes += self._intake.accept(piece)

    def payload(self) -> bytes:
        assert self.complete
        return self.bytes


def chunk(offset: int, data: bytes) -> Chunk:
    return Chunk(offset=offset, crc32=zlib.crc32(data), data=data)


@given(st.binary(max_size=2000), st.integers(1, 2100))
def test_any_chunk_size_reassembles(payload: bytes, chunk_bytes: int) -> None:
    assembler = Assembler(len(payload))
    for piece in chunks(payload, chunk_bytes=chunk_bytes):
        assert 1 <= len(piece.data) <= chunk_bytes
        assembler.add(piece)
    assert assembler.complete
    assert assembler.payload() == payload


@given(st.binary(min_size=1, max_size=2000), st.data())
def test_a_transfer_resumes_at_the_byte_received_with_chunks_of_another_size(
    payload: bytes, data: st.DataObject
) -> None:
    """What a client does after a cut: it asks how much has come, and goes on from there."""
    assembler = Assembler(len(payload))
    while not assembler.complete:
        pieces = chunks(payload, assembler.received, chunk_bytes=data.draw(st.integers(1, 500)))
        for _, piece in zip(range(data.draw(st.integers(1, 5))), pieces, strict=False):
            assembler.add(piece)
    assert assembler.payload() == payload


@given(st.binary(min_size=1, max_size=500), st.integers(1, 50), st.randoms(use_true_random=False))
def test_chunks_that_came_before_are_harmless(payload: bytes, chunk_bytes: int, random) -> None:
    assembler = Assembler(len(payload))
    came: list[Chunk] = []
    for piece in chunks(payload, chunk_bytes=chunk_bytes):
        assembler.add(piece)
        came.append(piece)
        assembler.add(random.choice(came))
    assert assembler.payload() == payload


def test_a_late_duplicate_cannot_change_bytes_that_have_been_accepted() -> None:
    """Its checksum is right but its bytes are others: the first to come stay."""
    assembler = Assembler(8)
    assembler.add(chunk(0, b"abcd"))
    assembler.add(chunk(0, b"WXYZ"))
    assembler.add(chunk(4, b"efgh"))
    assert assembler.payload() == b"abcdefgh"


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        (chunk(6, b"gh"), "chunk at byte 6, expected byte 4"),  # a gap
        (chunk(2, b"cdef"), "chunk at byte 2, expected byte 4"),  # overlaps what is there
        (Chunk(offset=4, crc32=1, data=b"efgh"), "checksum of the chunk at byte 4 is wrong"),
        (chunk(4, b"efghi"), "chunk ends at byte 9 of 8"),
        (chunk(8, b"i"), "chunk ends at byte 9 of 8"),
        (chunk(2**64 - 1, b"x"), "of 8"),  # the largest offset that the schema can carry
    ],
)
def test_a_chunk_that_does_not_belong_is_refused_and_nothing_is_lost(bad: Chunk, complaint: str) -> None:
    assembler = Assembler(8)
    assembler.add(chunk(0, b"abcd"))
    with pytest.raises(PayloadError, match=complaint):
        assembler.add(bad)
    assert assembler.received == 4
    assembler.add(chunk(4, b"efgh"))
    assert assembler.payload() == b"abcdefgh"


@given(st.binary(min_size=1, max_size=300), st.data())
def test_any_single_flipped_bit_is_noticed(payload: bytes, data: st.DataObject) -> None:
    [piece] = chunks(payload)
    bit = data.draw(st.integers(0, 8 * len(payload) - 1))
    damaged = bytearray(payload)
    damaged[bit // 8] ^= 1 << bit % 8
    with pytest.raises(PayloadError, match="checksum"):
        Assembler(len(payload)).add(Chunk(offset=0, crc32=piece.crc32, data=bytes(damaged)))


@given(st.lists(st.binary(max_size=300), max_size=10), st.integers(1, 400))
def test_chunks_are_of_one_size_whatever_pieces_they_are_made_of(pieces: list[bytes], size: int) -> None:
    made = list(payload_module.chunks(pieces, 7, size))
    assert b"".join(piece.data for piece in made) == b"".join(pieces)
    assert [piece.offset for piece in made] == [7 + size * index for index in range(len(made))]
    assert all(len(piece.data) == size for piece in made[:-1])


def test_an_empty_payload_is_complete_at_once() -> None:
    assert list(chunks(b"")) == []
    assert Assembler(0).complete
    assert Assembler(0).payload() == b""


def test_memory_is_not_taken_whatever_is_sent() -> None:
    """10 MB of chunks, in place, repeated and beyond the end: an intake counts bytes and keeps none."""
    total = 2**20
    piece = bytes(CHUNK_BYTES)
    tracemalloc.start()
    try:
        intake = Intake(total)
        for index in range(160):
            with contextlib.suppress(PayloadError):
                intake.accept(chunk(CHUNK_BYTES * (index % 32), piece))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert intake.received == total
    assert peak < 4 * CHUNK_BYTES


def test_framing_costs_three_parts_in_ten_thousand() -> None:
    """What CHUNK_BYTES promises: the messages of a whole rank-4 adapter are 0.03 % longer than its bytes."""
    payload = bytes(4 * 797_184)
    assert sum(piece.ByteSize() for piece in chunks(payload)) < 1.0003 * len(payload)
