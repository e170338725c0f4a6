"""Means over seeds with their intervals; what of them is invalid or extrapolated stays visible."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from experiments.estimate import estimate


def over_seeds(table: pd.DataFrame, by: Sequence[str], values: Sequence[str]) -> pd.DataFrame:
    """A row for each combination of `by`, in order of appearance: of each value its mean over seeds and
    `VALUE_half`, half of the 95 % t interval (missing with one seed).

    A seed's own value is the mean over its rows. Only valid trials count; where there is none, the mean is
    that of the invalid ones and `valid` is false. `seeds` trials that count, `invalid` those that do not;
    `extrapolated` whether any of it is.
    """
    rows = []
    for key, group in table.groupby(list(by), sort=False, dropna=False):
        good = group[group["valid"].astype(bool)]
        used = good if len(good) else group
        row: dict[str, Any] = dict(zip(by, key, strict=True))
        for value in values:
            found = estimate(used.groupby("seed")[value].mean().dropna())
            row[value] = found.mean if found else float("nan")
            row[f"{value}_half"] = found.half if found and found.half is not None else float("nan")
        row["seeds"] = good["seed"].nunique()
        row["invalid"] = group["seed"].nunique() - row["seeds"]
        row["valid"] = bool(len(good))
        row["extrapolated"] = (
            bool(used["extrapolated"].astype(bool).any()) if "extrapolated" in used else False
        )
        rows.append(row)
    columns = [*by, *(name for value in values for name in (value, f"{value}_half"))]
    return pd.DataFrame(rows, columns=[*columns, "seeds", "invalid", "valid", "extrapolated"])
