"""The Pareto figure: what is on the front, and that its names can be read."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.text import Text

from experiments.bench.compression_curves import Curve
from experiments.figures import pareto, style


def crowded(name: str, index: int) -> Curve:
    """Six settings end close together."""
    scale = 1 + 0.04 * index
    times = [scale * 3 * n for n in range(6)]
    losses = [0.7, 0.6, 0.5, 0.45, 0.42, 0.4 + 0.001 * index]
    sent = [1e5 * scale * n for n in range(6)]
    return Curve(name, 1, 0.0, times, sent, sent, losses, [scale * 3] * 5)


NAMES = ["fp32", "int8", "int4", "eden(2)", "ecq(2)", "topk(0.1)|int8"]


def overlaps(figure: Figure) -> int:
    """Pairs of names in one panel that cover each other, as drawn; without the lines to their points."""
    figure.draw_without_rendering()
    found = 0
    for axes in figure.axes:
        boxes = [Text.get_window_extent(text) for text in axes.texts]
        assert len(boxes) == len(NAMES)
        found += sum(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    return found


def test_names_of_settings_that_end_close_together_do_not_cover_each_other() -> None:
    curves = [crowded(name, index) for index, name in enumerate(NAMES)]
    figure = pareto.draw(curves, [*NAMES, "never valid"])
    assert overlaps(figure) == 0
    assert {text.get_text() for text in figure.axes[0].texts} == set(NAMES)


def test_without_moving_them_they_would(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the other test measures is there to be measured."""
    monkeypatch.setattr(pareto, "separate", lambda axes, apart: None)
    curves = [crowded(name, index) for index, name in enumerate(NAMES)]
    assert overlaps(pareto.draw(curves, NAMES)) > 0


def test_the_front_is_what_no_other_beats() -> None:
    points = [(1.0, 0.6), (2.0, 0.5), (3.0, 0.55), (4.0, 0.4), (2.0, 0.52)]
    assert pareto.frontier(points) == [(1.0, 0.6), (2.0, 0.5), (4.0, 0.4)]
    assert pareto.frontier([]) == []


def test_a_figure_without_a_valid_trial_can_be_drawn(tmp_path: Path) -> None:
    assert style.save(pareto.draw([], ["fp32"]), tmp_path / "pareto", valid=True)


@given(wanted=st.lists(st.floats(0, 100), min_size=1, max_size=30), apart=st.floats(0.5, 10))
def test_names_keep_their_order_distance_and_panel(wanted: list[float], apart: float) -> None:
    places = pareto.spread(wanted, apart, 0, 100)
    assert all(-1e-9 <= place <= 100 + 1e-9 for place in places)
    room = min(apart, 100 / max(1, len(wanted) - 1))
    ordered = sorted(places)
    assert all(right - left >= room - 1e-9 for left, right in itertools.pairwise(ordered))
    assert all(
        places[i] < places[j]
        for i, j in itertools.permutations(range(len(wanted)), 2)
        if wanted[i] < wanted[j]
    )


def test_names_that_are_far_apart_stay_where_they_belong() -> None:
    assert pareto.spread([80.0, 10.0, 50.0], 10, 0, 100) == [80.0, 10.0, 50.0]
    assert pareto.spread([50.0, 50.0], 10, 0, 100) == [45.0, 55.0]
