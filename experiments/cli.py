"""The command line. Results go to standard output, progress and errors to standard error.

Exit status: 0 done, 1 the result is invalid or a check failed, 2 the input is wrong or this machine
cannot do it.
"""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Column, Table

from emulation import sandbox
from experiments import cli_leaks, cli_sweep, config, remote
from experiments.cli_common import (
    AsJson,
    Config,
    Output,
    Overrides,
    RunDir,
    end_bench,
    interruptible,
    print_invalid,
    print_json,
)
from experiments.cli_compression import bench_compression
from experiments.cli_paper import paper
from experiments.cli_report import report
from experiments.config import Experiment
from experiments.preflight import check_inputs, read_trained_manifest

if TYPE_CHECKING:  # Heavy, and of no use outside the sandbox: imported where a command needs them.
    from experiments.run import Result

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Federated fine-tuning of generative models across emulated wireless networks, measured.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Say what this machine can do, and the fix for what it cannot. Exit 1 if no run is possible."""
    from experiments.doctor import examine

    findings = examine()
    ok = all(finding.ok for finding in findings if finding.needed)
    if as_json:
        print_json({"ok": ok, "findings": [asdict(finding) for finding in findings]})
    else:
        table = Table("", "", "", box=None, show_header=False)
        for finding in findings:
            mark = "ok" if finding.ok else "MISSING" if finding.needed else "no"
            table.add_row(mark, finding.name, finding.detail)
        Console().print(table)
    raise typer.Exit(0 if ok else 1)


@app.command()
def run(file: Config, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Run one experiment and write its run directory. Exit 1 if the result is invalid."""
    experiment = _experiment(file, overrides)
    if not sandbox.inside():
        check_inputs(experiment)
    _enter_sandbox(experiment)
    from experiments.run import Run

    result = Run(experiment, command=shlex.join(["fedcell", *sys.argv[1:]])).execute()
    if as_json:
        print_json(result.to_json())
    else:
        _print_result(result)
    raise typer.Exit(0 if result.valid else 1)


@app.command()
def calibrate(
    file: Config,
    overrides: Overrides = None,
    quick: Annotated[bool, typer.Option("--quick", help="The short checks that precede every run.")] = False,
    as_json: AsJson = False,
) -> None:
    """Measure every link and compare with what was configured. Exit 1 on a miss."""
    experiment = _experiment(file, overrides)
    _enter_sandbox()
    from emulation import calibration
    from experiments.build import build_network
    from experiments.report import words

    with build_network(experiment) as network:
        checks = calibration.calibrate(network, quick=quick)
        backend = network.backend_name
        violations = network.violations()
    valid = not violations and all(check.passed is not False for check in checks)
    if as_json:
        rows = [{**asdict(check), "pass": check.passed} for check in checks]
        print_json({"valid": valid, "backend": backend, "violations": violations, "checks": rows})
    else:
        heads = ("link", "direction", "metric", "configured", "measured", "gate", "verdict")
        table = Table(*(Column(head, overflow="fold") for head in heads), padding=(0, 0))
        for check in checks:
            verdict = {True: "pass", False: "MISS", None: "not tested"}[check.passed]
            values = (words.of_metric(check.metric, value) for value in (check.configured, check.measured))
            table.add_row(check.link, check.direction, check.metric, *values, check.gate, verdict)
        Console().print(table)
        print_invalid(violations)
        print(f"{backend}: {'all gates hold' if valid else 'NOT VALID'}")
    raise typer.Exit(0 if valid else 1)


