"""The search: what is there is found wherever it stands, what is not is not, and nothing counts twice."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from experiments.leaks.needles import (
    LEAST_BYTES,
    STRIDE_BYTES,
    WINDOW_BYTES,
    Wholes,
    Windows,
    expected_by_chance,
)

RUN = WINDOW_BYTES + STRIDE_BYTES - 1


def noise(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)


def items() -> list[bytes]:
    return [noise(500, seed) for seed in range(5)]


@given(
    which=st.integers(0, 4),
    begin=st.integers(0, 500 - RUN),
    before=st.integers(0, 100),
    after=st.integers(0, 100),
)
def test_any_run_of_bytes_is_found_at_any_place(which: int, begin: int, before: int, after: int) -> None:
    windows = Windows(items())
    part = items()[which][begin : begin + RUN]
    windows.search(noise(before, 98) + part + noise(after, 99))
    found = windows.found()
    assert WINDOW_BYTES <= found[which] <= RUN
    assert np.count_nonzero(found) == 1


def test_all_of_an_item_is_all_that_can_be_found_of_it() -> None:
    windows = Windows([*items(), b"short"])
    windows.search(noise(13, 7) + items()[2] + b"short")
    assert windows.found().tolist() == [0, 0, 500, 0, 0, 0]
    assert windows.searchable().tolist() == [500] * 5 + [0]


def test_a_search_in_parts_gathers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("experiments.leaks.needles._PART", 37)
    windows = Windows(items())
    windows.search(b"".join(items()[:2]))
    windows.search(items()[4])
    assert windows.found().tolist() == [500, 500, 0, 0, 500]


def test_what_several_items_share_is_told_of_none_of_them() -> None:
    shared, own, other = noise(320, 1), noise(160, 2), noise(160, 3)
    windows = Windows([shared + own, shared + other])
    windows.search(shared)
    assert windows.found().tolist() == [0, 0]
    windows.search(own)
    assert windows.found()[0] >= len(own) and windows.found()[1] == 0


def test_equal_items_are_found_together() -> None:
    windows = Windows([noise(100, 1), noise(100, 2), noise(100, 1)])
    windows.search(noise(100, 1))
    assert windows.found().tolist() == [100, 0, 100]


def test_plain_areas_are_not_looked_for() -> None:
    plain = b"\xff\xff\x00" * 100
    windows = Windows([plain, plain + noise(64, 3)])
    windows.search(plain)
    assert windows.found().tolist() == [0, 0] and windows.searchable()[0] == 0


def test_what_has_no_part_of_its_own_is_found_whole() -> None:
    plain, other = (b"\xff" * 100 + dots * 20 + b"\xff" * 100 for dots in (b"\x00\x80", b"\x00\x90"))
    windows = Windows([plain, other, b"\xff" * 240])
    assert windows.searchable().tolist() == [240, 240, 0]
    windows.search(b"\xff" * 300 + plain[:-1] + b"\xfe")
    assert windows.found().tolist() == [0, 0, 0]
    windows.search(noise(10, 1) + plain)
    assert windows.found().tolist() == [240, 0, 0]


@given(before=st.binary(max_size=40), after=st.binary(max_size=40))
def test_a_text_is_found_whole_or_not_at_all(before: bytes, after: bytes) -> None:
    assume(not after.startswith(b"e"))  # Which would make it whole.
    texts = Wholes([b"grinning face, flat style", b"short", "Häuschen im Schnee".encode()])
    texts.search(before + b"grinning face, flat styl" + after)
    assert texts.found().tolist() == [0, 0, 0]
    texts.search(before + "Häuschen im Schnee, short".encode() + after)
    assert texts.found().tolist() == [0, 0, 19]
    assert texts.searchable().tolist() == [25, 0, 19]


def test_a_text_within_a_longer_one_is_not_told_by_it() -> None:
    texts = Wholes([b"cat face, flat style", b"black cat face, flat style", b"cat face, flat"])
    texts.search(b"{black cat face, flat style}")
    assert (texts.found() > 0).tolist() == [False, True, False]
    texts.search(b"{cat face, flat style}")
    assert (texts.found() > 0).tolist() == [True, True, False]


def test_nothing_to_look_for_is_no_error() -> None:
    for needles in (Windows([]), Windows([b"short"]), Wholes([]), Wholes([b"a" * (LEAST_BYTES - 1)])):
        needles.search(noise(100, 1))
        assert needles.found().sum() == 0


def test_hits_by_chance_are_what_independent_bytes_give() -> None:
    histogram = np.zeros(256, np.int64)
    histogram[[ord("a"), ord("b")]] = 3000, 1000
    assert expected_by_chance([b"aab"], histogram) == pytest.approx(4000 * 0.75**2 * 0.25)
    assert expected_by_chance([b"aab", b"bc"], histogram) == pytest.approx(4000 * 0.75**2 * 0.25)
    windows = Windows([bytes(range(64))]).strings
    assert expected_by_chance(windows, np.full(256, 4)) == pytest.approx(1024 * len(windows) * 256.0**-32)
