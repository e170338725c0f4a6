"""`fedcell bench compression`: what compressing updates saves on emulated links, and costs in learning.

Every trial is a run of its own (experiments/sweep): real devices train the bundled base and talk over these
links. What it learned is asked afterwards, of all trials by one process: on held-out drawings that nobody
trained on, and by drawing emoji and looking for them among real ones.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from client.diffusion.retrieval import load_gallery
from experiments import kept_scores, retrieval
from experiments.bench.compression_curves import Curve, curve_of
from experiments.bench.compression_rows import Claim, Row, claims, rows_of
from experiments.bench.compression_settings import BASELINE, FULL, PACKET_LOSS, QUICK, Preset
from experiments.bench.same_adapters import same_adapters
from experiments.config import ConfigError
from experiments.evaluate import Scorer
from experiments.sweep import Trial, run_trials, trial

__all__ = ["FULL", "QUICK", "CompressionBench", "run"]

CONFIG = Path(__file__).parent.parent / "configs" / "compression.yaml"
_REPEATS = 2
"""An invalid trial is run again so often before it counts as such."""
_KEYS_OF_THE_BENCH = ("seed", "uplink.codec", "downlink.codec")


@dataclass
class CompressionBench:
    """What the bench came to. `retrieval` a row a setting and split of names, and ceiling and chance; `bad` a
    line for each trial that is not valid after all, `repeated` for each that was not at first."""

    preset: Preset
    rows: list[Row]
    curves: list[Curve]
    retrieval: pd.DataFrame
    bad: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    trials: int = 0
    took_s: float = 0.0
    configuration: dict[str, Any] = field(default_factory=dict)

    @property
    def claims(self) -> list[Claim]:
        return claims(self.rows)

    @property
    def holds(self) -> bool:
        """Whether every trial is valid and some setting has what is claimed."""
        return not self.bad and any(claim.holds for claim in self.claims)


def trials_of(preset: Preset, overrides: Sequence[str] = ()) -> list[Trial]:
    """Every setting with one seed, then with the next, and last those on lossy links. Raises ConfigError."""
    for override in overrides:
        if override.partition("=")[0] in _KEYS_OF_THE_BENCH:
            raise ConfigError(f"{override}: this bench sets {', '.join(_KEYS_OF_THE_BENCH)} itself")
    wanted = [(setting, seed, 0.0) for seed in preset.seeds for setting in preset.settings]
    wanted += [(one, preset.seeds[0], PACKET_LOSS) for one in preset.settings if one.name in preset.lossy]
    found = []
    for setting, seed, loss in wanted:
        links = [f"network.devices.0.{way}.loss={loss * 100:g}%" for way in ("up", "down")] if loss else []
        if loss and preset.lossy_rounds is not None:
            links.append(f"rounds={preset.lossy_rounds}")
        changes = [*preset.overrides, *overrides, *setting.overrides, f"seed={seed}", *links]
        labels: dict[str, str | int | float] = {"setting": setting.name, "seed": seed, "packet_loss": loss}
        try:
            found.append(trial(CONFIG, changes, labels))
        except ConfigError as error:
            raise ConfigError(f"setting '{setting.name}': {error}") from error
    return found


def run(
    preset: Preset, output: Path, *, resume: bool = False, overrides: Sequence[str] = ()
) -> CompressionBench:
    """Run what is not done in `output`, and ask what was learned. Must not run inside a sandbox.

    Raises ConfigError; DataError and BaseError where there is nothing to train on.
    """
    begin, wanted = time.monotonic(), trials_of(preset, overrides)
    sweep = run_trials(
        wanted,
        output,
        resume=resume,
        retry_invalid=resume,
        repeats=_REPEATS,
        about={"bench": preset.name},
        say=_say,
    )
    results = sweep.results.to_dict("records")
    run_dirs = {_key(row): output / row["run_dir"] for row in results if row["valid"]}
    _say("asking what was learned")
    scorer = _scorer(wanted[0], preset)
    same = {
        setting: same_adapters(run_dirs[setting, seed, loss], clean)
        for setting, seed, loss in run_dirs
        if loss and (clean := run_dirs.get((setting, seed, 0.0))) is not None
    }
    curves = []
    for key, run_dir in run_dirs.items():
        setting, seed, loss = key
        # What made the same adapters has learned the same.
        twin = run_dirs[setting, seed, 0.0] if loss and same.get(setting) else run_dir
        losses = kept_scores.losses_of(scorer, twin, preset.per_style)
        mine = sweep.rounds[sweep.rounds["trial"] == _id(results, key)]
        curves.append(curve_of(mine, losses, dict(zip(("setting", "seed", "packet_loss"), key, strict=True))))
    names = [setting.name for setting in preset.settings]
    return CompressionBench(
        preset,
        rows_of(names, preset.seeds, curves, same),
        curves,
        _retrieval(scorer, preset, run_dirs),
        bad=[_line(row, row["reason"]) for row in results if not row["valid"]],
        repeated=[_line(row, f"{row['tries']:.0f} tries") for row in results if row.get("tries", 1) > 1],
        trials=len(results),
        took_s=time.monotonic() - begin,
        configuration=_shared(wanted[0]),
    )


def _scorer(first: Trial, preset: Preset) -> Callable[[], Scorer]:
    """Made when it is first needed: it loads the base and the data."""
    return cache(lambda: Scorer(first.experiment.base, preset.per_style))


Key = tuple[str, int, float]


def _key(row: dict[Any, Any]) -> Key:
    return str(row["setting"]), int(row["seed"]), float(row["packet_loss"])


def _id(results: list[dict[Any, Any]], key: Key) -> str:
    return next(str(row["trial"]) for row in results if _key(row) == key)


def _line(row: dict[Any, Any], what: str) -> str:
    lossy = f", {row['packet_loss']:.0%} packet loss" if row["packet_loss"] else ""
    return f"{row['setting']}, seed {row['seed']}{lossy}: {what}"


def _retrieval(scorer: Callable[[], Scorer], preset: Preset, run_dirs: dict[Key, Path]) -> pd.DataFrame:
    """All seeds of a setting together, each asked for other names; those of seeds without a valid trial are
    not asked for."""
    rows = []
    for split in preset.splits:
        gallery = load_gallery(split)
        for setting in preset.settings:
            parts = [
                kept_scores.answers_of(scorer, run_dirs[key], split, preset.queries, part, len(preset.seeds))
                for part, seed in enumerate(preset.seeds)
                if (key := (setting.name, seed, 0.0)) in run_dirs
            ]
            if parts:
                rows += retrieval.rows(setting.name, split, kept_scores.joined(parts), gallery)
        rows += retrieval.rows("ceiling", split, scorer().ceiling(split, preset.queries), gallery)
        rows.append(retrieval.chance_row(split, gallery))
    table = pd.DataFrame(rows)
    return table[table["style"] == retrieval.ALL].reset_index(drop=True)


def _shared(first: Trial) -> dict[str, Any]:
    """What all trials have in common, for the tables' heads."""
    one = first.experiment
    link = one.links()[0]
    return {
        "devices": len(one.expanded_devices()),
        "rounds": one.rounds,
        "steps": one.training.steps,
        "batch_size": one.training.batch_size,
        "rank": one.adapter.rank,
        "up_bps": link.up.rate_bps,
        "down_bps": link.down.rate_bps,
        "one_way_delay_s": link.up.delay_s,
        "baseline": BASELINE,
    }


def _say(text: str) -> None:
    print(f"bench compression: {text}", file=sys.stderr, flush=True)
