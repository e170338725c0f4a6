"""links.md: the bench's rows as tables to read."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from emulation.calibration import FRAMES_PER_S
from emulation.expected import Z
from experiments.bench.loads import IDLE, LOADS


@dataclass(frozen=True)
class Metric:
    """How a metric is named, what its gate is, and how a deviation of it is written."""

    name: str
    title: str
    gate: str
    unit: str

    def text(self, deviation: float) -> str:
        """A deviation with its unit."""
        scaled = round(deviation * {"%": 100.0, "ms": 1000.0, "z": 1.0}[self.unit], 3)
        sign = "" if self.name in ("gap", "reordering") or not scaled else "+"
        digits = 1 if self.unit == "z" else 3
        return f"{scaled:{sign}.{digits}f} {self.unit}" if scaled else f"0 {self.unit}"

    def deviations(self, judged: pd.DataFrame) -> list[float]:
        """Of the checks that measured something; a share's in standard errors (z), for these are its gate."""
        column = judged["of_gate"] * Z if self.unit == "z" else judged["deviation"]
        return list(column.dropna())


METRICS = (
    Metric("rate", "layer-2 rate", "±1 %", "%"),
    Metric("rtt", "round trip at rest", "−0.1/+0.5 ms", "ms"),
    Metric("delay", "one-way delay at rest", "−0.1/+0.5 ms", "ms"),
    Metric("loss", "loss", "z within ±2.58", "z"),
    Metric("burst", "mean number lost in a row", "geometric law, 99 %", "%"),
    Metric("jitter", "jitter's sigma", "±10 %", "%"),
    Metric("reordering", "frames overtaken", "none", "%"),
    Metric("gap", "gap between frames, p90", "5 % of a frame's time", "%"),
    Metric("queue", "delay of a full queue, 8Q/R", "±5 % and a frame's time", "%"),
    Metric("goodput", "TCP goodput, of R·1448/1514", "−3/+1 %", "%"),
)


def markdown(document: dict[str, Any], table: pd.DataFrame) -> str:
    """From the JSON document of the bench and its rows."""
    return "\n\n".join([_head(document), _summary(table), *_by_rate(table), *_misses(document, table)]) + "\n"


def _head(document: dict[str, Any]) -> str:
    machine = document["machine"]
    why = "gates were missed" if document["failed"] else "the backend finds fault with itself"
    verdict = "All gates hold." if document["valid"] else f"**Not valid: {why}, see the end.**"
    lines = [
        "# Links: configured against measured",
        "",
        f"Backend `{document['backend']}`, grid `{document['grid']}`; {machine['cores']} cores "
        f"({machine['cpu']}), Linux {machine['kernel']}, {machine['date']}, "
        f"{document['took_s'] / 60:.0f} min. {document['passed']} checks passed, {document['failed']} missed "
        f"and {document['not_tested']} could not be made on their link. {verdict}",
        "",
        "Links are measured from their ends by code that shares nothing with the backend, several at a time, "
        f"up to {FRAMES_PER_S:,.0f} frames/s together, the sixteen all at once both ways. "
        f"{_load(document)}{_thrown_away(document)}"
        "A gate is widened by the sampling error of its sample only (99 %); where jitter widens it, "
        "links with jitter have a table of their own. "
        "*Of its gate* is the deviation that comes nearest to its gate, as a share of it.",
        "",
        f"Flooded at 4 Gbit/s in all, the backend carried **{document['frames_per_s']:,.0f} full frames/s** "
        f"(target: {document['frames_per_s_target']:,}).",
    ]
    return "\n".join(lines)


def _load(document: dict[str, Any]) -> str:
    cores = document["load_cpu"]
    if cores is None:
        return ""
    return (
        "Under load, two processes compute beside them at nice 0, LoRA trainings beside the sixteen links "
        f"(and got {cores:.2f} cores). "
    )


def _thrown_away(document: dict[str, Any]) -> str:
    thrown = document["thrown_away"]
    if not thrown:
        return ""
    why = "as others may have had the processors, or by --resume"
    return f"Thrown away and measured again, {why}: {'; '.join(thrown)}. "


