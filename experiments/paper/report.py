"""report.html: the suite on one page, from its tables and figures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd
from markupsafe import Markup

from experiments.paper.headline import higher_loss
from experiments.paper.presets import Preset
from experiments.paper.schemes import FAMILIES, SCHEMES
from experiments.report import parts
from experiments.report.page import Section, page

if TYPE_CHECKING:
    from experiments.paper.suite import Suite

ABOUT = (
    "What the abstract of arXiv 2307.07146 claims, federated fine-tuning of a diffusion model with less "
    "communication, less latency and more privacy, put to the test on emulated links. Only that abstract "
    "was at hand: every number here is of these runs and none is the paper's."
)
TITLES = {
    "cost": ("Communication cost", "Bytes on the wire of the mean device: of a round, and in total."),
    "latency": (
        "Latency of a round",
        "From its start to the new model; right its phases, on the device that was last.",
    ),
    "bandwidth": ("Latency against bandwidth", "A device on a link of its own, waits for others left out."),
    "devices": ("Latency against devices in a cell", "All share one cell's airtime."),
    "paths": ("Latency against delay and loss", "TCP's congestion control decides what loss costs."),
    "learning": (
        "What is learned",
        "On drawings that nobody trained on; retrieval has 95 % bootstrap intervals by names.",
    ),
    "energy": ("Time and energy", "Of a device's round, by the device's profile."),
    "analytic": ("Emulated against analytic", "What TCP, queues, headers and gRPC add to the formulas."),
    "allocation": (
        "Dividing the bandwidth",
        "shared: by need; the others give each device its part for good.",
    ),
    "privacy": ("Privacy", "Differential privacy at the client: the attack's AUC and the loss, by epsilon."),
}


def document(suite: Suite, preset: Preset) -> str:
    """The whole page, self-contained."""
    sections = [_factors(suite), *_pictures(suite), _secure(suite), _assumptions(), _trials(suite)]
    return page(
        "The paper's claims, measured", sections, kicker=f"fedcell paper, {preset.name}", lead=_lead(suite)
    )


def _lead(suite: Suite) -> Markup:
    good = f"All {len(suite.trials)} trials are valid."
    bad = f"{len(suite.bad)} of {len(suite.trials)} trials are not valid, and marked wherever they appear."
    verdict = parts.callout("good", good) if suite.valid else parts.callout("bad", bad, suite.troubles)
    return parts.join(Markup('<p class="question">{}</p>').format(ABOUT), verdict)


def _factors(suite: Suite) -> Section:
    rows = [
        [
            FAMILIES[row["family"]].title,
            SCHEMES[row["scheme"]].title,
            row["against"],
            _number(row["rounds"]),
            _factor(row, "bytes_factor"),
            _factor(row, "latency_factor"),
            "–" if math.isnan(row["loss_ratio"]) else higher_loss(row),
            _number(row["break_even_rounds"]),
            _marks(row),
        ]
        for row in suite.tables["headline"].to_dict("records")
    ]
    head = ["model", "scheme", "against", "rounds", "fewer bytes", "less time", "final loss"]
    table = parts.table([*head, "break-even, rounds", ""], rows, left=3)
    limits = parts.callout("note", "Where the claim does not hold, or not for good", suite.limits)
    return Section(
        "By what factor",
        parts.join(table, limits),
        note="Ratios of trials of one seed, with 95 % intervals where there are several, over all rounds "
        "that ran: central training sends its images in the first. Below 1 it is the other way round.",
    )


def _pictures(suite: Suite) -> Iterator[Section]:
    for name, path in suite.figures.items():
        title, note = TITLES[name]
        picture = parts.picture(path.with_suffix(".png"), title, f"figures/{path.name}")
        table = suite.tables[name]
        fold = parts.fold(f"its table ({name}.csv)", _csv(table))
        yield Section(title, parts.join(picture, fold), note=note)


def _secure(suite: Suite) -> Section:
    note = "Rounds of one codec with and without secure aggregation: what masks, keys and shares add."
    return Section("Secure aggregation", _csv(suite.tables["secure"]), note=note)


def _assumptions() -> Section:
    files = [parts.code(family.config.read_text(), name=family.config.name) for family in FAMILIES.values()]
    rows = [
        [scheme.title, " ".join(scheme.overrides), "; ".join(f"{f}: {' '.join(o)}" for f, o in scheme.only)]
        for scheme in SCHEMES.values()
    ]
    schemes = parts.table(["scheme", "sets", "in one family only"], rows, left=3)
    note = "Every trial is these files and the keys that its scheme and its point of the suite set."
    return Section("Assumptions", parts.join(schemes, *files), note=note, folded=True)


def _trials(suite: Suite) -> Section:
    shown = suite.trials.drop(columns=["trial", "valid"])
    note = "Every run that stands behind a number; its directory holds manifest, tables and events."
    return Section("Trials", _csv(shown), note=note, folded=True)


def _csv(table: pd.DataFrame) -> Markup:
    rows = [[_text(value) for value in row] for row in table.itertuples(index=False)]
    return parts.table([str(column) for column in table.columns], rows)


def _text(value: object) -> str:
    if isinstance(value, float):
        return _number(value)
    return "" if value is None else str(value)


def _number(value: float) -> str:
    if math.isnan(value):
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"


def _factor(row: Mapping[Any, Any], name: str) -> str:
    half = row[f"{name}_half"]
    return _number(row[name]) + ("" if math.isnan(half) else f" ± {half:.2g}")


def _marks(row: Mapping[Any, Any]) -> str:
    said = ["extrapolated"] if row["extrapolated"] else []
    said += [] if row["valid"] else ["INVALID"]
    said += [f"{row['invalid']} seeds INVALID"] if row["valid"] and row["invalid"] else []
    return ", ".join(said)
