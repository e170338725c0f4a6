"""`fedcell paper`: the command; what it does is in experiments/paper/suite.py."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from experiments.cli_common import AsJson, a_folder, interruptible, print_json


def paper(
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Twenty minutes instead of an hour or two: one seed, fewer points."),
    ] = False,
    retry_invalid: Annotated[
        bool, typer.Option("--retry-invalid", help="Run the invalid trials of an earlier call again.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", callback=a_folder, help="Where all of it goes; by default runs/paper[-quick]."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """The paper's figures: schemes of fine-tuning side by side in emulated cells, with every assumption in
    configs/paper*.yaml. Call it again to go on where it stopped. Exit 1 if a trial failed or is invalid.
    """
    from experiments.paper import suite
    from experiments.paper.presets import FULL_SUITE, QUICK

    interruptible()
    folder = output or Path("runs") / ("paper-quick" if quick else "paper")
    result = suite.run(QUICK if quick else FULL_SUITE, folder, retry_invalid=retry_invalid)
    if as_json:
        print_json(result.to_json())
    else:
        for line in result.headlines:
            print(line)
        for line in result.troubles:
            print(line)
        print("\n".join(map(str, [*result.figures.values(), result.report])))
    raise typer.Exit(0 if result.valid else 1)
