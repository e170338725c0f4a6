"""`fedcell bench links`: the grid, its rows, its tables and figure, and one small bench made for real."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from emulation.calibration import Check
from emulation.link import AccessLink, LinkSpec
from experiments import cli
from experiments.bench import grid, links, links_part, links_tables
from experiments.bench.links import LinksBench
from experiments.bench.loads import BUSY, IDLE, TRAINING, Load, Loaded
from tests.emulation.sandboxed import report

SPEC = LinkSpec(10e6, 0.02)
LINKS = [AccessLink("x0", SPEC, SPEC)]


def check(
    metric: str, configured: float | None, measured: float | None, passed: bool | None, **more: Any
) -> Check:
    return Check("x0", "up", metric, configured, measured, "a gate", passed, **more)


def bench_of(*checks: Check) -> LinksBench:
    bench = LinksBench("relay", "quick", frames_per_s=160_000.0, load_cpu=1.5)
    for load in (IDLE, BUSY):
        bench.rows += links_part.rows(checks, LINKS, "grid 1 of 1", load)
    return bench


RATE = check("rate", 10e6, 10.05e6, True, bounds=(9.9e6, 10.1e6))
RTT = check("rtt", 0.04, 0.0403, True, bounds=(0.0399, 0.0405))
LOSS = check("loss", 0.0, None, None)
MISS = check("goodput", 9.5e6, 9e6, False, bounds=(9.215e6, 9.595e6))


def test_the_full_grid_is_every_combination_once_and_fits_into_networks() -> None:
    parts = grid.parts("full")
    cells = [link.up for part in parts if part.name.startswith("grid") for link in part.links]
    assert len(cells) == len(set(cells)) == 7 * (1 + 3 * 2) * 4
    assert {spec.rate_bps for spec in cells} == {rate * 1e6 for rate in (1, 2, 5, 10, 20, 50, 100)}
    assert {spec.jitter_s for spec in cells if spec.delay_s == 0.1} == {0, 0.1 * 0.1}
    for part in parts:
        assert len({link.device for link in part.links}) == len(part.links) <= 56
    (sixteen,) = (part for part in parts if part.name == "sixteen")
    assert [link.down.rate_bps for link in sixteen.links] == [20e6] * 16 and sixteen.loads == (TRAINING,)


def test_the_quick_grid_takes_about_three_minutes() -> None:
    parts = grid.parts("quick")
    assert 60 < sum(links._estimate_s(part) * len(part.loads) for part in parts) < 200


def test_deviations_are_shares_times_or_what_was_measured_and_know_their_gate() -> None:
    gap = check("gap", 0.0, 0.02, True, bounds=(0.0, 0.05))
    found = {row["metric"]: row for row in links_part.rows([RATE, RTT, LOSS, MISS, gap], LINKS, "p", IDLE)}
    assert found["rate"]["deviation"] == pytest.approx(0.005)
    assert found["rate"]["of_gate"] == pytest.approx(0.5)
    assert found["rtt"]["deviation"] == pytest.approx(0.0003)
    assert found["rtt"]["of_gate"] == pytest.approx(0.6)
    assert found["gap"]["deviation"] == 0.02
    assert found["gap"]["of_gate"] == pytest.approx(0.4)
    assert found["goodput"]["of_gate"] == pytest.approx(-0.5 / 0.285)
    assert [found[name]["verdict"] for name in ("rate", "loss", "goodput")] == ["pass", "not tested", "miss"]


def test_a_miss_or_a_violation_makes_the_bench_invalid_and_is_named() -> None:
    good, bad, late = bench_of(RATE, RTT, LOSS), bench_of(RATE, MISS), bench_of(RATE)
    late.violations = ["grid 1 of 1: x0 up: the relay was late"]
    assert (good.valid, bad.valid, late.valid) == (True, False, False)
    assert (good.count("pass"), good.count("not tested"), bad.count("miss")) == (4, 2, 2)
    text = links_tables.markdown(bad.to_json(), bad.table())
    assert (
        "- grid 1 of 1, idle: x0 up (10 Mbit/s, 20 ms, jitter 0 ms, loss 0) goodput: measured 9e+06" in text
    )
    assert "Missed" not in links_tables.markdown(good.to_json(), good.table())
    assert late.violations[0] in links_tables.markdown(late.to_json(), late.table())


def test_the_tables_give_each_metric_a_line_per_load_and_a_table_per_rate() -> None:
    bench = bench_of(RATE, RTT, LOSS)
    text = links_tables.markdown(bench.to_json(), bench.table())
    assert "| layer-2 rate | ±1 % | idle | +0.500 % | +0.500 % | 50% | 1 | 0 | 0 |" in text
    assert "| round trip at rest | −0.1/+0.5 ms | 2 busy processes | +0.300 ms | +0.300 ms | 60% |" in text
    assert "| loss where none was asked | none | idle | – | – | – | 0 | 0 | 1 |" in text
    assert "## layer-2 rate: ±1 %" in text and "## loss where" not in text
    assert "**160,000 full frames/s** (target: 150,000)" in text


def test_a_bench_of_two_links_measures_them_and_writes_its_tables(tmp_path: Path) -> None:
    document = report(
        f"""
        from pathlib import Path
        from experiments.bench import grid, links
        from experiments.bench.loads import BUSY, IDLE
        spec, slow = LinkSpec(10e6, 0.005), LinkSpec(2e6, 0.01, loss=0.05)
        two = (AccessLink("x0", spec, spec), AccessLink("x1", slow, slow))
        grid.parts = lambda size: [grid.Part("two", two, quick=True, loads=(IDLE, BUSY))]
        bench = links.run("quick", "relay", Path({str(tmp_path)!r}))
        written = [path.name for path in links.write(bench, Path({str(tmp_path)!r}))]
        links.frames_per_s = lambda backend: bench.frames_per_s
        (Path({str(tmp_path)!r}) / "parts" / "two-idle.json").unlink()
        again = links.run("quick", "relay", Path({str(tmp_path)!r}), resume=True)
        print(json.dumps([bench.to_json(), written, again.to_json()]))
        """
    )
    bench, written, again = document
    kept = [[row for row in one["rows"] if row["load"] == "2 busy"] for one in (bench, again)]
    assert kept[0] == kept[1]  # Nothing is measured twice to the last digit.
    assert len(again["rows"]) == len(bench["rows"]) and again["rows"] != bench["rows"]
    assert written == ["links.csv", "links.json", "links.md", "links.png", "links.pdf"]
    assert all((tmp_path / name).stat().st_size > 500 for name in written)
    assert json.loads((tmp_path / "links.json").read_text()) == bench
    rates = [row for row in bench["rows"] if row["metric"] == "rate"]
    assert len(rates) == 2 * 2 * 2
    assert all(row["measured"] == pytest.approx(row["configured"], rel=0.02) for row in rates)
    assert {row["load"] for row in bench["rows"]} == {"idle", "2 busy"}
    assert bench["passed"] + bench["failed"] + bench["not_tested"] == len(bench["rows"])
    assert bench["frames_per_s"] > 10_000 and bench["load_cpu"] > 0


def measured(part: grid.Part, missed: set[str], stolen: float) -> links_part.Measurement:
    """As if `part` had been measured, with a miss on the links `missed`."""
    checks = [
        Check(link.device, "up", "rate", 10e6, 9e6, "±1 %", link.device not in missed) for link in part.links
    ]
    return links_part.Measurement(
        part=part.name,
        load="idle",
        asked="",
        rows=links_part.rows(checks, part.links, part.name, IDLE),
        violations=[],
        load_cpu=None,
        stolen=stolen,
        took_s=1.0,
    )


THREE = grid.Part("three", tuple(AccessLink(name, SPEC, SPEC) for name in ("x0", "x1", "x2")), quick=True)


@pytest.fixture
def asked_for(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The links of each measurement made; x1 misses each time, x2 the first, while 2 % are stolen."""
    made: list[list[str]] = []

    def measure(part: grid.Part, load: Any, backend: str, seed: int, asked: str) -> links_part.Measurement:
        made.append([link.device for link in part.links])
        missed = {"x1", "x2"} if len(made) == 1 else {"x1"}
        return replace(measured(part, missed, stolen=0.02), asked=asked)

    monkeypatch.setattr(links_part, "_measure", measure)
    return made