@app.command()
def shell(
    file: Config,
    overrides: Overrides = None,
    command: Annotated[
        list[str] | None,
        typer.Option("-c", metavar="LINE", help="Run this prompt line and leave; can be repeated."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Open the Mininet prompt inside the experiment's network.

    For example: -c 'server iperf3 -s -D' -c 'dev0 iperf3 -c server -R -t 5'
    """
    experiment = _experiment(file, overrides)
    if as_json and not command:
        raise config.ConfigError("--json needs at least one -c LINE")
    _enter_sandbox()
    from experiments.build import build_network
    from experiments.shell import prompt, run_lines

    with build_network(experiment) as network:
        if not command:
            prompt(network)
            return
        answers = run_lines(network, command, capture=as_json)
    if as_json:
        print_json({"lines": answers})


@app.command()
def evaluate(
    run_dir: RunDir,
    retrieval: Annotated[
        bool, typer.Option("--retrieval", help="Also draw emoji and look for them among real ones.")
    ] = False,
    membership: Annotated[
        bool, typer.Option("--membership", help="Also try to tell training examples by their loss.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Held-out loss of every round's adapter, and samples before, after the first and last round."""
    read_trained_manifest(run_dir)  # before torch is imported for nothing
    from experiments.evaluate import evaluate_run
    from experiments.membership import membership_auc

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    results: list[Any] = [evaluate_run(run_dir, progress=say, with_retrieval=retrieval)]
    if membership:
        results.append(membership_auc(run_dir, say))
    if as_json:
        print_json({key: value for result in results for key, value in result.to_json().items()})
    else:
        print("\n".join(result.summary() for result in results))


@app.command()
def figures(run_dir: RunDir, as_json: AsJson = False) -> None:
    """Draw a run's figures again from its tables."""
    from experiments.figures import draw_run

    paths = [str(path) for path in draw_run(run_dir)]
    if as_json:
        print_json({"figures": paths})
    else:
        print("\n".join(paths))


@app.command()
def trace(
    file: Config,
    overrides: Overrides = None,
    seconds: Annotated[float, typer.Option(min=1.0, help="How long a trace is before it repeats.")] = 60.0,
    output: Output = Path("runs/traces"),
    as_json: AsJson = False,
) -> None:
    """Write the experiment's wireless channel as Mahimahi traces, one a device and direction."""
    experiment = _experiment(file, overrides)
    if experiment.network.channel is None:
        raise config.ConfigError(f"{file}: network.channel is missing: there is nothing to write traces of")
    from experiments.channel_traces import write_traces

    names = [name for name, _ in experiment.expanded_devices()]
    paths = [str(path) for path in write_traces(experiment.network.channel, names, seconds, output)]
    if as_json:
        print_json({"traces": paths})
    else:
        print("\n".join(paths))


for command in (cli_sweep.sweep, paper, cli_leaks.leaks, report):
    app.command()(command)

bench = typer.Typer(no_args_is_help=True, help="Measure fedcell itself; tables as JSON and Markdown.")
app.add_typer(bench, name="bench")


@bench.command("links")
def bench_links(
    grid: Annotated[Literal["full", "quick"], typer.Option(help="quick takes minutes, full hours.")] = "full",
    backend: Annotated[
        Literal["auto", "netem", "relay"], typer.Option(help="What links are made by.")
    ] = "auto",
    output: Output = Path("runs/bench-links"),
    resume: Annotated[
        bool, typer.Option(help="Keep what an earlier call has measured in DIR without a miss.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Links configured against measured, at rest and beside busy processes. Exit 1 if a gate is missed."""
    _enter_sandbox()
    from experiments.bench import links

    result = links.run(grid, backend, output, resume=resume)
    written = links.write(result, output)
    if as_json:
        print_json(result.to_json())
    else:
        print("\n".join(map(str, written)))
        passed, missed, untested = map(result.count, ("pass", "miss", "not tested"))
        print(f"{result.backend}: {passed} checks passed, {missed} missed, {untested} not tested")
        print_invalid(result.violations)
    raise typer.Exit(0 if result.valid else 1)


@bench.command("dilation")
def bench_dilation(
    output: Output = Path("runs/bench-dilation"),
    as_json: AsJson = False,
) -> None:
    """The same experiment at dilations of 1, 0.2 and 4. Exit 1 if a latency differs by more than 5 %."""
    _enter_sandbox()
    from experiments.bench import dilation

    rows = dilation.run(output)
    dilation.write(rows, output)
    end_bench(dilation.to_json(rows), dilation.markdown(rows), dilation.holds(rows), as_json)


@bench.command("transport")
def bench_transport(
    overrides: Overrides = None,
    link: Annotated[
        list[str] | None,
        typer.Option(metavar="RATE/DELAY", help="A link instead of the usual five, such as 10mbit/25ms."),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds on a link; slow ones get two at most.")] = 3,
    peers: Annotated[
        bool, typer.Option("--peers", help="Flower beside it, as make peers installs it.")
    ] = False,
    peer_link: Annotated[
        list[str] | None,
        typer.Option(metavar="RATE/DELAY", help="A link for Flower instead of 10mbit/25ms."),
    ] = None,
    output: Output = Path("runs/bench-transport"),
    as_json: AsJson = False,
) -> None:
    """An adapter down and up over clean links, against what physics allows. Exit 1 if a target is missed."""
    if peers:
        from experiments.bench.transport_peers import check_installed

        check_installed()
    _enter_sandbox()
    from experiments.bench import transport

    result = transport.run(
        output,
        links=link or transport.LINKS,
        rounds=rounds,
        peers=(peer_link or transport.PEER_LINKS) if peers else (),
        overrides=overrides or [],
    )
    transport.write(result, output)
    end_bench(result.to_json(), (output / "transport.md").read_text(), result.holds, as_json)


@bench.command("codecs")
def bench_codecs(
    codec: Annotated[list[str] | None, typer.Option(metavar="CODEC", help="Instead of the usual.")] = None,
    output: Output = Path("runs/bench-codecs"),
    as_json: AsJson = False,
) -> None:
    """Rate, error, bias and time of every codec, beside Shannon's bound. Exit 1 if a target is missed."""
    from experiments.bench import codecs

    result = codecs.run(codec or codecs.CODECS)
    codecs.write(result, output)
    end_bench(result.to_json(), (output / "codecs.md").read_text(), result.holds, as_json)


@bench.command("scale")
def bench_scale(
    devices: Annotated[
        str, typer.Option(metavar="N,N", help="How many devices, a run each.")
    ] = "4,16,50,100",
    output: Output = Path("runs/bench-scale"),
    as_json: AsJson = False,
) -> None:
    """Start time, memory, wall time and latency with ever more devices. Exit 1 if a target is missed."""
    from experiments.bench import scale, scale_tables

    sizes = scale.sizes(devices)
    _enter_sandbox()

    rows = []
    for row in scale.run(output, sizes):
        rows.append(row)
        scale_tables.write(rows, output)
    end_bench(scale_tables.to_json(rows), scale_tables.markdown(rows), scale.holds(rows), as_json)


bench.command("compression")(bench_compression)


def _experiment(file: Path, overrides: list[str] | None) -> Experiment:
    return config.load(file, overrides or [])


def _enter_sandbox(experiment: Experiment | None = None) -> None:
    """Run this same command again inside a sandbox, unless this is that; remote devices need a way in."""
    if not sandbox.inside():
        inherit = remote.listen(experiment) if experiment else {}
        raise typer.Exit(sandbox.run([sys.executable, "-m", "experiments.cli", *sys.argv[1:]], inherit))
    interruptible()


def _print_result(result: Result) -> None:
    """The rounds, whether they can be trusted, and where everything is."""
    from experiments import privacy
    from experiments.run import describe

    table = Table("round", "latency s", "bound s", "devices", "payload down/up MB", "wire down/up MB")
    for row in result.rounds.to_dict("records"):
        table.add_row(
            str(row["round"]),
            f"{row['latency_s']:.3f}",
            f"{row['bound_s']:.3f}" if row["bound_s"] is not None else "-",
            f"{row['clients_finished']}/{row['cohort']}",
            f"{row['payload_down_bytes'] / 1e6:.3f} / {row['payload_up_bytes'] / 1e6:.3f}",
            f"{row['wire_down_bytes'] / 1e6:.3f} / {row['wire_up_bytes'] / 1e6:.3f}",
        )
    Console().print(table)
    missed = [check for check in result.checks if check.passed is False]
    print(f"calibration: {len(result.checks) - len(missed)} of {len(result.checks)} checks without a miss")
    for check in missed:
        print(f"  MISS {describe(check)}")
    for line in privacy.lines(result.privacy) if result.privacy else []:
        print(line)
    for warning in result.warnings:
        print(f"warning: {warning}")
    print_invalid(result.invalid_reasons)
    print(f"{'valid' if result.valid else 'INVALID'} run: {result.run_dir}")


def main() -> None:
    """Entry point of `fedcell`."""
    try:
        app()
    except KeyboardInterrupt:
        print("fedcell: interrupted", file=sys.stderr, flush=True)
        os._exit(130)
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in _OURS:
            raise  # Our errors have names and are meant to be read; any other is a defect.
        print(f"fedcell: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2 if getattr(error, "wrong_input", True) else 1)


_OURS = ("proto", "server", "client", "emulation", "experiments")


if __name__ == "__main__":
    main()
