"""Pre-training's machinery: processes agree, time ends it, and an interrupted one goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from client.diffusion.workers import Team, Training, run_team


def training(model: nn.Module, state: Path, *, team: Team | None = None, minutes: float = 1.0) -> Training:
    return Training(
        team or Team(0, 1),
        [model],
        minutes=minutes,
        learning_rate=1e-2,
        weight_decay=0.0,
        average=0.9,
        state=state,
    )


def distance(model: nn.Linear) -> torch.Tensor:
    return (model.weight - 1).square().sum() + model.bias.square().sum()


def test_it_trains_and_the_average_lags_behind(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Linear(4, 2)
    run, before = training(model, tmp_path / "state.pt"), distance(model).item()
    for _ in range(30):
        progress = run.step(distance(model))
    after = distance(model).item()
    assert after < before and 0 < progress < 1 and run.steps == 30
    seen: list[float] = []
    run.averaged(lambda: seen.append(distance(model).item()))
    assert after < seen[0] < before
    assert distance(model).item() == after


def test_the_clock_ends_it(tmp_path: Path) -> None:
    model = nn.Linear(4, 2)
    run = training(model, tmp_path / "state.pt", minutes=1e-9)
    assert run.step(distance(model)) >= 1


def test_it_goes_on_where_it_was_saved(tmp_path: Path) -> None:
    model = nn.Linear(4, 2)
    run = training(model, tmp_path / "state.pt")
    for _ in range(5):
        run.step(distance(model))
    run.save()
    again = nn.Linear(4, 2)
    resumed = training(again, tmp_path / "state.pt")
    assert resumed.steps == 5
    assert resumed.elapsed >= torch.load(tmp_path / "state.pt")["elapsed"] > 0
    assert torch.equal(again.weight, model.weight)
    assert [path.name for path in tmp_path.iterdir()] == ["state.pt"]


def test_words_and_biases_do_not_decay(tmp_path: Path) -> None:
    model = nn.ModuleDict({"embedding": nn.Embedding(3, 2), "linear": nn.Linear(2, 2)})
    before = {name: value.clone() for name, value in model.named_parameters()}
    run = Training(
        Team(0, 1),
        [model],
        minutes=1,
        learning_rate=1e-1,
        weight_decay=0.5,
        average=0.9,
        state=tmp_path / "s",
    )
    run.step(model["linear"].weight.sum() * 0)
    changed = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    assert changed == {"linear.weight"}


def _member(team: Team, folder: Path) -> None:
    torch.manual_seed(team.rank)
    model = nn.Linear(4, 2)
    run = training(model, folder / "state.pt", team=team)
    for _ in range(3):
        # The members pull in different directions: only the mean of both has its minimum at 1.
        progress = run.step((model.weight - 2 * team.rank).square().sum())
    torch.save({"weight": model.weight.detach(), "progress": progress}, folder / f"{team.rank}.pt")


def test_processes_stay_in_step(tmp_path: Path) -> None:
    run_team(2, _member, tmp_path)
    one, other = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert torch.equal(one["weight"], other["weight"])
    assert one["progress"] == pytest.approx(other["progress"])
