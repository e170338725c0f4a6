"""Membership inference on what a run has trained: does it tell who was in its training data?

The attack knows the adapter and asks it for the loss of an example at fixed noise and timesteps: what was
trained on has less (Yeom et al., arXiv 1709.01404). Beside it stand the same attack on the adapter that
training began with, which has seen nobody and shows how far the two sets differ by themselves, and the loss
less that before training, which makes up for it (calibration: Watson et al., arXiv 2111.08440).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from client.diffusion import emoji
from client.diffusion.data import Examples, load_held_out
from experiments.ownership import image_size, owned
from experiments.preflight import EvaluationError, read_trained_manifest
from experiments.record import write_table
from experiments.roc import Scores, Separation, separate
from experiments.trained import owners, read_adapters

_DRAWS = 4
_MOST = 512
"""Held-out examples, and as many members."""
_LEAST = 8
_SIDES = ("members", "others")

ATTACKS = {
    "loss": "loss after training",
    "initial": "loss before training",
    "calibrated": "how much it fell",
}


@dataclass(frozen=True)
class Membership:
    """Result of `membership_auc`: how well each attack tells members from others."""

    run_dir: Path
    round: int
    """Whose adapter was attacked."""
    members: int
    non_members: int
    passes: float
    """How often an example of a device was trained on, on average."""
    attacks: dict[str, Separation]

    @property
    def auc(self) -> float:
        """Of the loss-threshold attack."""
        return self.attacks["loss"].auc

    def table(self) -> pd.DataFrame:
        """membership.csv: a row an attack."""
        return pd.DataFrame([row | self._asked for row in self._rows()])

    def to_json(self) -> dict[str, Any]:
        """Part of the `evaluate` document of the command line."""
        return {
            "membership": self._rows(),
            "membership_of": self._asked,
            "membership_csv": str(self.run_dir / "membership.csv"),
        }

    @property
    def _asked(self) -> dict[str, Any]:
        """Of which model, and by how many examples."""
        return {key: getattr(self, key) for key in ("round", "members", "non_members", "passes")}

    def _rows(self) -> list[dict[str, Any]]:
        return [{"attack": name, **asdict(one)} for name, one in self.attacks.items()]

    def summary(self) -> str:
        """A few lines for people."""
        lines = [
            f"membership in round {self.round}'s adapter: {self.members} members, trained on "
            f"{self.passes:.1f} times each, and {self.non_members} others (AUC 0.5: no telling)"
        ]
        for name, s in self.attacks.items():
            lines.append(
                f"  {ATTACKS[name]:<21} AUC {s.auc:.3f} ({s.auc_low:.3f} to {s.auc_high:.3f}), "
                f"{s.tpr_at_1:.1%} found at 1 % false alarms, {s.tpr_at_5:.1%} at 5 %"
            )
        return "\n".join(lines)


def membership_auc(
    run_dir: Path,
    progress: Callable[[str], None] = lambda text: None,
    *,
    most: int = _MOST,
    draws: int = _DRAWS,
) -> Membership:
    """Attack the last round's adapter of a run, be it LoRA or the whole UNet; writes membership.csv.

    Members are training examples of all devices, the others held-out ones of the same styles, as many of each
    style, group and kind of name. Where devices trained alone, each adapter is asked for its own device's
    members, in units of what it says of others. Intervals are by families of names, for drawings of one are
    alike. Raises EvaluationError, BaseError and DataError.
    """
    config = read_trained_manifest(run_dir)["config"]
    training = config["training"]
    everything, held_out = owned(config), load_held_out(training["data"], image_size(config))
    devices = owners(run_dir)
    sets = everything if devices != [""] else [Examples.join(everything)]
    if len(devices) != len(sets):
        raise EvaluationError(f"{run_dir} has adapters of {len(devices)} devices, and {len(sets)} trained")
    answers = [
        _ask(run_dir, config, *device, held_out, most // len(devices), draws, progress)
        for device in zip(devices, sets, strict=True)
    ]
    members, others = (Examples.join([getattr(answer, side) for answer in answers]) for side in _SIDES)
    groups = [_families(examples, training["data"]) for examples in (members, others)]
    attacks = {
        name: separate(*(np.concatenate([a.scores[name][side] for a in answers]) for side in _SIDES), *groups)
        for name in ATTACKS
    }
    trained = _steps(run_dir) * training["batch_size"]
    passes = trained / sum(map(len, everything))
    last = max(answer.round for answer in answers)
    result = Membership(run_dir, last, len(members), len(others), passes, attacks)
    write_table(result.table(), run_dir / "membership.csv")
    return result


@dataclass(frozen=True)
class _Answers:
    """Of one adapter: whom it was asked about, and attack -> side -> scores, higher for members."""

    round: int
    members: Examples
    others: Examples
    scores: dict[str, dict[str, Scores]]


def _ask(
    run_dir: Path,
    config: dict[str, Any],
    owner: str,
    own: Examples,
    held_out: Examples,
    most: int,
    draws: int,
    progress: Callable[[str], None],
) -> _Answers:
    """The adapter of `owner`, "" for all devices', and the first one, about members and others."""
    from client.diffusion.base import limit_threads, load_base  # torch
    from client.diffusion.probe import Probe
    from experiments.evaluate import in_parallel, trained_unet

    data = config["training"]["data"]
    members, others = matched(own, held_out, most, families=data == "emoji")
    if len(others) < _LEAST:
        raise EvaluationError(
            f"{run_dir}: {len(others)} held-out examples are like what was trained on: too few to tell"
        )
    progress(f"{owner} asking for the losses of {len(members)} members and {len(others)} others".lstrip())
    adapters = read_adapters(run_dir, owner)
    limit_threads()
    base = load_base(config["base"])
    probe = Probe(base, Examples.join([members, others]), draws)
    numbers = (0, max(adapters))
    models = [trained_unet(base, config["adapter"], number, *adapters[number]) for number in numbers]
    before, after = in_parallel(probe.losses, models)
    scores = {"loss": -after, "initial": -before, "calibrated": before - after}
    return _Answers(
        numbers[1], members, others, {name: _scaled(each, len(members)) for name, each in scores.items()}
    )


