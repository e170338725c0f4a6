"""The sections with charts: timeline, latency, bytes, learning. Every chart has its numbers in a table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd
from markupsafe import Markup

from experiments.report import parts, series, words
from experiments.report.page import Section
from experiments.report.read import RunFolder
from experiments.timeline import PHASES

_MOST_ROWS = 600
"""More than that nobody reads in a page; the files have them."""

_MEANINGS = {
    "download": "first byte leaves the server .. last byte decoded at the device",
    "gate": "waits for a core of this machine to train on",
    "compute": "local training",
    "encode": "the codec, until there is something to send",
    "upload": "first byte handed over .. last byte at the server",
    "wait": "waits for the round to close",
    "aggregate": "from the round's close to the new global adapter",
}
_LATENCY = (
    "From a round's start to the new global adapter. The bound is physics: the payload in full frames at the "
    "link's rate, its propagation, and the device's compute. No transport can beat it."
)
_BYTES = (
    "Mean of a device and round. Payload is what the codec made, message what protobuf made of it, wire what "
    "the device's interface counted meanwhile: headers, acknowledgements and retransmissions are in it. The "
    "mark is the payload in full TCP segments over Ethernet, the least it could be."
)
_NAMES = {"gate": "waits for a core", "wait": "waits for others"}


def timeline(run: RunFolder) -> Section:
    """A lane for the server and each device."""
    note = "What every device and the server did, in emulated seconds since round 1 began."
    if not run.events and not run.ended:
        return Section("Timeline", "", note="Nothing happened that is on record.")
    how = "Point at a bar for its numbers. Drag across the chart, or over the strip below it, to zoom in; "
    how += "a double click shows everything again."
    # With no event logs, hand-overs of milliseconds are not to be seen.
    source = "" if run.events else " Drawn from the tables, for the event logs were not kept."
    html = parts.join(
        _phase_legend(("a round is open", "--rule", "")),
        chart("timeline", "Phases of every device over time"),
        Markup('<p class="quiet">{}{}</p>').format(how, source),
        parts.fold("What the phases are", parts.facts(_MEANINGS.items())),
    )
    return Section("Timeline", html, note=note)


def latency(run: RunFolder) -> Section:
    """Each round, and each device's mean, beside what is possible at all."""
    rounds, clients = run.tables["rounds"], run.tables["clients"]
    keys = [("latency", "--blue", ""), ("bound", "", "tick")]
    if run.column("rounds", "analytic_s") is not None:
        keys.append(("analytic model", "--orange", "line"))
    html = parts.join(
        parts.heading("Every round"),
        legend(keys),
        chart("latency", "Latency of every round beside its bound"),
        parts.fold("Every round in numbers", _rounds_table(rounds)),
        parts.heading("Every device, mean over the rounds it finished"),
        _phase_legend(("bound", "", "tick")),
        chart("phases", "Mean time of each phase, by device, beside the bound"),
        parts.fold("Every device and round in numbers", _clients_table(clients)),
    )
    return Section("Latency", html, note=_LATENCY)


def traffic(run: RunFolder) -> Section:
    """Bytes by level, each way."""
    keys = [
        ("payload", "--sky", ""),
        ("message", "--blue", ""),
        ("wire", "--orange", ""),
        ("least possible", "", "tick"),
    ]
    pair = Markup(
        '<div class="pair"><div><h3>Uplink</h3>{}</div><div><h3>Downlink</h3>{}</div></div>'
    ).format(chart("bytes-up", "Bytes up, by device"), chart("bytes-down", "Bytes down, by device"))
    rows = []
    for row in series.means(run).to_dict("records"):
        cells = [str(row["client"]), words.number(row["rounds"])]
        for way in ("up", "down"):
            payload, message, wire = (
                row.get(f"{level}_{way}_bytes") for level in ("payload", "message", "wire")
            )
            over = None if words.missing(payload) or words.missing(wire) or not payload else wire / payload
            cells += [words.size(payload), words.size(message), words.size(wire), words.times(over)]
        rows.append(cells)
    headers = ["device", "rounds", *(f"{way} {name}" for way in ("up", "down") for name in _BYTE_NAMES)]
    html = parts.join(legend(keys), pair, parts.fold("In numbers", parts.table(headers, rows)))
    return Section("Bytes", html, note=_BYTES)


_BYTE_NAMES = ("payload", "message", "wire", "wire / payload")


def learning(run: RunFolder) -> Section | None:
    """Losses, retrieval and samples, as far as they were looked at; None where nothing was trained."""
    found: list[Markup | str] = []
    if (losses := series.losses_over_time(run)) is not None:
        found += [
            parts.heading("Held-out loss"),
            parts.paragraph("Denoising error on drawings nobody trained on, at fixed noise and timesteps."),
            Markup('<div class="pair"><div>{}</div><div>{}</div></div>').format(
                chart("loss-by-round", "Held-out loss by round"),
                chart("loss-by-time", "Held-out loss by emulated time") if "t_s" in losses else "",
            ),
            parts.fold("In numbers", _loss_table(losses)),
        ]
    if "retrieval" in run.tables and not run.tables["retrieval"].empty:
        found += [parts.heading("Style retrieval"), _retrieval(run.tables["retrieval"])]
    if (samples := run.picture("samples")) is not None:
        said = (
            "Drawn from the same noise before, after the first and after the last round, beside an artist's."
        )
        found += [parts.heading("Samples"), parts.picture(samples, "Samples of the fine-tuned model", said)]
    if run.column("clients", "loss") is not None:
        found += [
            parts.heading("Training loss"),
            parts.paragraph(
                "As devices reported it, each on its own data: no device's is another's, or held out."
            ),
            chart("training-loss", "Training loss of each device by round"),
        ]
    if not found:
        return None
    return Section("Learning", parts.join(*found), note="What the training came to.")


