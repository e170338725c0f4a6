"""By what factor LoRA, and LoRA with the codec, lower cost and latency; at what loss; and where not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from experiments.figures.style import number
from experiments.paper.measured import Measured
from experiments.paper.over_seeds import over_seeds
from experiments.paper.schemes import BEST_CODEC, CENTRAL, FAMILIES, FULL, SCHEMES
from experiments.paper.tables import with_bytes

AGAINST = (FULL, CENTRAL)
_NOTHING = 1e4
"""Bytes a round: who sends no more than that has no factor."""
_WORSE = 1.01
"""A final loss above this share of the other's is said to be worse."""


def headline(measured: Measured, losses: pd.DataFrame) -> pd.DataFrame:
    """A row a family, scheme and what it is held against (`full`, `central`).

    `bytes_factor`, `latency_factor`: how many times less it sends in all `rounds` that ran, and how many
    times less time they took; `loss_ratio` its final held-out loss over the other's (bundled base). All are
    taken between trials of one seed. `break_even_rounds`: after so many rounds it has sent as much as
    `central`, which sends images once, did in all of its rounds.
    """
    trials = _by_trial(measured, losses)
    rows = []
    for against in AGAINST:
        other = trials[trials["scheme"] == against]
        both = trials[trials["scheme"] != against].merge(
            other, on=["family", "seed"], suffixes=("", "_other")
        )
        both["against"] = against
        both["valid"] = both["valid"].astype(bool) & both["valid_other"].astype(bool)
        both["extrapolated"] = both["extrapolated"] | both["extrapolated_other"]
        sent = both["bytes"].where(both["bytes"] > _NOTHING)
        both["bytes_factor"] = both["bytes_other"] / sent
        both["latency_factor"] = both["latency_s_other"] / both["latency_s"]
        both["loss_ratio"] = both["loss"] / both["loss_other"]
        once = both["total_bytes_other"].where(both["against"] == CENTRAL)
        both["break_even_rounds"] = once / sent
        rows.append(over_seeds(both, ["family", "scheme", "against"], list(_FACTORS)))
    return pd.concat(rows, ignore_index=True)


_FACTORS = ("rounds", "bytes_factor", "latency_factor", "loss_ratio", "break_even_rounds")


def _by_trial(measured: Measured, losses: pd.DataFrame) -> pd.DataFrame:
    """A row a trial of the schemes: bytes and latency of its mean round, all its bytes, its final loss."""
    rounds = with_bytes(measured.rounds[measured.rounds["part"].isin(["schemes", "learning"])])
    rows = []
    for (family, scheme, seed), own in rounds.groupby(["family", "scheme", "seed"], sort=False):
        asked = losses[losses["trial"] == own["trial"].iloc[0]].sort_values("round")
        rows.append(
            {
                "family": family,
                "scheme": scheme,
                "seed": seed,
                "valid": bool(own["valid"].iloc[0]),
                "extrapolated": bool(own["extrapolated"].any()),
                "rounds": len(own),
                "bytes": own["both_bytes"].mean(),
                "total_bytes": own["both_bytes"].sum(),
                "latency_s": own["latency_s"].mean(),
                "loss": asked["loss"].iloc[-1] if len(asked) else float("nan"),
            }
        )
    columns = ["family", "scheme", "seed", "valid", "extrapolated", "rounds"]
    columns += ["bytes", "total_bytes", "latency_s", "loss"]
    return pd.DataFrame(rows, columns=columns)


def claims(table: pd.DataFrame) -> Iterator[str]:
    """What the headline says of the best of each kind, in sentences; invalid comparisons say so."""
    for family in FAMILIES:
        for scheme in ("lora-4", "lora-16", BEST_CODEC):
            for row in _rows(table, family, scheme):
                quality = f", final loss {higher_loss(row)}" if row["loss_ratio"] == row["loss_ratio"] else ""
                sure = "" if row["valid"] else " (INVALID: do not quote)"
                sure += " (with an extrapolated transfer)" if row["extrapolated"] else ""
                sent = _times(row, "bytes_factor", "fewer bytes", "more bytes")
                took = _times(row, "latency_factor", "less time", "more time")
                yield (
                    f"{FAMILIES[family].title}: {SCHEMES[scheme].title} against {row['against']}, over "
                    f"{row['rounds']:.0f} rounds: {sent}, {took}{quality}{sure}"
                )


def where_not(table: pd.DataFrame, bandwidth: pd.DataFrame, energy: pd.DataFrame) -> Iterator[str]:
    """Where the claim does not hold, or holds for a while only: from the tables, whatever they say."""
    for row in table.to_dict("records"):
        if not row["scheme"].startswith("lora"):
            continue
        what = f"{FAMILIES[row['family']].title}: {SCHEMES[row['scheme']].title}"
        if row["latency_factor"] < 1:
            longer = 1 / row["latency_factor"]
            yield f"{what} takes longer than {row['against']}: {longer:.2g} times."
        if row["against"] == FULL and row["bytes_factor"] < 1:
            yield f"{what} sends more than full: {1 / row['bytes_factor']:.2g} times as much."
        if row["against"] == CENTRAL and row["break_even_rounds"] == row["break_even_rounds"]:
            yield (
                f"{what} has sent as much as central training's images after "
                f"{row['break_even_rounds']:.3g} rounds, and sends more from then on."
            )
        if row["loss_ratio"] > _WORSE:
            yield f"{what} ends with a higher loss than {row['against']}: {higher_loss(row)}."
    for scheme, own in energy[~energy["feasible"].astype(bool)].groupby("scheme", sort=False):
        yield (
            f"{SCHEMES[str(scheme)].title} does not fit the memory of {', '.join(own['profile'])}: their "
            "times and energy are of devices that had enough."
        )
    bandwidth = bandwidth[bandwidth["valid"].astype(bool)]
    full = bandwidth[bandwidth["scheme"] == FULL].set_index("rate_up_bps")["own_s"]
    for scheme, own in bandwidth[bandwidth["scheme"] != FULL].groupby("scheme", sort=False):
        factors = (full / own.set_index("rate_up_bps")["own_s"]).dropna().sort_index()
        if len(factors) > 1:
            slow, fast = factors.index[0], factors.index[-1]
            yield (
                f"{SCHEMES[str(scheme)].title} against full: {number(factors[slow])} times faster at "
                f"{slow / 1e6:g} Mbit/s, {number(factors[fast])} times at {fast / 1e6:g} Mbit/s: the faster "
                "the link, the more of a round is training."
            )


def _rows(table: pd.DataFrame, family: str, scheme: str) -> list[dict[Any, Any]]:
    return table[(table["family"] == family) & (table["scheme"] == scheme)].to_dict("records")


def higher_loss(row: Mapping[Any, Any]) -> str:
    """`+3.7% ± 5.1%`: how far the final loss is above the other's."""
    half = row["loss_ratio_half"]
    return f"{row['loss_ratio'] - 1:+.1%}" + (f" ± {half:.1%}" if half == half else "")


def _times(row: Mapping[Any, Any], name: str, less: str, more: str) -> str:
    """`1,080 ± 3 times fewer bytes`; the interval is missing with one seed."""
    factor, half = row[name], row[f"{name}_half"]
    if factor != factor:
        return f"{less}: not known"
    if factor < 1:  # d(1/x) = dx/x^2
        factor, half, less = 1 / factor, half / factor**2, more
    sure = f" ± {number(half)}" if half == half else ""
    return f"{number(factor)}{sure} times {less}"
