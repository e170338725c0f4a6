"""`fedcell sweep`: its arguments, and what it prints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from experiments.cli_common import AsJson, Config, a_folder, interruptible, print_json
from experiments.config import ConfigError

if TYPE_CHECKING:
    from experiments.sweep import Sweep, Trial
    from experiments.sweep.executor import Executor

_OURS = ("output", "name")
"""Keys that a sweep sets itself."""


def sweep(
    file: Config,
    axes: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=A,B,C ...",
            help="Axes of the grid, and overrides: uplink.codec=fp32,eden(2) adapter.rank=2,4 rounds=2. "
            "A comma in brackets or quotes belongs to its value.",
        ),
    ] = None,
    executor: Annotated[Literal["local", "ray"], typer.Option(help="Where trials run.")] = "local",
    ray_address: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="The Ray cluster; auto: the one of this machine.")
    ] = "auto",
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="So many trials at a time, whether their timing bears it or not."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", callback=a_folder, help="Where all of it goes; by default runs/sweep-NAME."
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume/--anew", help="Keep the trials in DIR that are done, or run all anew.")
    ] = True,
    retry_invalid: Annotated[
        bool, typer.Option("--retry-invalid", help="Run the invalid ones of an earlier call again.")
    ] = False,
    repeats: Annotated[
        int, typer.Option(min=0, max=9, help="Run an invalid trial again, at most so often.")
    ] = 0,
    evaluate: Annotated[
        bool, typer.Option("--evaluate", help="Held-out losses too, as `fedcell evaluate` has them.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run an experiment at every point of a grid; keep what is done. Exit 1 if a trial failed or is invalid.

    For example: fedcell sweep experiments/configs/smoke.yaml uplink.codec=fp32,int8 adapter.rank=2,4
    """
    from experiments.figures import sweep as figures
    from experiments.sweep import grid, parse, run_trials, trials

    asked = parse(axes or [])
    for key in _OURS:
        if key in asked:
            raise ConfigError(f"{key}: a sweep sets it itself; write --output DIR")
    wanted = trials(file, grid(asked))
    folder = output or Path("runs") / f"sweep-{wanted[0].experiment.name}"
    interruptible()
    result = run_trials(
        wanted,
        folder,
        executor=_executor(executor, ray_address, wanted, jobs),
        evaluate=evaluate,
        resume=resume,
        retry_invalid=retry_invalid,
        repeats=repeats,
        about={"config": str(file), "grid": asked},
    )
    pictures = figures.draw_sweep(result.results, list(wanted[0].labels), result.folder)
    if as_json:
        print_json(_document(result))
    else:
        _print(result, list(wanted[0].labels), pictures)
    raise typer.Exit(0 if result.valid else 1)


def _executor(name: str, ray_address: str, wanted: list[Trial], jobs: int | None) -> Executor:
    if name == "local":
        from experiments.sweep.local import LocalExecutor

        return LocalExecutor(wanted, jobs)
    from experiments.sweep.ray_cluster import RayExecutor

    return RayExecutor(wanted, ray_address, jobs)


def _document(result: Sweep) -> dict[str, Any]:
    """The `sweep` document of the command line."""
    return {
        "sweep_dir": str(result.folder),
        "results_csv": str(result.folder / "results.csv"),
        "rounds_csv": str(result.folder / "rounds.csv"),
        "trials": len(result.results),
        "ran": result.ran,
        "failed": int((result.results["outcome"] == "failed").sum()),
        "invalid": int((result.results["outcome"] == "invalid").sum()),
        "valid": result.valid,
        "not_valid": result.failed[["trial", "outcome", "reason"]].to_dict("records"),
    }


def _print(result: Sweep, labels: list[str], pictures: list[Path]) -> None:
    """A line a trial, what went wrong, and where everything is."""
    table = Table(*labels, "latency s", "bound s", "wire down/up MB", "held-out loss", "")
    for row in result.results.to_dict("records"):
        table.add_row(
            *(str(row[label]) for label in labels),
            _number(row["latency_mean_s"], 3) + (" (extrapolated)" if row["extrapolated"] is True else ""),
            _number(row["bound_mean_s"], 3),
            f"{_number(row['wire_down_bytes'], 3, 1e-6)} / {_number(row['wire_up_bytes'], 3, 1e-6)}",
            _number(row["final_loss"], 4),
            row["outcome"] if row["outcome"] == "valid" else row["outcome"].upper(),
        )
    Console().print(table)
    for row in result.failed.to_dict("records"):
        point = " ".join(f"{label}={row[label]}" for label in labels)
        print(f"{row['outcome'].upper()}: {point}: {row['reason']}")
    for path in [result.folder / "results.csv", result.folder / "rounds.csv", *pictures]:
        print(path)


def _number(value: Any, digits: int, scale: float = 1.0) -> str:
    return "-" if value is None or value != value else f"{value * scale:.{digits}f}"