def _scaled(scores: Scores, members: int) -> dict[str, Scores]:
    """In standard deviations of the others' scores, so that those of several adapters can be compared."""
    others = scores[members:]
    scaled = (scores - others.mean()) / (others.std() or 1.0)
    return dict(zip(_SIDES, np.split(scaled, [members]), strict=True))


def matched(members: Examples, others: Examples, most: int, *, families: bool) -> tuple[Examples, Examples]:
    """As many of each style and group, and with `families` of names with a skin tone, from either side; some
    `most` of each side."""
    keys = [_strata(examples, families) for examples in (members, others)]
    shared = sorted(set(keys[0].tolist()) & set(keys[1].tolist()))
    places = [[np.flatnonzero(key == stratum) for key in keys] for stratum in shared]
    total = sum(min(len(mine), len(theirs)) for mine, theirs in places)
    share = min(1.0, most / max(1, total))
    chosen: list[list[NDArray[np.int64]]] = [[], []]
    for pair in places:
        count = int(np.ceil(share * min(map(len, pair))))
        for side, available in zip(chosen, pair, strict=True):
            # Spread over the names, which are in order.
            side.append(available[np.linspace(0, len(available) - 1, count).astype(int)])
    nothing = np.zeros(0, np.int64)
    return (
        members.select(np.sort(np.concatenate([nothing, *chosen[0]]))),
        others.select(np.sort(np.concatenate([nothing, *chosen[1]]))),
    )


def _strata(examples: Examples, families: bool) -> NDArray[np.str_]:
    toned = [families and "skin-tone" in name for name in examples.names.tolist()]
    parts = zip(examples.styles.tolist(), examples.groups.tolist(), toned, strict=True)
    return np.array([f"{style}/{group}/{tone}" for style, group, tone in parts], dtype=np.str_)


def _families(examples: Examples, data: str) -> NDArray[np.str_]:
    """Whose examples are alike: variants of an emoji in all styles; elsewhere each stands for itself."""
    names = examples.names.tolist()
    return np.array([emoji.family(name) for name in names] if data == "emoji" else names, dtype=np.str_)


def _steps(run_dir: Path) -> float:
    """Training steps of all devices together, as they counted them. Raises EvaluationError."""
    try:
        return float(pd.read_csv(run_dir / "clients.csv")["steps"].sum())
    except (OSError, ValueError, KeyError) as error:
        raise EvaluationError(f"{run_dir} has no clients.csv that counts training steps: {error}") from error
