"""`key=a,b,c`: which commas separate values, and what is refused."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.config import ConfigError
from experiments.sweep import grid, parse

_PLAIN = st.text("abcxyz019._|-", min_size=1, max_size=6)


def _wrapped(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """A value with a list in brackets of some kind: what is inside may hold commas, also nested."""
    return st.builds(
        lambda name, parts, kind: f"{name}{kind[0]}{','.join(parts)}{kind[1]}",
        _PLAIN,
        st.lists(inner, max_size=3),
        st.sampled_from(["()", "[]", "{}"]),
    )


VALUES = st.recursive(_PLAIN, _wrapped, max_leaves=6)


@given(st.lists(VALUES, min_size=1, max_size=5, unique=True))
def test_values_come_out_as_they_went_in(values: list[str]) -> None:
    assert parse([f"some.key={','.join(values)}"]) == {"some.key": values}


@given(st.lists(st.lists(_PLAIN, min_size=1, max_size=4, unique=True), min_size=1, max_size=4))
def test_a_grid_has_every_combination_once(axes: list[list[str]]) -> None:
    points = grid({f"k{number}": values for number, values in enumerate(axes)})
    assert len(points) == math.prod(map(len, axes)) == len({tuple(point.items()) for point in points})
    assert all(point[f"k{number}"] in values for point in points for number, values in enumerate(axes))


def test_the_last_key_varies_fastest_and_fixed_overrides_are_in_every_point() -> None:
    points = grid(parse(["rounds=2", "uplink.codec=fp32,eden(2)", "adapter.rank=4,8"]))
    assert [tuple(point.values()) for point in points] == [
        ("2", "fp32", "4"), ("2", "fp32", "8"), ("2", "eden(2)", "4"), ("2", "eden(2)", "8")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("argument", "values"),
    [
        ("k=topk(0.1)|int4,fp32", ["topk(0.1)|int4", "fp32"]),
        ("k=fp32, int8 ,int4", ["fp32", "int8", "int4"]),
        ("k='a,b',c", ["'a,b'", "c"]),
        ('k="dumbbell.py:dumbbell,2"', ['"dumbbell.py:dumbbell,2"']),
        ("k=[{count: 2, at: 'x)'}],[{count: 3}]", ["[{count: 2, at: 'x)'}]", "[{count: 3}]"]),
        ("k=it's,2", ["it's", "2"]),
        ("k=a=b", ["a=b"]),
    ],
)
def test_what_a_comma_belongs_to(argument: str, values: list[str]) -> None:
    assert parse([argument]) == {"k": values}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["rank"], "'rank': write key=value"),
        (["=4"], "'=4': write key=value"),
        (["rank="], "rank: a value is missing"),
        (["rank=2,,4"], "rank: a value is missing in '2,,4'"),
        (["rank=2,4,2"], "rank: 2 is given twice"),
        (["rank=2", "rank=4"], "rank: given twice"),
        (["codec=eden(2,fp32"], r"codec: '\)' is missing in"),
        (["codec=eden2),fp32"], r"codec: '\)' closes nothing in"),
        (["codec=[eden(2],4)"], r"codec: '\]' closes nothing in"),
        (["name='a,b"], "name: ''' is missing in"),
    ],
)
def test_what_is_no_axis_is_one_line(arguments: list[str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        parse(arguments)