def test_only_links_that_missed_are_measured_again_and_it_is_told(
    tmp_path: Path, asked_for: list[list[str]]
) -> None:
    found = links_part.measure(THREE, IDLE, "relay", 0, tmp_path, resume=False)
    assert asked_for == [["x0", "x1", "x2"], ["x1", "x2"]]
    assert sorted(row["link"] for row in found.rows) == ["x0", "x1", "x2"] and found.spoilt == {"x1"}
    assert len(found.thrown_away) == 1
    assert found.thrown_away[0].startswith("three, idle: 2 of 3 links, 2.0% of the processors stolen: x1 up:")
    asked_for.clear()
    links_part.measure(THREE, IDLE, "relay", 0, tmp_path, resume=True)
    assert asked_for[0] == ["x1"]


def test_links_that_only_count_together_are_measured_again_together(
    tmp_path: Path, asked_for: list[list[str]]
) -> None:
    links_part.measure(replace(THREE, together=True), IDLE, "relay", 0, tmp_path, resume=False)
    assert asked_for == [["x0", "x1", "x2"]] * 2


def test_no_measurement_repeats_the_losses_and_the_jitter_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds: list[int] = []

    def measure(part: grid.Part, load: Any, backend: str, seed: int, asked: str) -> links_part.Measurement:
        seeds.append(seed)
        return replace(measured(part, {"x1"}, stolen=0.02), asked=asked)

    monkeypatch.setattr(links_part, "_measure", measure)
    for resume in (False, True, True):
        links_part.measure(THREE, IDLE, "relay", 0, tmp_path, resume=resume)
    assert len(seeds) > 3 and len(set(seeds)) == len(seeds)


