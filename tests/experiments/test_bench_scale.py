"""The scale bench: which dilation fits, what misses a target, and a small bench of real devices."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from experiments import cli
from experiments.bench import scale, scale_tables
from experiments.bench.scale import MARGIN, Row, fitting_dilation, starts_s
from experiments.config import ConfigError
from tests.conftest import NOISE
from tests.emulation.sandboxed import report


def row(**changes: Any) -> Row:
    values: dict[str, Any] = {
        "devices": 100,
        "start_s": 41.0,
        "starts_s": dict.fromkeys(scale.STARTS, 41.0 / 6),
        "private_mb": 101.0,
        "private_median_mb": 99.0,
        "devices_seen": 100,
        "total_mb": 5000.0,
        "dilation": 9.0,
        "wall_s": 210.0,
        "emulated_s": 18.0,
        "wall_per_emulated_s": 210 / 18,
        "latency_s": 9.1,
        "bound_s": 8.7,
        "rounds": [],
        "valid": True,
        "invalid_reasons": [],
        "warnings": [],
        "stolen": 0.0,
        "repeated": False,
        "run_dir": "runs/x",
    }
    return Row(**values | changes)


@given(
    devices=st.integers(1, 1000),
    cores=st.integers(1, 128),
    work_s=st.floats(0.01, 100),
    profile_s=st.floats(0.1, 100),
)
def test_the_dilation_is_the_least_whole_one_that_the_work_fits_into(
    devices: int, cores: int, work_s: float, profile_s: float
) -> None:
    dilation = fitting_dilation(devices, cores, work_s, profile_s)
    turns = -(-devices // cores)
    assert dilation >= 1 and dilation == int(dilation)
    assert dilation * profile_s >= MARGIN * turns * work_s * (1 - 1e-9)
    assert dilation == 1 or (dilation - 1) * profile_s < MARGIN * turns * work_s * (1 + 1e-9)


def test_the_start_is_the_sum_of_its_parts_up_to_round_1() -> None:
    kinds = ["run_start", "network_built", "model_loaded", "calibrated"]
    kinds += ["client_forked", "client_forked", "client_forked", "round_start", "round_start"]
    events = [{"event": kind, "t": 100.0 + number**2} for number, kind in enumerate(kinds)]
    starts = starts_s(events)
    assert list(starts.values()) == [1, 3, 5, 7, 20, 13]
    assert sum(starts.values()) == events[7]["t"] - events[0]["t"]


@pytest.mark.parametrize(
    ("changes", "missed"),
    [
        ({}, None),
        ({"start_s": 60.5}, "start 60 s, target 60 s"),
        ({"private_mb": 121.0}, "private memory 121 MB, target 120 MB"),
        ({"private_mb": float("nan")}, "private memory nan MB"),
        ({"total_mb": 25e3}, "the whole run's memory 25000 MB"),
    ],
)
def test_a_missed_target_is_named_and_no_success(changes: dict[str, Any], missed: str | None) -> None:
    found = scale.misses(row(**changes))
    assert [missed in text for text in found] == [True] if missed else not found
    judged = row(**changes, misses=found)
    assert scale.holds([row(), judged]) is (missed is None)
    assert (missed is None) or f"- 100 devices: missed: {missed}" in scale_tables.markdown([judged])


@pytest.mark.parametrize(("stolen", "runs"), [(0.0005, 1), (0.002, 2)])
def test_only_what_a_hypervisor_may_have_spoilt_is_run_again(
    stolen: float, runs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[bool] = []

    def measure(devices: int, _: object, *, repeated: bool = False) -> Row:
        tries.append(repeated)
        return row(devices=devices, valid=repeated, invalid_reasons=["late"], stolen=stolen)

    monkeypatch.setattr(scale.local_round, "measure_s", lambda _: 0.5)
    monkeypatch.setattr(scale, "_measure", measure)
    (found,) = list(scale.run(tmp_path, [4]))
    assert tries == [False, True][:runs] and found.valid is (runs == 2)


def test_an_invalid_run_is_no_success_and_says_why() -> None:
    invalid = row(valid=False, invalid_reasons=["dev7 up: the relay was late"])
    text = scale_tables.markdown([row(devices=4), invalid])
    assert not scale.holds([invalid])
    assert "| INVALID |" in text and "- 100 devices: INVALID: dev7 up: the relay was late" in text
    assert (
        "| 4 | 41.0 s | 101 / 99 MB | 5.0 GB | 9 | 210 s | 11.7 s | 9.100 s | 8.700 s | 1.046 | valid |"
        in text
    )


def test_of_many_reasons_of_one_kind_the_table_shows_the_first() -> None:
    text = scale_tables.markdown([row(valid=False, invalid_reasons=[f"dev{n} is late" for n in range(100)])])
    assert "dev2 is late" in text and "dev3 is late" not in text
    assert "- 100 devices: INVALID: and 97 more" in text


def test_memory_that_was_not_seen_is_null_and_a_miss() -> None:
    unseen = row(private_mb=float("nan"), total_mb=float("nan"))
    (document,) = scale_tables.to_json([unseen])["rows"]
    assert document["private_mb"] is None and document["total_mb"] is None
    assert len(scale.misses(unseen)) == 2 and " | - | " in scale_tables.markdown([unseen]).replace(
        "|", " | ", 1
    )


def test_only_alike_devices_with_a_profile_can_be_scaled(tmp_path: Path) -> None:
    document = yaml.safe_load(scale.CONFIG.read_text())
    del document["compute"]
    (tmp_path / "measured.yaml").write_text(yaml.safe_dump(document))
    with pytest.raises(ConfigError, match="compute profile"):
        scale.sized(tmp_path / "measured.yaml", 4, 1.0, tmp_path)
    sized = scale.sized(scale.CONFIG, 7, 3.0, tmp_path)
    assert (len(sized.expanded_devices()), sized.dilation) == (7, 3.0)


def test_a_hundred_devices_take_minutes_and_four_less(tmp_path: Path) -> None:
    few, many = (
        scale.estimate_s(scale.sized(scale.CONFIG, devices, dilation, tmp_path))
        for devices, dilation in ((4, 1.0), (100, 9.0))
    )
    assert 30 < few < 90 < 150 < many < 400


def test_a_bench_of_two_devices_runs_them_and_writes_its_tables(tmp_path: Path) -> None:
    document = yaml.safe_load(scale.CONFIG.read_text()) | {
        "rounds": 1,
        "compute": {"seconds_per_step": "1.5s"},
    }
    document["training"] |= {"steps": 5}  # Long enough to be looked at: a look every 0.4 s.
    (tmp_path / "two.yaml").write_text(yaml.safe_dump(document))
    (two,), written = report(
        f"""
        from pathlib import Path
        from experiments.bench import scale, scale_tables
        rows = list(scale.run(Path({str(tmp_path)!r}), [2], Path({str(tmp_path / "two.yaml")!r})))
        written = [path.name for path in scale_tables.write(rows, Path({str(tmp_path)!r}))]
        print(json.dumps([[dataclasses.asdict(row) for row in rows], written]))
        """
    )
    assert written == ["scale.json", "scale.md"]
    assert json.loads((tmp_path / "scale.json").read_text())["rows"] == [two]
    assert two["valid"] or all(NOISE.search(reason) for reason in two["invalid_reasons"])
    assert (two["devices"], two["dilation"], two["devices_seen"]) == (2, 1.0, 2)
    assert two["bound_s"] < two["latency_s"] < 1.2 * two["bound_s"]
    assert all(seconds >= 0 for seconds in two["starts_s"].values())
    assert two["start_s"] + two["emulated_s"] < two["wall_s"]
    assert 20 < two["private_median_mb"] <= two["private_mb"] < 200 < two["total_mb"] < 3000


@pytest.mark.parametrize("valid", [True, False])
def test_the_command_prints_its_document_and_exits_1_on_a_miss(
    valid: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[int]] = []
    monkeypatch.setattr(cli, "_enter_sandbox", lambda: None)
    monkeypatch.setattr(
        scale, "run", lambda output, sizes: asked.append(sizes) or [row(valid=valid, wall_s=1.0)]
    )
    done = CliRunner().invoke(
        cli.app, ["bench", "scale", "--devices", "3,9", "--json", "--output", str(tmp_path)]
    )
    assert done.exit_code == (0 if valid else 1), done.output
    document = json.loads(done.stdout)
    keys = {"devices", "start_s", "private_mb", "wall_s", "emulated_s", "latency_s", "bound_s", "valid"}
    assert keys <= document["rows"][0].keys() and document["valid"] is valid
    assert asked == [[3, 9]]
    assert document["rows"][0] == dataclasses.asdict(row(valid=valid, wall_s=1.0))


@pytest.mark.parametrize("devices", ["", "4,x", "0", "1001"])
def test_sizes_that_are_none_are_refused(devices: str) -> None:
    with pytest.raises(ConfigError, match="--devices"):
        scale.sizes(devices)
