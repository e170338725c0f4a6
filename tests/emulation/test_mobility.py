"""Ways: straight between knots, on the map, at the speeds that were asked for; bad files in one line."""

from __future__ import annotations

from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulation.link_budget import ChannelError
from emulation.mobility import Way, positions, random_waypoint, read_positions

AREA = (500.0, 300.0)


def test_a_way_is_straight_between_knots_and_at_rest_outside() -> None:
    way = Way([(10.0, 0.0, 0.0), (20.0, 100.0, 50.0), (30.0, 100.0, 50.0)])
    assert [way.at(time) for time in (0, 10, 12.5, 20, 25, 99)] == [
        *((0, 0), (0, 0), (25, 12.5), (100, 50), (100, 50), (100, 50))
    ]
    assert way.at(12.5) == (25, 12.5)  # Looking back is allowed.


@given(seed=st.integers(0, 2**32 - 1), pause=st.sampled_from([0.0, 3.0]))
def test_random_waypoint_keeps_to_map_speeds_and_pauses(seed: int, pause: float) -> None:
    walk = random_waypoint((250.0, 150.0), AREA, (1.0, 4.0), pause, np.random.default_rng(seed))
    knots = list(islice(walk, 20))
    assert knots[0] == (0.0, 250.0, 150.0)
    for number, ((begin, *start), (end, *goal)) in enumerate(pairwise(knots)):
        assert 0 <= goal[0] <= AREA[0] and 0 <= goal[1] <= AREA[1]
        length = float(np.hypot(goal[0] - start[0], goal[1] - start[1]))
        if pause and number % 2 == 0:
            assert length == 0 and end - begin == pytest.approx(pause)
        else:
            assert 1.0 - 1e-9 <= length / (end - begin) <= 4.0 + 1e-9


def test_random_waypoint_does_not_depend_on_how_often_it_is_looked_at() -> None:
    def walk() -> Way:
        return Way(random_waypoint((0.0, 0.0), AREA, (1.0, 4.0), 0.0, np.random.default_rng(3)))

    often, once = walk(), walk()
    for step in range(1000):
        often.at(step * 0.7)
    assert often.at(700.0) == once.at(700.0)
    assert positions([often, once], 700.0).shape == (2, 2)


def test_random_waypoint_without_a_least_speed_is_refused() -> None:
    with pytest.raises(ChannelError, match="least speed above 0"):
        next(random_waypoint((0.0, 0.0), AREA, (0.0, 4.0), 0.0, np.random.default_rng(3)))


def test_positions_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "walk.csv"
    file.write_text("time_s,device,x_m,y_m\n0,dev1,10,10\n0,dev0,0,0\n10,dev0,100,200\n\n")
    ways = read_positions(file, ["dev0", "dev1"], AREA)
    assert positions(ways, 2.5).tolist() == [[25.0, 50.0], [10.0, 10.0]]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ("time,device,x,y\n", "line 1: the columns must be time_s,device,x_m,y_m"),
        ("time_s,device,x_m,y_m\n0,dev0,1\n", "line 2: 3 values, not 4"),
        ("time_s,device,x_m,y_m\n0,dev7,1,1\n", r"line 2: there is no device 'dev7' \(dev0\)"),
        ("time_s,device,x_m,y_m\n0,dev0,1,north\n", "line 2: time and position must be numbers"),
        ("time_s,device,x_m,y_m\n0,dev0,1,301\n", r"line 2: \(1, 301\) is outside the map of 500 x 300 m"),
        ("time_s,device,x_m,y_m\n0,dev0,nan,1\n", "line 2: .* outside the map"),
        ("time_s,device,x_m,y_m\n5,dev0,1,1\n5,dev0,2,2\n", "line 3: dev0's time 5 s does not come after"),
        ("time_s,device,x_m,y_m\n", "no position of dev0"),
        (None, "cannot be read: No such file"),
    ],
)
def test_a_bad_file_is_one_line(tmp_path: Path, rows: str | None, says: str) -> None:
    file = tmp_path / "walk.csv"
    if rows is not None:
        file.write_text(rows)
    with pytest.raises(ChannelError, match=says) as caught:
        read_positions(file, ["dev0"], AREA)
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)
