"""`fedcell bench dilation`: the same experiment on slower and faster clocks: does it come out the same?

Rates, delays and the least retransmission timeout are dilated; what is left undilated is this machine's own
work, and timers of TCP's that cannot be set (delayed acknowledgements, the first timeout of a
connection). How much that matters is measured here, without loss and with it.
"""

from __future__ import annotations

import json
import math
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from experiments import config
from experiments.run import Run

CONFIG = Path(__file__).parent.parent / "configs" / "dilation.yaml"
DILATIONS = (1.0, 0.2, 4.0)
"""The first is what the others are compared with."""
LOSSES = {"clean": "0%", "1% loss": "1%"}
GATE = 0.05
Verdict = Literal["holds", "unsure", "does not hold"]
_Z = 2.58  # 99 % of a normal distribution lies within.


@dataclass(frozen=True)
class Row:
    """One run: `latency_s` emulated seconds from a device's first byte down to its last one up, mean over
    devices and rounds; `ratio` to the same at a dilation of 1; and their standard errors."""

    case: str
    dilation: float
    transfers: int
    latency_s: float
    error_s: float
    ratio: float
    error: float
    gate: str
    verdict: Verdict
    valid: bool
    run_dir: str


def run(output: Path) -> list[Row]:
    """Every case at every dilation. Must run inside a sandbox (emulation.sandbox)."""
    rows: list[Row] = []
    for case, loss in LOSSES.items():
        base: tuple[float, float] | None = None
        for dilation in DILATIONS:
            print(f"bench dilation: {case} at {dilation:g}", file=sys.stderr, flush=True)
            losses = [f"network.devices.0.{way}.loss={loss}" for way in ("up", "down")]
            experiment = config.load(CONFIG, [f"dilation={dilation}", f"output={output}", *losses])
            result = Run(experiment).execute()
            latency_s, error_s = _latency(result.clients)
            base = base or (latency_s, error_s)
            rows.append(
                Row(
                    case=case,
                    dilation=dilation,
                    transfers=len(result.clients),
                    latency_s=latency_s,
                    error_s=error_s,
                    **judge((latency_s, error_s), base),
                    valid=result.valid,
                    run_dir=str(result.run_dir),
                )
            )
    return rows


def judge(measured: tuple[float, float], base: tuple[float, float]) -> dict[str, Any]:
    """`ratio`, its `error`, `gate` and `verdict` of a mean latency and its standard error against those at 1.

    It holds within 5 %. What is farther off, by no more than chance makes of so few transfers (2.58 standard
    errors of the ratio), is unsure, and holds no more than what is farther still.
    """
    (latency_s, error_s), (base_s, base_error_s) = measured, base
    ratio = latency_s / base_s
    error = 0.0 if measured == base else ratio * math.hypot(error_s / latency_s, base_error_s / base_s)
    beyond = abs(ratio - 1) - GATE
    verdict: Verdict = "holds" if beyond <= 0 else "unsure" if beyond <= _Z * error else "does not hold"
    return {"ratio": ratio, "error": error, "gate": f"within {GATE:.0%}", "verdict": verdict}


def _latency(clients: pd.DataFrame) -> tuple[float, float]:
    finished = clients[clients["outcome"] == "finished"]
    phases = ["download_s", "gate_s", "compute_s", "encode_s", "upload_s"]
    latency = finished[phases].sum(axis=1)
    return float(latency.mean()), float(latency.std(ddof=1) / math.sqrt(len(latency)))


def markdown(rows: list[Row]) -> str:
    """A table to read."""
    lines = ["| case | dilation | emulated latency | against 1 | gate | |", "|---|---|---|---|---|---|"]
    for row in rows:
        verdict = row.verdict if row.valid else "invalid run"
        latency = f"{row.latency_s:.3f} ± {row.error_s:.3f} s"
        lines.append(
            f"| {row.case} | {row.dilation:g} | {latency} | {row.ratio:.3f} ± {row.error:.3f} "
            f"| {row.gate} | {verdict} |"
        )
    return "\n".join(lines) + "\n"


def to_json(rows: list[Row]) -> dict[str, Any]:
    """The `bench dilation` document of the command line."""
    return {"valid": holds(rows), "rows": [asdict(row) for row in rows]}


def holds(rows: list[Row]) -> bool:
    """Whether every dilation gave what 1 gives, in runs that are valid."""
    return all(row.verdict == "holds" and row.valid for row in rows)


def write(rows: list[Row], folder: Path) -> list[Path]:
    """dilation.json and dilation.md in `folder`; their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dilation.json").write_text(json.dumps(to_json(rows), indent=1) + "\n")
    (folder / "dilation.md").write_text(markdown(rows))
    return [folder / "dilation.json", folder / "dilation.md"]
