"""Whole federations of each method, real sessions and a server over loopback, compared with dense models.

Devices train a small adapter by noise, keep a dense base of their own, and note all they do. Two of three are
asked in each round, so everybody misses some: what a device starts a round from must be the checkpoint of
the round before all the same, and each checkpoint what the method's definition makes of the local models.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dense import MODULES, lora_of
from raw_device import free_address

from client import session as session_module
from client.session import Session
from client.synthetic import SyntheticTrainer
from client.training import LocalResult
from proto.adapter import AdapterLayout, Vector, load_adapter, save_adapter
from proto.events import EventLog
from proto.exchange import METHODS
from proto.lora import LoraLayout, fresh_adapter
from server.__main__ import parser, serve

SEED = 5
ROUNDS = 4
Dense = list[np.ndarray]


def dense_of(layout: AdapterLayout, vector: Vector) -> Dense:
    """B A of each module."""
    lora = LoraLayout(layout)
    return [np.matmul(*reversed(lora.factors(vector.astype(np.float64), m))) for m in lora.modules]


@dataclass
class Noted:
    """One device's part in one round."""

    device: int
    start: Vector
    after: Vector
    trained: str
    base: Dense


class Recording(SyntheticTrainer):
    """A device whose base is dense, and whose noise is large enough to tell methods apart."""

    def __init__(self, index: int, rank: int, notes: dict[int, list[Noted]]) -> None:
        self.base: Dense = [np.zeros_like(product) for product in dense_of(*zeros(rank))]
        self._index, self._notes = index, notes
        super().__init__(
            lora_of(rank).layout, device_index=index, steps=1, examples=(3, 5, 9)[index], seed=SEED
        )

    def train(self, adapter: Vector, *, round_number: int, trained: Any = "AB", **_: Any) -> LocalResult:
        result = super().train(adapter, round_number=round_number, trained=trained)
        after = adapter + 200 * (result.vector - adapter)
        self._notes.setdefault(round_number, []).append(
            Noted(self._index, adapter.copy(), after.copy(), trained, [b.copy() for b in self.base])
        )
        return LocalResult(after, result.loss, result.steps)

    def merge(self, layout: AdapterLayout, vector: Vector) -> None:
        super().merge(layout, vector)
        for base, product in zip(self.base, dense_of(layout, vector), strict=True):
            base += product


def zeros(rank: int) -> tuple[AdapterLayout, Vector]:
    layout = lora_of(rank).layout
    return layout, np.zeros(layout.size, np.float32)


@dataclass
class Outcome:
    """What a federation leaves behind."""

    folder: Path
    ranks: Sequence[int]
    notes: dict[int, list[Noted]] = field(default_factory=dict)
    done: bool = False

    def checkpoint(self, number: int) -> tuple[AdapterLayout, Vector]:
        return load_adapter(self.folder / "adapters" / f"round-{number:04d}.safetensors")

    def events(self, event: str) -> list[dict[str, Any]]:
        lines = (self.folder / "events.jsonl").read_text().splitlines()
        return [record for record in map(json.loads, lines) if record["event"] == event]

    def local(self, note: Noted) -> Dense:
        products = dense_of(lora_of(self.ranks[note.device]).layout, note.after)
        return [base + product for base, product in zip(note.base, products, strict=True)]

    def mean_of_local_models(self, number: int) -> Dense:
        notes = self.notes[number]
        weights = np.array([(3, 5, 9)[note.device] for note in notes], float)
        weights /= weights.sum()
        models = [self.local(note) for note in notes]
        return [sum(w * model[i] for w, model in zip(weights, models, strict=True)) for i in MODULES]


def federate(
    folder: Path, monkeypatch: pytest.MonkeyPatch, ranks: Sequence[int], *options: str, cohort: str = "0.66"
) -> Outcome:
    """Three devices, `ROUNDS` rounds, two devices in each in turns."""
    outcome = Outcome(folder, ranks)

    def build(task: str, *, device_index: int, device_count: int, collected: Path | None) -> Recording:
        return Recording(device_index, ranks[device_index], outcome.notes)

    monkeypatch.setattr(session_module, "build_trainer", build)
    layout = lora_of(max(ranks)).layout
    save_adapter(folder / "initial.safetensors", layout, fresh_adapter(layout, (SEED,)))
    address = free_address()
    command = ["--listen", address, "--devices", "dev0,dev1,dev2", "--seed", str(SEED)]
    command += ["--rounds", str(ROUNDS), "--ranks", ",".join(map(str, ranks)), *options]
    command += ["--initial", str(folder / "initial.safetensors"), "--checkpoints", str(folder / "adapters")]
    command += ["--events", str(folder / "events.jsonl"), "--selection", "round_robin", "--cohort", cohort]
    (folder / "adapters").mkdir()

    def run_server() -> None:
        outcome.done = asyncio.run(serve(parser().parse_args(command)))

    sessions = [Session(address, f"dev{n}", EventLog(None, f"dev{n}"), reconnect_s=20) for n in range(3)]
    threads = [
        threading.Thread(target=work, daemon=True) for work in (run_server, *(s.run for s in sessions))
    ]
    for thread in threads:
        thread.start()
    threads[0].join(30)
    assert outcome.done
    for thread in threads[1:]:
        thread.join(10)
        assert not thread.is_alive()
    return outcome


