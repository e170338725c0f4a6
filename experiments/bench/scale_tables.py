"""What `fedcell bench scale` writes: its rows as JSON and as tables to read."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from experiments.bench import scale
from experiments.bench.links import machine
from experiments.bench.scale import STARTS, Row

_SHOWN = 3
"""Reasons of a kind in Markdown: one cause may have one for every device. JSON has them all."""


def to_json(rows: Sequence[Row]) -> dict[str, Any]:
    """The `bench scale` document of the command line."""
    return {
        "valid": scale.holds(rows),
        "targets": {
            "start_s": scale.START_TARGET_S,
            "private_mb": scale.PRIVATE_TARGET_MB,
            "total_mb": scale.TOTAL_TARGET_MB,
        },
        "machine": machine(),
        "rows": [{key: _known(value) for key, value in asdict(row).items()} for row in rows],
    }


def _known(value: Any) -> Any:
    """JSON has no NaN: what was not seen is null."""
    return None if isinstance(value, float) and math.isnan(value) else value


def markdown(rows: Sequence[Row]) -> str:
    """The rows, what their start was made of, and what was missed."""
    return "\n".join([*_summary(rows), "", *_starts(rows), *_problems(rows)]) + "\n"


def _summary(rows: Sequence[Row]) -> list[str]:
    lines = [
        "| devices | start | private memory, worst / median device | whole run | dilation | wall "
        "| wall per emulated second | round latency | bound | latency / bound | |",
        "|---:" * 10 + "|---|",
    ]
    for row in rows:
        verdict = "INVALID" if not row.valid else "MISSES A TARGET" if row.misses else "valid"
        total = "-" if math.isnan(row.total_mb) else f"{row.total_mb / 1000:.1f} GB"
        lines.append(
            f"| {row.devices} | {row.start_s:.1f} s | {row.private_mb:.0f} / {row.private_median_mb:.0f} MB "
            f"| {total} | {row.dilation:g} | {row.wall_s:.0f} s "
            f"| {row.wall_per_emulated_s:.1f} s | {row.latency_s:.3f} s | {row.bound_s:.3f} s "
            f"| {row.latency_s / row.bound_s:.3f} | {verdict} |"
        )
    return lines


def _starts(rows: Sequence[Row]) -> list[str]:
    lines = [f"| start of | {' | '.join(STARTS)} |", "|---:" * (len(STARTS) + 1) + "|"]
    for row in rows:
        cells = " | ".join(f"{row.starts_s[part]:.1f} s" for part in STARTS)
        lines.append(f"| {row.devices} | {cells} |")
    return lines


def _problems(rows: Sequence[Row]) -> list[str]:
    """Reasons and warnings, a line each, of each kind the first few; nothing where there are none."""
    lines = []
    for row in rows:
        for kind, texts in (
            ("INVALID: ", row.invalid_reasons),
            ("missed: ", row.misses),
            ("warning: ", row.warnings),
        ):
            lines += [f"- {row.devices} devices: {kind}{text}" for text in texts[:_SHOWN]]
            if len(texts) > _SHOWN:
                lines.append(f"- {row.devices} devices: {kind}and {len(texts) - _SHOWN} more")
    return ["", *lines] if lines else []


def write(rows: Sequence[Row], folder: Path) -> list[Path]:
    """scale.json and scale.md in `folder`; their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scale.json").write_text(json.dumps(to_json(rows), indent=1) + "\n")
    (folder / "scale.md").write_text(markdown(rows))
    return [folder / "scale.json", folder / "scale.md"]
