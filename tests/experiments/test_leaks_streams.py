"""TCP put together again: whatever the order, the overlaps and the copies, the bytes are the sender's."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from experiments.leaks.streams import Stream

FIRST = st.integers(0, 2**32 - 1) | st.integers(2**32 - 300, 2**32 - 1)


def pieces(data: bytes, seed: int) -> list[tuple[int, bytes]]:
    """Segments that cover it, some twice or with an overlap, in any order."""
    chance, at, found = random.Random(seed), 0, []
    while at < len(data):
        size = chance.randint(1, 40)
        begin = max(0, at - chance.choice((0, 0, 7)))
        found += [(begin, data[begin : at + size])] * chance.choice((1, 1, 2))
        at += size
    chance.shuffle(found)
    return found


def taken(first: int, segments: list[tuple[int, bytes]], acknowledged: int) -> Stream:
    """A stream after its SYN and these segments."""
    stream = Stream()
    stream.begin(first)
    for offset, payload in segments:
        stream.add((first + 1 + offset) % 2**32, payload)
    stream.acknowledge((first + 1 + acknowledged) % 2**32)
    return stream


@given(data=st.binary(max_size=600), first=FIRST, seed=st.integers(0, 2**16))
def test_what_was_sent_comes_out(data: bytes, first: int, seed: int) -> None:
    stream = taken(first, pieces(data, seed), len(data))
    stream.add((first + 1 + len(data)) % 2**32, b"", fin=True)
    stream.acknowledge((first + 2 + len(data)) % 2**32)  # The FIN takes a number.
    joined = stream.join()
    assert (joined.data, joined.others, joined.missing_bytes) == (data, [], 0)
    assert not stream.begins_late


@given(
    data=st.binary(min_size=30, max_size=600), first=FIRST, hole=st.integers(0, 500), size=st.integers(1, 20)
)
def test_what_was_received_but_not_captured_is_missing(data: bytes, first: int, hole: int, size: int) -> None:
    hole %= len(data) - size
    segments = [(0, data[:hole]), (hole + size, data[hole + size :])]
    joined = taken(first, segments, len(data)).join()
    assert joined.data == data[:hole] and joined.missing_bytes == size
    assert joined.others == [data[hole + size :].strip(b"\0")] or not data[hole + size :].strip(b"\0")


def test_what_never_arrived_is_not_missing() -> None:
    joined = taken(7, [(0, b"came"), (100, b"lost behind a hole")], 4).join()
    assert (joined.data, joined.others, joined.missing_bytes) == (b"came", [b"lost behind a hole"], 0)


def test_the_last_bytes_can_be_missing_too() -> None:
    assert taken(7, [(0, b"came")], 9).join().missing_bytes == 5


def test_a_copy_that_says_something_else_is_kept() -> None:
    joined = taken(0, [(0, b"damaged here"), (0, b"what was sent"), (13, b", on")], 17).join()
    assert joined.data == b"what was sent, on" and joined.others == [b"damaged here"]


def test_a_stream_without_its_beginning_says_so() -> None:
    stream = Stream()
    stream.add(100, b"in the middle")
    assert stream.begins_late and stream.join().data == b"in the middle"


def test_a_keep_alive_before_the_first_byte_changes_nothing() -> None:
    assert taken(50, [(-1, b"\0"), (0, b"data")], 4).join().data == b"data"