def assert_same(left: Dense, right: Dense, tolerance: float = 1e-5) -> None:
    for a, b in zip(left, right, strict=True):
        np.testing.assert_allclose(a, b, atol=tolerance)


def assert_everyone_starts_from_the_checkpoint_before(outcome: Outcome, tolerance: float = 1e-5) -> None:
    for number, notes in outcome.notes.items():
        layout, vector = outcome.checkpoint(number - 1)
        for note in notes:
            own = LoraLayout(lora_of(outcome.ranks[note.device]).layout)
            products = dense_of(own.layout, note.start)
            held = [base + product for base, product in zip(note.base, products, strict=True)]
            same_rank = LoraLayout(layout).rank == max(outcome.ranks) and not any(b.any() for b in note.base)
            expected = LoraLayout(layout).resize(vector, own.rank or 0) if same_rank else vector
            assert_same(held, dense_of(own.layout if same_rank else layout, expected), tolerance)


@pytest.mark.parametrize("method", ["ffa", "rolora", "flora", "fedex"])
def test_exact_methods_the_global_model_is_the_mean_of_the_local_models(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = federate(tmp_path, monkeypatch, (2, 2, 2), "--method", method)
    assert sorted(outcome.notes) == list(range(1, ROUNDS + 1))
    assert_everyone_starts_from_the_checkpoint_before(outcome)
    for number in outcome.notes:
        assert len(outcome.notes[number]) == 2
        assert_same(dense_of(*outcome.checkpoint(number)), outcome.mean_of_local_models(number))
        phases = METHODS[method].phases
        assert {note.trained for note in outcome.notes[number]} == {phases[(number - 1) % len(phases)]}
    discordances = [event["value"] for event in outcome.events("discordance")]
    assert all(d == 0 if method in ("ffa", "rolora") else d > 1e-3 for d in discordances)


def test_fedit_the_global_factors_are_the_mean_factors_and_the_discordance_is_on_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = federate(tmp_path, monkeypatch, (2, 2, 2), "--method", "fedit")
    assert_everyone_starts_from_the_checkpoint_before(outcome)
    for number, event in zip(outcome.notes, outcome.events("discordance"), strict=True):
        layout, vector = outcome.checkpoint(number)
        weights = [(3, 5, 9)[note.device] for note in outcome.notes[number]]
        mean = sum(w * note.after for w, note in zip(weights, outcome.notes[number], strict=True))
        np.testing.assert_allclose(vector, mean / sum(weights), atol=1e-6)
        exact = np.concatenate([m.ravel() for m in outcome.mean_of_local_models(number)])
        averaged = np.concatenate([m.ravel() for m in dense_of(layout, vector)])
        assert event["value"] == pytest.approx(
            np.linalg.norm(exact - averaged) / np.linalg.norm(exact), rel=1e-3
        )


def test_flora_devices_of_different_ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = federate(tmp_path, monkeypatch, (1, 3, 2), "--method", "flora", "--rounds", "7")
    assert_everyone_starts_from_the_checkpoint_before(outcome)
    for number in outcome.notes:
        assert_same(dense_of(*outcome.checkpoint(number)), outcome.mean_of_local_models(number))
        # As few as describe it: no product here has more than rank 5.
        rank = LoraLayout(outcome.checkpoint(number)[0]).rank
        assert rank == min(
            5, sum(outcome.ranks[n.device] for r in range(1, number + 1) for n in outcome.notes[r])
        )
    # Nothing comes down in round 1; later the stack of those who took part, or all that was missed.
    downs = {(e["round"], e["client"]): e["payload_bytes"] for e in outcome.events("download_start")}
    assert {downs[1, name] for name in ("dev0", "dev1")} == {0}
    assert downs[2, "dev0"] == 4 * lora_of(1 + 3).layout.size


def test_a_merge_of_less_rank_is_the_nearest_to_the_mean_and_everyone_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--method", "flora", "--merge-rank", "2", "--rounds", "2")
    outcome = federate(tmp_path, monkeypatch, (1, 3, 2), *options)
    assert_everyone_starts_from_the_checkpoint_before(outcome)
    layout, vector = outcome.checkpoint(1)
    assert LoraLayout(layout).rank == 2
    missed = whole = 0.0
    for product, mean in zip(dense_of(layout, vector), outcome.mean_of_local_models(1), strict=True):
        left, values, right = np.linalg.svd(mean, full_matrices=False)
        np.testing.assert_allclose(product, (left[:, :2] * values[:2]) @ right[:2], atol=1e-5)
        missed, whole = missed + (values[2:] ** 2).sum(), whole + (values**2).sum()
    truncated = outcome.events("round_end")[0]["truncated"]
    assert truncated == pytest.approx(np.sqrt(missed / whole), rel=1e-3) and truncated > 0.01


@pytest.mark.parametrize(("method", "codec"), [("flora", "qsgd(4)|zstd"), ("fedex", "int8")])
def test_a_codec_that_loses_something_leaves_server_and_devices_with_one_model(
    method: str, codec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who merged the codec's version of each merge, or caught up on several in fp32, has the server's."""
    outcome = federate(tmp_path, monkeypatch, (2, 2, 2), "--method", method, "--downlink-codec", codec)
    if method == "flora":
        assert_everyone_starts_from_the_checkpoint_before(outcome)
        return
    for number, notes in outcome.notes.items():
        bases = [np.concatenate([base.ravel() for base in note.base]) for note in notes]
        np.testing.assert_allclose(bases[0], bases[1], atol=1e-6)
        assert number == 1 or bases[0].any()


def test_flexlora_devices_of_different_ranks_start_from_the_best_of_their_rank(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = federate(tmp_path, monkeypatch, (1, 3, 2), "--method", "flexlora")
    assert_everyone_starts_from_the_checkpoint_before(outcome)
    for number in outcome.notes:
        means = outcome.mean_of_local_models(number)
        for product, mean in zip(dense_of(*outcome.checkpoint(number)), means, strict=True):
            left, values, right = np.linalg.svd(mean, full_matrices=False)
            np.testing.assert_allclose(product, (left[:, :3] * values[:3]) @ right[:3], atol=1e-5)


def test_hetlora_devices_of_different_ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = federate(tmp_path, monkeypatch, (1, 3, 2), "--method", "hetlora")
    assert_everyone_starts_from_the_checkpoint_before(outcome)
    for number, notes in outcome.notes.items():
        locals_ = [outcome.local(note) for note in notes]
        norms = [np.sqrt(sum(np.sum(m**2) for m in model)) for model in locals_]
        expected = np.zeros(lora_of(3).layout.size)
        for norm, note in zip(norms, notes, strict=True):
            expected += norm / sum(norms) * lora_of(outcome.ranks[note.device]).resize(note.after, 3)
        np.testing.assert_allclose(outcome.checkpoint(number)[1], expected, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [("--mean", "median"), ("--mean", "trimmed(0.3)", "--method", "rolora")],
    ids=["median", "trimmed"],
)
def test_robust_means_over_whole_federations(
    options: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of three devices both are the middle value."""
    outcome = federate(tmp_path, monkeypatch, (2, 2, 2), *options, cohort="1")
    assert_everyone_starts_from_the_checkpoint_before(outcome)
    for number, notes in outcome.notes.items():
        middle = np.median([note.after for note in notes], axis=0)
        np.testing.assert_allclose(outcome.checkpoint(number)[1], middle, atol=1e-5)


def test_an_optimizer_of_each_phase_remembers_the_rounds_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RoLoRA with momentum: round 3 trains B again, and goes on as fast as round 1 was."""
    momentum = ("--method", "rolora", "--optimizer", "fedavgm", "--momentum", "0.5")
    outcome = federate(tmp_path, monkeypatch, (2, 2, 2), *momentum)
    assert_everyone_starts_from_the_checkpoint_before(outcome)
    steps = {}
    for number, notes in outcome.notes.items():
        weights = [(3, 5, 9)[note.device] for note in notes]
        changes = [note.after - note.start for note in notes]
        mean = sum(w * c for w, c in zip(weights, changes, strict=True)) / sum(weights)
        steps[number] = mean + 0.5 * steps.get(number - 2, 0)
        moved = outcome.checkpoint(number)[1] - outcome.checkpoint(number - 1)[1]
        np.testing.assert_allclose(moved, steps[number], atol=1e-5)


@pytest.mark.parametrize("method", ["fedex", "flexlora"])
def test_the_same_seed_gives_the_same_model_whoever_finishes_first(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sums of floats depend on their order, which arrival must not decide."""
    files = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        federate(tmp_path / folder, monkeypatch, (2, 2, 2), "--method", method, cohort="1")
        files.append((tmp_path / folder / "adapters" / f"round-{ROUNDS:04d}.safetensors").read_bytes())
    assert files[0] == files[1]
