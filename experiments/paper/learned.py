"""Tables of what was learned: by scheme and round, and by how much privacy."""

from __future__ import annotations

import pandas as pd

from experiments.paper.measured import Measured
from experiments.paper.over_seeds import over_seeds
from experiments.paper.scores import Scores


def learned(losses: pd.DataFrame) -> pd.DataFrame:
    """A row a scheme and round: held-out loss, and when the round had ended (emulated seconds)."""
    return over_seeds(losses[losses["part"] == "learning"], ["scheme", "round"], ["loss", "time_s"])


def privacy_costs(found: Measured, asked: Scores) -> pd.DataFrame:
    """A row a scheme and noise multiplier (0: none): epsilon, final loss and the attack's AUC.

    Epsilon is infinite where nothing bounds what an update says.
    """
    final = asked.losses.loc[asked.losses.groupby("trial")["round"].idxmax()]
    ended = found.rounds.loc[found.rounds.groupby("trial")["round"].idxmax()]
    per_trial = final.merge(ended[["trial", "epsilon", "noise_asked"]], on="trial").merge(
        asked.attacks[["trial", "auc", "auc_low", "auc_high"]], on="trial"
    )
    values = ["epsilon", "loss", "auc", "auc_low", "auc_high"]
    per_trial = per_trial.rename(columns={"noise_asked": "noise_multiplier"})
    table = over_seeds(per_trial, ["scheme", "noise_multiplier"], values)
    table["epsilon"] = table["epsilon"].fillna(float("inf"))
    return table
