"""The network's sections: what links were to be, what calibration measured, what they carried and dropped."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from markupsafe import Markup

from experiments.report import about, parts, words
from experiments.report.page import Section
from experiments.report.read import RunFolder

_DROPS = ("drops_queue", "drops_aqm", "drops_loss", "drops_device")


def calibration(run: RunFolder) -> Section:
    """Configured against measured, misses first; folded when all passed."""
    checks: list[dict[str, Any]] = run.manifest.get("calibration", [])
    title = "Calibration"
    if not checks:
        return Section(title, "", note="The run did not come to it: no link was measured.")
    verdicts = [check.get("passed") for check in checks]
    missed = verdicts.count(False)
    tested = len(checks) - verdicts.count(None)
    note = "Before round 1 each link was measured by code that shares nothing with the code that set it up: "
    note += f"{tested - missed} of {words.count(tested, 'check')} passed"
    note += f", {len(checks) - tested} had no time to be made." if len(checks) > tested else "."
    order = sorted(checks, key=lambda check: {False: 0, True: 1, None: 2}[check.get("passed")])
    rows = [
        [
            check["link"],
            check["direction"],
            check["metric"],
            _verdict(check.get("passed")),
            words.of_metric(check["metric"], check.get("configured")),
            words.of_metric(check["metric"], check.get("measured")),
            check.get("gate", ""),
        ]
        for check in order
    ]
    headers = ["link", "direction", "metric", "verdict", "configured", "measured", "gate"]
    return Section(title, parts.table(headers, rows, left=4), note=note, folded=not missed)


def _verdict(passed: bool | None) -> Markup:
    return {
        True: Markup('<span class="yes">✓ pass</span>'),
        False: Markup('<span class="no">✗ miss</span>'),
        None: Markup('<span class="quiet">not tested</span>'),
    }[passed]


def links(run: RunFolder, chart: Markup | str) -> Section:
    """What was configured, the channel over time where there was one (`chart`), and what links counted."""
    html = parts.join(_configured(run), chart, _counted(run))
    note = "Links as they were configured, one direction a row, and what they carried, drops by cause."
    return Section("Links", html, note=note)


def _configured(run: RunFolder) -> Markup:
    groups: dict[str, tuple[dict[str, Any], str, list[str]]] = {}
    for edge in about.links(run):
        for way in ("up", "down"):
            if spec := edge.get(way):
                key = json.dumps([way, spec], sort_keys=True)
                groups.setdefault(key, (spec, way, []))[2].append(str(edge["link"]))
    if not groups:
        return parts.paragraph("What links were to be is not on record.")
    rows = [
        [
            words.listed(names),
            way,
            words.rate(spec.get("rate_bps")) if not run.get("network.channel") else "by the channel",
            words.milliseconds(spec.get("delay_s")),
            words.milliseconds(spec.get("jitter_s")),
            words.percent(spec.get("loss")) if not run.get("network.channel") else "by the channel",
            words.size(spec.get("queue_bytes")),
        ]
        for spec, way, names in groups.values()
    ]
    return parts.table(["link", "direction", "rate", "delay", "jitter", "loss", "queue"], rows, left=2)


def _counted(run: RunFolder) -> Markup:
    table = run.tables.get("links")
    if table is None or table.empty:
        return Markup("")
    drops = [name for name in _DROPS if name in table]
    cells: dict[str, tuple[str, Callable[[Any], str]]] = {
        "offered_frames": ("offered frames", words.number),
        "delivered_frames": ("delivered frames", words.number),
        "delivered_bytes": ("delivered", words.size),
        **{name: (f"dropped: {name.removeprefix('drops_')}", words.number) for name in drops},
        "lateness_p99_s": ("p99 lateness, worst round", words.milliseconds),
    }
    there = [name for name in cells if name in table]
    how = {name: "max" if name == "lateness_p99_s" else "sum" for name in there}
    sums = table.groupby(["link", "direction"], sort=False).agg(how).reset_index()
    rows = [
        [str(row["link"]), str(row["direction"]), *(cells[name][1](row[name]) for name in there)]
        for row in sums.to_dict("records")
    ]
    headers = ["link", "direction", *(cells[name][0] for name in there)]
    return parts.fold("What every link counted, over the whole run", parts.table(headers, rows, left=2))