def _summary(table: pd.DataFrame) -> str:
    rows = []
    for metric, part in _groups(table):
        for load in LOADS:
            some = part[part["load"] == load.name]
            if len(some):
                rows.append([metric.title, metric.gate, load.title, *_numbers(some, metric)])
    head = ["metric", "gate", "load", "median", "worst", "of its gate", "checks", "misses", "not tested"]
    return "## All links\n\n" + markdown_table(head, rows)


def _by_rate(table: pd.DataFrame) -> Iterable[str]:
    """One table per metric: a line per rate, idle beside loaded."""
    for metric, part in _groups(table):
        if not len(_judged(part)):
            continue
        rows = []
        for rate in sorted(part["rate_bps"].unique()):
            at_rate = part[part["rate_bps"] == rate]
            cells: list[str] = []
            idle = at_rate["load"] == IDLE.name
            for some in (_judged(at_rate[idle]), _judged(at_rate[~idle])):
                cells += (
                    [*_median_and_worst(some, metric), str(len(some)), _missed(some)]
                    if len(some)
                    else ["–", "–", "0", "0"]
                )
            rows.append([f"{rate / 1e6:g} Mbit/s", *cells])
        columns = ("median", "worst", "checks", "misses")
        head = ["rate", *(f"{load}: {column}" for load in ("idle", "loaded") for column in columns)]
        yield f"## {metric.title}: {metric.gate}\n\n" + markdown_table(head, rows)


def _misses(document: dict[str, Any], table: pd.DataFrame) -> Iterable[str]:
    missed = table[table["verdict"] == "miss"]
    lines = [
        f"- {row['part']}, {row['load']}: {row['link']} {row['direction']} "
        f"({row['rate_bps'] / 1e6:g} Mbit/s, {row['delay_s'] * 1e3:g} ms, "
        f"jitter {row['jitter_s'] * 1e3:g} ms, loss {row['loss']:g}) "
        f"{row['metric']}: measured {_number(row['measured'])}, configured {_number(row['configured'])}; "
        f"gate {row['gate']}"
        for row in missed.to_dict("records")
    ]
    lines += [f"- {reason}" for reason in document["violations"]]
    if lines:
        yield "## Missed\n\n" + "\n".join(lines)


def _number(value: float | None) -> str:
    return "nothing" if value is None or pd.isna(value) else f"{value:.6g}"


def _groups(table: pd.DataFrame) -> Iterable[tuple[Metric, pd.DataFrame]]:
    """Metric and rows; links apart whose gate jitter widens, or that were asked to lose nothing."""
    for metric in METRICS:
        of_metric = table[table["metric"] == metric.name]
        apart, other = of_metric["jitter_s"] > 0, replace(metric, title=f"{metric.title} with jitter")
        if metric.name == "loss":
            apart, other = of_metric["loss"] == 0, Metric("loss", "loss where none was asked", "none", "%")
        elif metric.name not in ("rate", "rtt", "delay"):
            apart = apart & False
        for one, part in ((metric, of_metric[~apart]), (other, of_metric[apart])):
            if len(part):
                yield one, part


def _judged(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["verdict"].isin(("pass", "miss"))]


def _numbers(rows: pd.DataFrame, metric: Metric) -> list[str]:
    judged = _judged(rows)
    untested = str((rows["verdict"] == "not tested").sum())
    if not len(judged):
        return ["–", "–", "–", "0", "0", untested]
    nearest = judged["of_gate"].abs().max()
    share = "" if pd.isna(nearest) else f"{nearest:.0%}"
    return [*_median_and_worst(judged, metric), share, str(len(judged)), _missed(judged), untested]


def _median_and_worst(judged: pd.DataFrame, metric: Metric) -> tuple[str, str]:
    """Half of the deviations are above the median; the worst is the largest either way."""
    found = metric.deviations(judged)
    if not found:
        return "–", "–"
    return metric.text(statistics.median(found)), metric.text(max(found, key=abs))


def _missed(judged: pd.DataFrame) -> str:
    return str((judged["verdict"] == "miss").sum())


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; numbers, all but the first column, to the right."""
    line: Callable[[Sequence[str]], str] = lambda cells: "| " + " | ".join(cells) + " |"  # noqa: E731
    rule = "|" + "|".join("---" if i == 0 else "---:" for i in range(len(head))) + "|"
    return "\n".join([line(head), rule, *map(line, rows)])