def test_a_miss_that_no_hypervisor_explains_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []

    def measure(part: grid.Part, *_: object) -> links_part.Measurement:
        made.append(part)
        return measured(part, {"x1"}, stolen=0.0)

    monkeypatch.setattr(links_part, "_measure", measure)
    found = links_part.measure(THREE, IDLE, "relay", 0, tmp_path, resume=False)
    assert len(made) == 1 and found.spoilt == {"x1"} and not found.thrown_away


def test_a_late_relay_spoils_its_link_and_an_unknown_reason_all_of_them() -> None:
    clean = measured(THREE, set(), stolen=0.0)
    assert clean.spoilt == set()
    assert replace(clean, violations=["x2 up: the relay was late"]).spoilt == {"x2"}
    assert replace(clean, violations=["the relay is gone"]).spoilt == {"x0", "x1", "x2"}


def test_busy_processes_are_busy_no_nicer_than_we_are_and_gone_afterwards() -> None:
    nice, used, left = report(
        """
        from experiments.bench.loads import BUSY, Loaded
        with Loaded(BUSY) as loaded:
            time.sleep(1)
            processes = [process.pid for process in loaded._processes]
            nice = [os.getpriority(os.PRIO_PROCESS, pid) for pid in processes]
            used = loaded.cpu_s()
        left = [pid for pid in processes if os.path.exists(f"/proc/{pid}")]
        print(json.dumps([nice, used, left]))
        """
    )
    assert (nice, left) == ([os.getpriority(os.PRIO_PROCESS, 0)] * 2, [])
    assert used > 0.2


def test_a_load_that_has_ended_by_itself_is_told() -> None:
    with Loaded(Load("broken", "a broken load", 1, ("-c", "raise SystemExit(3)"))) as loaded:
        for process in loaded._processes:
            process.wait(timeout=20)
        (reason,) = loaded.violations()
    assert "status 3" in reason
    with Loaded(BUSY) as loaded:
        assert loaded.violations() == []


@pytest.mark.parametrize(("bench", "status"), [(bench_of(RATE), 0), (bench_of(RATE, MISS), 1)])
def test_the_command_prints_its_document_and_exits_1_on_a_miss(
    bench: LinksBench, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "_enter_sandbox", lambda: None)
    monkeypatch.setattr(links, "run", lambda *_, **__: bench)
    done = CliRunner().invoke(cli.app, ["bench", "links", "--json", "--output", str(tmp_path)])
    assert done.exit_code == status, done.output
    document = json.loads(done.stdout)
    assert (document["failed"], document["valid"]) == (2 * status, not status)
    assert {"rows", "passed", "failed", "not_tested", "frames_per_s", "valid"} <= document.keys()
    assert (tmp_path / "links.md").read_text().startswith("# Links")
