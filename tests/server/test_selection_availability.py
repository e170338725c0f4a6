"""Availability traces: who is there when, who comes next, and what is no trace."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.selection import Availability, SelectionError, read_availability

TRACE = "device,from_s,until_s\ndev0,0,10\ndev1,5,20\ndev0,30,inf\n"


def test_an_interval_begins_with_its_first_second_and_ends_before_its_last(tmp_path: Path) -> None:
    trace = read(tmp_path, TRACE)
    expected = {0: "0", 4.9: "0", 5: "01", 9.9: "01", 10: "1", 20: "", 29.9: "", 30: "0", 1e9: "0"}
    for time_s, names in expected.items():
        assert trace.available(time_s) == {f"dev{name}" for name in names}, time_s


def test_who_comes_next(tmp_path: Path) -> None:
    trace = read(tmp_path, TRACE)
    assert [trace.wait_s(time_s) for time_s in (0, 4, 5, 20, 29, 30)] == [5, 1, 25, 10, 1, None]


def test_a_trace_with_a_period_begins_anew(tmp_path: Path) -> None:
    trace = read(tmp_path, "device,from_s,until_s\ndev0,2,4\ndev1,4,5\n", period_s=8)
    for turn in (0, 8, 8000):
        assert trace.available(turn + 1) == set()
        assert trace.available(turn + 3) == {"dev0"}
        assert trace.available(turn + 4) == {"dev1"}
        assert trace.wait_s(turn + 1) == 1
        assert trace.wait_s(turn + 6) == 4


@given(
    st.lists(st.tuples(st.floats(0, 90), st.floats(0.01, 10)), min_size=1, max_size=5),
    st.floats(0, 1e4),
    st.booleans(),
)
def test_whoever_is_waited_for_is_there(
    intervals: list[tuple[float, float]], time_s: float, repeats: bool
) -> None:
    """Nobody is there until the wait is over, give or take a microsecond of rounding; then someone is."""
    trace = Availability(
        {f"dev{n}": [(begin, begin + length)] for n, (begin, length) in enumerate(intervals)},
        period_s=100 if repeats else None,
    )
    wait_s = trace.wait_s(time_s)
    if wait_s is None:
        assert not repeats and time_s >= max(begin for begin, _ in intervals)
        return
    assert wait_s > 0
    assert trace.available(time_s + wait_s + 1e-6)
    if not trace.available(time_s):
        assert not trace.available(time_s + wait_s / 2)


def read(folder: Path, text: str, period_s: float | None = None) -> Availability:
    file = folder / "trace.csv"
    file.write_text(text)
    return read_availability(file, ["dev0", "dev1"], period_s)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("dev7,0,1", r"line 3: there is no device 'dev7' \(dev0, dev1\)"),
        ("dev1,0", "line 3: 2 values, not 3"),
        ("dev1,soon,1", "line 3: from_s and until_s must be numbers"),
        ("dev1,-1,1", "line 3: from_s is -1, and must be 0 or more"),
        ("dev1,nan,1", "line 3: from_s is nan"),
        ("dev1,5,5", "line 3: until_s 5 is not after from_s 5"),
        ("dev1,5,nan", "line 3: until_s nan is not after"),
        ("dev0,9,12", "line 3: dev0's interval begins before its last one has ended"),
        ("", "no interval of dev1; write dev1,0,inf if it is always there"),
    ],
)
def test_what_is_wrong_with_a_trace_is_one_line(tmp_path: Path, row: str, says: str) -> None:
    with pytest.raises(SelectionError, match=says) as caught:
        read(tmp_path, f"device,from_s,until_s\ndev0,0,10\n{row}\n")
    assert str(caught.value).startswith(str(tmp_path / "trace.csv"))
    assert "\n" not in str(caught.value)


def test_intervals_must_fit_the_period(tmp_path: Path) -> None:
    with pytest.raises(SelectionError, match="line 3: until_s 20 is beyond the period of 15 s"):
        read(tmp_path, TRACE, period_s=15)
    for period_s in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(SelectionError, match="a trace repeats after more than 0 s"):
            read(tmp_path, TRACE, period_s=period_s)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "No such file"),
        (b"", "the columns must be device,from_s,until_s"),
        (b"\xff\xfe", "cannot be read"),
    ],
)
def test_a_file_that_is_no_trace(tmp_path: Path, content: bytes | None, says: str) -> None:
    file = tmp_path / "trace.csv"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SelectionError, match=says) as caught:
        read_availability(file, ["dev0"])
    assert str(file) in str(caught.value)
