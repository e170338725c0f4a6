"""When a dilation counts as giving the same latency, and a dilated run itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from experiments.bench.dilation import Row, holds, judge, markdown
from tests.conftest import CONFIGS, valid_run


def row(**changes: Any) -> Row:
    values: dict[str, Any] = {"case": "clean", "dilation": 4.0, "transfers": 12, "latency_s": 5.6}
    values |= {"error_s": 0.01, "ratio": 1.01, "error": 0.002, "gate": "within 5%"}
    values |= {"verdict": "holds", "valid": True}
    return Row(**values | {"run_dir": "runs/x"} | changes)


@pytest.mark.parametrize(
    ("measured", "verdict"),
    [
        ((5.0, 0.0), "holds"),
        ((5.24, 0.0), "holds"),
        ((5.24, 0.5), "holds"),
        ((5.26, 0.0), "does not hold"),
        ((4.74, 0.0), "does not hold"),
        ((5.35, 0.05), "unsure"),
        ((5.80, 0.05), "does not hold"),
    ],
)
def test_a_latency_may_differ_by_5_percent_and_what_chance_explains_is_unsure(
    measured: tuple[float, float], verdict: str
) -> None:
    assert judge(measured, (5.0, 0.0))["verdict"] == verdict


def test_the_base_is_not_judged_by_chance() -> None:
    found = judge((5.0, 0.3), (5.0, 0.3))
    assert (found["ratio"], found["error"], found["verdict"]) == (1.0, 0.0, "holds")


def test_an_invalid_run_or_a_miss_is_no_success_and_is_named() -> None:
    assert holds([row()])
    assert not holds([row(), row(valid=False)]) and "invalid run" in markdown([row(valid=False)])
    for verdict in ("unsure", "does not hold"):
        assert not holds([row(), row(verdict=verdict)]) and verdict in markdown([row(verdict=verdict)])


def test_a_run_in_slow_motion_reports_emulated_seconds(tmp_path: Path) -> None:
    run = valid_run(CONFIGS / "smoke.yaml", "dilation=2", "rounds=1", f"output={tmp_path}")
    (first,) = run["rounds"]
    assert first["bound_s"] <= first["latency_s"] <= 1.25 * first["bound_s"]
