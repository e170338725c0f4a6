"""The privacy figure: every point where it belongs, infinity beside the others, invalid ones marked."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest

from experiments.figures import privacy, style


def table(**changes: object) -> pd.DataFrame:
    rows = [
        {"scheme": scheme, "epsilon": epsilon, "auc": auc, "auc_low": auc - 0.05, "auc_high": auc + 0.05}
        for scheme, points in {
            "lora": [(2.0, 0.5), (8.0, 0.51), (math.inf, 0.56)],
            "central": [(math.inf, 0.62)],
        }.items()
        for epsilon, auc in points
    ]
    return pd.DataFrame(rows).assign(loss=[0.8, 0.6, 0.4, 0.38], valid=True).assign(**changes)


def test_points_stand_at_their_epsilon_and_infinity_at_the_end(tmp_path: Path) -> None:
    figure = privacy.draw(table())
    left, right = figure.axes
    assert [label.get_text() for label in left.get_xticklabels()] == ["2", "8", "∞"]
    drawn = {float(y): float(x) for line in left.lines[:-1] for x, y in line.get_xydata()}
    assert drawn[0.5] < drawn[0.51] < drawn[0.56] and drawn[0.56] == pytest.approx(32, rel=0.1)
    assert drawn[0.62] > drawn[0.56]  # They do not cover each other.
    assert {float(y) for line in right.lines for y in line.get_ydata()} == {0.8, 0.6, 0.4, 0.38}
    assert all(path.stat().st_size > 5000 for path in style.save(figure, tmp_path / "privacy", valid=True))


def test_what_is_invalid_is_crossed_and_has_no_line() -> None:
    left = privacy.draw(table(valid=[True, False, True, True])).axes[0]
    crosses = [line for line in left.lines if line.get_marker() == "x" and len(line.get_xdata())]
    assert [float(y) for line in crosses for y in line.get_ydata()] == [0.51]
    assert not any(0.51 in line.get_ydata() for line in left.lines if line.get_linestyle() != "None")


def test_without_any_noise_there_is_infinity_alone() -> None:
    figure = privacy.draw(table().query("epsilon == inf"))
    assert [label.get_text() for label in figure.axes[1].get_xticklabels()] == ["∞"]
