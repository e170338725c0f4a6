"""`fedcell report`: a run's folder in, one HTML page out."""

from __future__ import annotations

from pathlib import Path

from experiments.report import about, libraries, network, sections, series
from experiments.report.page import Section, page
from experiments.report.read import RunFolder, read_run
from experiments.whole_file import write_whole

_HERE = Path(__file__).parent


def write_report(run_dir: Path, output: Path | None = None) -> Path:
    """Write the report of `run_dir` to `output`, by default its report.html; whole or not at all.

    Raises NotARunError and LibraryError, and OSError where it cannot be written.
    """
    html = render(read_run(run_dir))
    path = output or run_dir / "report.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, html)
    return path


def render(run: RunFolder) -> str:
    """The page as text."""
    charts = [(_HERE / name).read_text() for name in ("charts.js", "timeline.js")]
    return page(
        run.name,
        contents(run),
        kicker="fedcell run",
        lead=about.lead(run),
        badge="" if run.valid else "INVALID",
        scripts=[*libraries.read_all(), *charts],
        data=series.chart_data(run),
    )


def contents(run: RunFolder) -> list[Section]:
    """What there is to say, in the order in which one asks."""
    found = [
        Section("What was run", about.setup(run)),
        network.calibration(run),
        sections.timeline(run),
    ]
    if run.ended and not run.tables["clients"].empty:
        found += [sections.latency(run), sections.traffic(run)]
    if (learned := sections.learning(run)) is not None:
        found.append(learned)
    found.append(
        network.links(
            run, sections.chart("channel", "Rate and SNR over time") if "channel" in run.tables else ""
        )
    )
    found.append(Section("How to repeat it", about.reproduce(run)))
    found.append(
        Section("Manifest", about.manifest(run), note="All that is on record of the run.", folded=True)
    )
    return found
