"""`fedcell report`: its arguments, and what it prints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from experiments.cli_common import AsJson, RunDir, a_file, print_json


def report(
    run_dir: RunDir,
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", callback=a_file, help="Where it goes; by default RUN/report.html."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write one HTML page about a run, to be read in any browser, with nothing fetched from anywhere."""
    from experiments.report.report import write_report

    path = write_report(run_dir, output)
    if as_json:
        print_json({"run_dir": str(run_dir), "report": str(path)})
    else:
        print(path)