def chart(name: str, label: str) -> Markup:
    """Where charts.js draws; without scripts there are the tables."""
    return Markup(
        '<div class="chart" data-chart="{}" data-label="{}">'
        "<noscript>This chart needs JavaScript; its numbers are in the tables.</noscript></div>"
    ).format(name, label)


def legend(keys: Iterable[tuple[str, str, str]]) -> Markup:
    """(name, CSS variable, shape): a square, a `line` or a `tick`."""
    items = (
        Markup('<li><i class="{}" style="{}"></i>{}</li>').format(
            shape, f"background:var({colour})" if colour else "", name
        )
        for name, colour, shape in keys
    )
    return Markup('<ul class="legend">{}</ul>').format(Markup("").join(items))


def _phase_legend(*more: tuple[str, str, str]) -> Markup:
    phases = [(_NAMES.get(phase, phase), f"--phase-{phase}", "") for phase in PHASES]
    return legend([*phases, *more])


# A table's column -> its heading and how it is written
_ROUND_CELLS: dict[str, tuple[str, Any]] = {
    "round": ("round", words.number),
    "start_s": ("start, s", words.seconds),
    "latency_s": ("latency, s", words.seconds),
    "bound_s": ("bound, s", words.seconds),
    "analytic_s": ("analytic, s", words.seconds),
    "secagg_s": ("secure aggregation, s", words.seconds),
    "clients_finished": ("finished", words.number),
    "cohort": ("asked", words.number),
    "payload_up_bytes": ("payload up", words.size),
    "wire_up_bytes": ("wire up", words.size),
    "payload_down_bytes": ("payload down", words.size),
    "wire_down_bytes": ("wire down", words.size),
    "secagg_bytes": ("secure aggregation", words.size),
    "retransmitted_segments": ("retransmitted", words.number),
    "discordance": ("discordance", words.number),
    "epsilon": ("ε", words.number),
    "extrapolated": ("extrapolated", str),
}
_CLIENT_CELLS: dict[str, tuple[str, Any]] = {
    "round": ("round", words.number),
    "client": ("device", str),
    "outcome": ("outcome", str),
    **{f"{phase}_s": (f"{phase}, s", words.seconds) for phase in PHASES},
    "turnaround_s": ("turnaround, s", words.seconds),
    "bound_s": ("bound, s", words.seconds),
    "payload_up_bytes": ("payload up", words.size),
    "wire_up_bytes": ("wire up", words.size),
    "payload_down_bytes": ("payload down", words.size),
    "wire_down_bytes": ("wire down", words.size),
    "retransmitted_segments": ("retransmitted", words.number),
    "steps": ("steps", words.number),
    "loss": ("loss", words.number),
    "energy_compute_j": ("compute, J", words.number),
    "energy_radio_j": ("radio, J", words.number),
    "extrapolated": ("extrapolated", str),
}


def _rounds_table(rounds: pd.DataFrame) -> Markup:
    return _table(rounds, _ROUND_CELLS, 1, "rounds.csv")


def _clients_table(clients: pd.DataFrame) -> Markup:
    return _table(clients, _CLIENT_CELLS, 3, "clients.csv")


def _table(table: pd.DataFrame, cells: dict[str, tuple[str, Any]], left: int, file: str) -> Markup:
    names = [name for name in cells if name in table and not table[name].isna().all()]
    rows = [
        [cells[name][1](row[name]) for name in names] for row in table.head(_MOST_ROWS).to_dict("records")
    ]
    about = (
        f"The first {_MOST_ROWS} of {len(table)} rows; the others are in {file}."
        if len(table) > _MOST_ROWS
        else ""
    )
    return parts.table([cells[name][0] for name in names], rows, left=left, caption=about)


def _loss_table(losses: pd.DataFrame) -> Markup:
    by_round = losses.pivot_table(index="round", columns="style", values="loss", sort=False)
    rows = [
        [words.number(number), *(f"{value:.4f}" for value in values)]
        for number, *values in by_round.reset_index().to_numpy().tolist()
    ]
    return parts.table(["round", *map(str, by_round.columns)], rows)


def _retrieval(table: pd.DataFrame) -> Markup:
    note = "Drawings of every style, looked for among the real ones; 95 % intervals by bootstrap over names."
    headers = ["drawn by", "names", "R@1", "R@5", "right style", "KID"]
    rows = []
    for row in table[table["style"] == "all"].to_dict("records"):
        cells = [str(row["source"]), str(row["names"])]
        cells += [
            _interval(row, name, words.percent) for name in ("recall_at_1", "recall_at_5", "style_accuracy")
        ]
        rows.append([*cells, _interval(row, "kid", words.number)])
    return parts.join(
        parts.paragraph(note),
        chart("retrieval", "Style retrieval with intervals"),
        parts.table(headers, rows, left=2),
    )


def _interval(row: dict[Any, Any], name: str, write: Any) -> str:
    low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
    beside = "" if words.missing(low) else f" ({write(low)} to {write(high)})"
    return f"{write(row.get(name))}{beside}"
