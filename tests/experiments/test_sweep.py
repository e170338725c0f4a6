"""A sweep's bookkeeping: what is checked first, what runs again, what the tables say.

No network: trials end as told. Whole ones are in test_run_sweep.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pandas as pd
import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from typer.testing import CliRunner

from experiments import cli
from experiments.config import ConfigError, Experiment
from experiments.figures import sweep as figure
from experiments.sweep import Trial, code_version, fit, grid, parse, run_trials, store, trial, trials
from experiments.sweep.executor import Job
from experiments.sweep.process import Ending
from experiments.sweep.ray_cluster import pack, unpack
from experiments.sweep.results import LEVELS
from experiments.sweep.trial import FILE_KEYS
from tests.conftest import CONFIGS, fedcell

SMOKE, CELL, SCALE = (CONFIGS / f"{name}.yaml" for name in ("smoke", "cell", "scale"))


def wanted(*axes: str) -> list[Trial]:
    return trials(SMOKE, grid(parse(axes)))


class Told:
    """An executor whose trials end at once as `outcome` says, leaving the tables of a run of two rounds."""

    name, jobs, evaluates_earlier = "told", 1, True

    def __init__(self, outcome: Callable[[Trial], str] = lambda trial: "valid") -> None:
        self._outcome = outcome
        self._ended: list[tuple[Job, Ending]] = []
        self.started: list[Job] = []
        self.stopped = False

    def describe(self) -> str:
        return "as told"

    def room(self) -> bool:
        return not self._ended

    def start(self, job: Job) -> None:
        self.started.append(job)
        outcome = self._outcome(job.trial)
        if outcome == "interrupt":
            raise KeyboardInterrupt
        assert outcome in ("valid", "invalid", "failed")
        if outcome == "failed":
            self._ended.append((job, Ending("failed", "no such thing", "", 1.0, "here")))
            return
        run_dir = job.folder / "smoke-1"
        (run_dir / "adapters").mkdir(parents=True, exist_ok=True)
        (run_dir / "adapters" / "round-0000.safetensors").touch()
        (run_dir / "manifest.json").write_text(json.dumps({"ended": "now", "valid": outcome == "valid"}))
        row = {"start_s": 0.0, "latency_s": 2.0, "bound_s": 1.0, "cohort": 2} | dict.fromkeys(LEVELS, 10)
        rounds = [row | {"round": 1}, row | {"round": 2, "start_s": 2.5, "latency_s": 4.0}]
        pd.DataFrame(rounds).to_csv(run_dir / "rounds.csv", index=False)
        if job.evaluation is not None:
            losses = {"round": [0, 2, 2], "style": ["all", "noto", "all"], "loss": [0.3, 0.9, 0.2]}
            pd.DataFrame(losses).to_csv(run_dir / "evaluation.csv", index=False)
        reason = "" if outcome == "valid" else "the relay was late"
        ending = Ending("valid" if outcome == "valid" else "invalid", reason, "smoke-1", 1.5, "here")
        self._ended.append((job, ending))

    def ended(self) -> list[tuple[Job, Ending]]:
        found, self._ended = self._ended, []
        return found

    def stop(self) -> None:
        self.stopped = True


def ran(some: list[Trial], output: Path, *, told: Told | None = None, **options: bool | int) -> list[Job]:
    told = told or Told()
    run_trials(some, output, executor=told, say=lambda _: None, **options)  # type: ignore[arg-type]
    return told.started


def test_a_done_trial_is_not_run_again_and_a_wider_grid_runs_only_what_is_new(tmp_path: Path) -> None:
    few, more = wanted("adapter.rank=1,2"), wanted("adapter.rank=1,2,4", "rounds=2")
    assert len(ran(few, tmp_path)) == 2
    assert ran(few, tmp_path) == []
    assert [job.trial.labels for job in ran(more, tmp_path)] == [{"adapter.rank": "4"}]
    assert len(ran(few, tmp_path, resume=False)) == 2
    results = pd.read_csv(tmp_path / "results.csv")
    assert results["adapter.rank"].tolist() == [1, 2]


def test_results_are_tidy(tmp_path: Path) -> None:
    sweep = run_trials(wanted("adapter.rank=1,2"), tmp_path, executor=Told(), say=lambda _: None)
    results, rounds = pd.read_csv(tmp_path / "results.csv"), pd.read_csv(tmp_path / "rounds.csv")
    assert results.shape == sweep.results.shape and len(rounds) == 4 and sweep.valid and sweep.ran == 2
    row = results.iloc[0]
    assert (row["latency_mean_s"], row["bound_mean_s"], row["emulated_s"]) == (3.0, 1.0, 6.5)
    assert (row["rounds_ended"], row["wire_up_bytes"]) == (2, 20)
    assert rounds["adapter.rank"].tolist() == [1, 1, 2, 2] and rounds["round"].tolist() == [1, 2, 1, 2]
    manifest = json.loads((tmp_path / "sweep.json").read_text())
    assert manifest["valid"] and manifest["ended"] and len(manifest["trials"]) == 2
    assert (tmp_path / row["run_dir"] / "manifest.json").exists()


@pytest.mark.parametrize(
    ("file", "text"), [("ended.json", '{"ending'), ("ended.json", "{}"), ("smoke-1/manifest.json", "{}")]
)
def test_what_is_half_done_is_run_anew_in_a_clean_folder(tmp_path: Path, file: str, text: str) -> None:
    (one,) = wanted("rounds=1")
    ran([one], tmp_path)
    folder = tmp_path / "trials" / one.id
    (folder / file).write_text(text)
    (folder / "left over").touch()
    assert len(ran([one], tmp_path)) == 1
    assert not (folder / "left over").exists()


def test_other_code_makes_a_trial_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran(wanted("rounds=1"), tmp_path)
    monkeypatch.setattr(store, "code_version", lambda: "0" * 16)
    lines = list[str]()
    assert run_trials(wanted("rounds=1"), tmp_path, executor=Told(), say=lines.append).ran == 1
    assert "1 run again for they are of other code" in lines[0]
    assert len(code_version.code_version()) == 16


def test_a_failed_trial_is_reported_the_rest_finished_and_it_is_tried_again(tmp_path: Path) -> None:
    told = Told(lambda one: "failed" if one.labels["adapter.rank"] == "1" else "valid")
    some, lines = wanted("adapter.rank=1,2"), list[str]()
    sweep = run_trials(some, tmp_path, executor=told, say=lines.append)
    assert not sweep.valid and sweep.failed["reason"].tolist() == ["no such thing"]
    assert sweep.results["outcome"].tolist() == ["failed", "valid"]
    assert any("1/2 adapter.rank=1: FAILED: no such thing" in line for line in lines)
    assert [job.trial.labels["adapter.rank"] for job in ran(some, tmp_path)] == ["1"]


def test_an_invalid_trial_stays_unless_it_is_to_be_retried(tmp_path: Path) -> None:
    (one,) = wanted("rounds=1")
    assert len(ran([one], tmp_path, told=Told(lambda _: "invalid"), repeats=2)) == 3
    results = pd.read_csv(tmp_path / "results.csv")
    assert results[["outcome", "valid", "tries"]].values.tolist() == [["invalid", False, 3]]
    assert results["latency_mean_s"].tolist() == [3.0]  # what was measured is there, and is marked
    assert ran([one], tmp_path) == []
    assert len(ran([one], tmp_path, retry_invalid=True)) == 1


def test_interrupted_it_stops_what_runs_says_what_is_missing_and_goes_on_later(tmp_path: Path) -> None:
    some = wanted("adapter.rank=1,2,4")
    told = Told(lambda one: "interrupt" if one.labels["adapter.rank"] == "2" else "valid")
    with pytest.raises(KeyboardInterrupt):
        ran(some, tmp_path, told=told)
    assert told.stopped
    assert pd.read_csv(tmp_path / "results.csv")["outcome"].tolist() == ["valid", "not run", "not run"]
    assert json.loads((tmp_path / "sweep.json").read_text())["ended"] is None
    assert [job.trial.labels["adapter.rank"] for job in ran(some, tmp_path)] == ["2", "4"]


def test_losses_that_are_asked_for_later_need_no_second_training(tmp_path: Path) -> None:
    some = trials(CELL, grid(parse(["rounds=1,2"])))
    ran(some, tmp_path)
    again = ran(some, tmp_path, evaluate=True)
    assert [job.evaluate_only for job in again] == ["smoke-1", "smoke-1"]
    assert ran(some, tmp_path, evaluate=True) == [] and ran(some, tmp_path) == []
    results, rounds = pd.read_csv(tmp_path / "results.csv"), pd.read_csv(tmp_path / "rounds.csv")
    assert results[["first_loss", "final_loss"]].values.tolist() == [[0.3, 0.2]] * 2
    assert rounds[rounds["round"] == 2]["loss"].tolist() == [0.2, 0.2]


def test_two_sweeps_do_not_write_to_one_folder(tmp_path: Path) -> None:
    with (
        store.Store(tmp_path).locked(),
        pytest.raises(ConfigError, match="another sweep is running there"),
    ):
        ran(wanted("rounds=1"), tmp_path)


def test_a_file_that_a_configuration_names_is_part_of_what_is_measured(tmp_path: Path) -> None:
    trace = tmp_path / "up.trace"
    trace.write_text("1\n2\n3\n")
    changes = ["network.profile=lte", f"network.devices=[{{up: {{trace: {trace}}}}}, {{}}]"]
    before = trial(SMOKE, changes, {}).fingerprint
    assert trial(SMOKE, [*changes, "name=other", "output=elsewhere"], {}).fingerprint == before
    trace.write_text("1\n2\n4\n")
    assert trial(SMOKE, changes, {}).fingerprint != before


def test_every_key_that_names_a_file_is_known() -> None:
    """A path that the configuration learns must not be forgotten where trials are compared."""
    found = {name for one in sections(Experiment) for name, field in one.model_fields.items() if paths(field)}
    assert {"trace", "availability", "file"} <= found <= {*FILE_KEYS, "output"}


def sections(model: type[BaseModel]) -> set[type[BaseModel]]:
    """A model and all that it is made of."""
    inner = {kind for field in model.model_fields.values() for kind in kinds(field.annotation)}
    return {model}.union(*(sections(kind) for kind in inner if issubclass(kind, BaseModel)))


def kinds(annotation: object) -> set[type]:
    """The classes in an annotation, such as list[Device] | None."""
    if isinstance(annotation, type) and not get_args(annotation):
        return {annotation}
    return set().union(*map(kinds, get_args(annotation)))


def paths(field: FieldInfo) -> bool:
    return Path in kinds(field.annotation)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([SMOKE, "uplink.codec=fp32,int9"], "unknown codec 'int9'"),
        ([SMOKE, "adapter.rnk=1,2"], "adapter.rnk: unknown key; did you mean 'rank'?"),
        ([SMOKE, "adapter.rank=1,2,"], "adapter.rank: a value is missing"),
        ([SMOKE, "adapter.rank=1,01"], "'adapter.rank=1' and 'adapter.rank=01' are one experiment"),
        ([SMOKE, "output=a,b"], "output: a sweep sets it itself"),
        ([SMOKE, "network.profile=lte,6g", "network.devices=[{}]"], "unknown profile '6g'"),
        ([SMOKE, "network.profile=lte,wifi"], "no link follows it"),
        ([SMOKE, "adapter.rank=1,2", "--evaluate"], "trains nothing to evaluate"),
        ([CELL, "training.data=emoji,no/such/folder"], "no/such/folder"),
        ([SMOKE, "rounds=1,2", "--executor", "ray", "--ray-address", "here"], "--ray-address"),
    ],
    ids=lambda value: " ".join(map(str, value[1:])) if isinstance(value, list) else "",
)
def test_wrong_input_is_one_line_before_anything_runs(
    tmp_path: Path, arguments: list[str | Path], says: str
) -> None:
    done = CliRunner().invoke(cli.app, ["sweep", *map(str, arguments), "--output", str(tmp_path / "s")])
    assert says in str(done.exception) and type(done.exception).__module__.startswith(
        ("experiments", "client")
    )
    assert not (tmp_path / "s" / "trials").exists()


def test_a_wrong_point_is_named(tmp_path: Path) -> None:
    done = fedcell("sweep", SMOKE, "adapter.rank=1,0", "--output", tmp_path / "s")
    assert done.returncode == 2 and "(at adapter.rank=0)" in done.stderr and done.stderr.count("\n") == 1


def test_labels_may_not_hide_a_column() -> None:
    with pytest.raises(ConfigError, match="valid: a column of the results has this name"):
        ran([trial(SMOKE, [], {"valid": 1})], Path("nowhere"))


def test_measured_compute_runs_alone_and_other_trials_have_cores_to_themselves() -> None:
    synthetic = [one.experiment for one in wanted("adapter.rank=1,2")]
    assert [fit.fitting(synthetic, cores).jobs for cores in (1, 2, 4, 16)] == [1, 1, 1, 7]
    profiled = trial(SCALE, [], {}).experiment  # four devices that train, by a profile
    assert [fit.fitting([profiled], cores).jobs for cores in (2, 16)] == [1, 3]
    measured = trial(CELL, [], {}).experiment
    assert fit.fitting([measured, *synthetic], 64).jobs == 1
    assert "measured" in fit.fitting([measured], 64).reason


def test_what_comes_back_from_a_node_is_the_run_without_its_adapters(tmp_path: Path) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    for name in ("run-1/adapters/a.safetensors", "run-1/rounds.csv", "run-1/events/x.jsonl", "log.txt"):
        (there / name).parent.mkdir(parents=True, exist_ok=True)
        (there / name).write_text(name)
    (there / "latest").symlink_to("run-1")
    here.mkdir()
    unpack(pack(there), here)
    assert {str(path.relative_to(here)) for path in here.rglob("*") if path.is_file()} == {
        "run-1/rounds.csv",
        "log.txt",
    }


def test_the_most_values_run_along_x_and_seeds_are_no_axis(tmp_path: Path) -> None:
    told = Told(lambda one: "invalid" if one.labels["adapter.rank"] == "4" else "valid")
    axes = ["uplink.codec=fp32,int8", "adapter.rank=1,2,4", "seed=1,2", "dilation=1,2"]
    sweep = run_trials(wanted(*axes), tmp_path, executor=told, say=lambda _: None)
    labels = list(wanted(*axes)[0].labels)
    plan = figure.layout(sweep.results, labels)
    assert (plan.x, plan.colour, plan.facets) == ("adapter.rank", "uplink.codec", ("dilation",))
    paths = figure.draw_sweep(sweep.results, labels, tmp_path)
    assert [path.name for path in paths] == ["latency.png", "latency.pdf", "bytes.png", "bytes.pdf"]
    drawn = figure.draw(sweep.results, labels, figure._FIGURES["latency"])
    crosses = [line for axes in drawn.axes for line in axes.lines if line.get_marker() == "x"]
    assert sum(len(line.get_xdata()) for line in crosses) == 8  # type: ignore[arg-type]
    assert "INVALID" in [text.get_text() for text in drawn.legends[0].get_texts()]
