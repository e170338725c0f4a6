"""What one trial came to, round by round: time, bytes and held-out loss from before training to the end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd


@dataclass(frozen=True)
class Curve:
    """One valid trial. Lists have an entry for each round, beginning with what was before the first.

    `times_s` emulated seconds from the first round's start to the end of each; `up_bytes` and `down_bytes` on
    the wire of the mean device, summed so far; `losses` held out.
    """

    setting: str
    seed: int
    packet_loss: float
    times_s: list[float]
    up_bytes: list[float]
    down_bytes: list[float]
    losses: list[float]
    latencies_s: list[float]
    """Of the rounds themselves, the first without a predecessor: one entry less."""

    @property
    def rounds(self) -> int:
        return len(self.latencies_s)

    @property
    def final_loss(self) -> float:
        return self.losses[-1]

    @property
    def latency_s(self) -> float:
        """Of the mean round."""
        return sum(self.latencies_s) / self.rounds

    def bytes_at(self, number: int) -> float:
        """Up and down, from the start to the end of a round."""
        return self.up_bytes[number] + self.down_bytes[number]

    def reaches(self, target: float) -> int | None:
        """The first round after which the loss is no higher; None if it never is."""
        return next((number for number, loss in enumerate(self.losses) if loss <= target), None)

    def within(self, budget_bytes: float) -> int:
        """The last round that had ended when no more than so many bytes were spent."""
        return max(number for number in range(self.rounds + 1) if self.bytes_at(number) <= budget_bytes)


def curve_of(rounds: pd.DataFrame, losses: Mapping[int, float], labels: Mapping[str, Any]) -> Curve:
    """From a trial's rows of the sweep's rounds.csv, in order; `losses` by round, 0 before training."""
    devices = rounds["cohort"]
    latencies = rounds["latency_s"].astype(float)
    return Curve(
        setting=str(labels["setting"]),
        seed=int(labels["seed"]),
        packet_loss=float(labels["packet_loss"]),
        times_s=[0.0, *(rounds["start_s"] + latencies)],
        up_bytes=[0.0, *(rounds["wire_up_bytes"] / devices).cumsum()],
        down_bytes=[0.0, *(rounds["wire_down_bytes"] / devices).cumsum()],
        losses=[losses[number] for number in (0, *rounds["round"])],
        latencies_s=latencies.tolist(),
    )


def to_table(curves: list[Curve]) -> pd.DataFrame:
    """Tidy: a row a trial and round, the one before training included."""
    rows = []
    for curve in curves:
        for number in range(curve.rounds + 1):
            rows.append(
                {
                    "setting": curve.setting,
                    "seed": curve.seed,
                    "packet_loss": curve.packet_loss,
                    "round": number,
                    "time_s": curve.times_s[number],
                    "wire_up_bytes": curve.up_bytes[number],
                    "wire_down_bytes": curve.down_bytes[number],
                    "loss": curve.losses[number],
                }
            )
    return pd.DataFrame(rows)
