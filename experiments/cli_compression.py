"""`fedcell bench compression`: the command; what it does is in experiments/bench/compression.py."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from experiments.cli_common import AsJson, Output, Overrides, end_bench, interruptible


def bench_compression(
    overrides: Overrides = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A quarter of an hour instead of a night: few settings, 3 seeds.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep the valid trials that are done in DIR; run the others.")
    ] = False,
    output: Output = Path("runs/bench-compression"),
    as_json: AsJson = False,
) -> None:
    """Settings of compression in the emulated network, really training: bytes, time, loss, retrieval.

    Exit 1 if a trial is invalid, or no setting has fp32's final loss within 1 % at an eighth of its bytes up
    and a fifth of its time per round.
    """
    from experiments.bench import compression, compression_tables

    interruptible()
    preset = compression.QUICK if quick else compression.FULL
    result = compression.run(preset, output, resume=resume, overrides=overrides or [])
    compression_tables.write(result, output)
    document = compression_tables.to_json(result)
    end_bench(document, compression_tables.markdown(document), result.holds, as_json)
