"""transport.md: the bench's rounds as tables to read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from experiments.bench.links_tables import markdown_table
from experiments.bench.transport_rows import GROUPS, Row
from experiments.timeline import PHASES

_EXPLANATION = """\
An fp32 vector goes down to one device and up again; nothing is computed. Bound: payload * 8 / rate *
1514/1448 both ways and twice the propagation. Wire: the device's interface counters, opposite
acknowledgements included, as a multiple of the payload. Frames' headers are captured at both hosts, whatever
the system."""

_CAUSES = """\
Milliseconds beyond the bound, from the events and from the frames captured at both ends; all of them are in a
column. *Windows*: the link was idle until something came back that let the sender go on: TCP's windows (slow
start, a loss) and HTTP/2's. *Pauses*: idle for another reason: the sender had nothing to send or did not get
to it. *Framing*: other bytes on the link, HTTP/2's above all. *Server*, *device*: between the last byte and
the next first one: encoding, decoding, adding, averaging, and hand-overs between processes."""


def markdown(document: dict[str, Any], rows: Sequence[Row]) -> str:
    """The whole file."""
    machine = document["machine"]
    parts = [
        "# Transport: latency of a round against its bound",
        _EXPLANATION,
        f"{machine['cores']} cores ({machine['cpu']}), Linux {machine['kernel']}, {machine['date']}; "
        f"{document['took_s'] / 60:.0f} minutes.",
        summary(rows),
        *_targets(document),
        *_troubles(document),
        "## Every round\n\n" + _rounds(rows),
        "## Beyond the bound\n\n" + _CAUSES + "\n\n" + _beyond(rows),
        "## Phases\n\nSeconds; see the README for what each is.\n\n" + _phases(rows),
    ]
    return "\n\n".join(parts) + "\n"


def summary(rows: Sequence[Row]) -> str:
    """A line for each system and link: the first round beside the worst later one."""
    lines = []
    for one in _systems(rows):
        first = [row for row in one if row.round == 1]
        later = [row for row in one if row.round > 1]
        cells = [_latency(max(some, key=lambda row: row.ratio)) if some else "–" for some in (first, later)]
        wires = [max(wire) for wire in zip(*map(_wires, one), strict=True)]
        bound = f"{one[0].bound_s:.3f} s"
        lines.append([*_name(one[0]), bound, *cells, *(f"{wire:.3f}" for wire in wires)])
    head = ["system", "tensors", "link", "initial window", "bound", "first round", "later rounds"]
    return markdown_table([*head, "wire down", "wire up"], lines)


def _latency(row: Row) -> str:
    return f"{row.latency_s:.3f} s ({row.ratio:.3f}){'' if row.valid else ' INVALID'}"


def _targets(document: dict[str, Any]) -> Iterable[str]:
    lines = []
    for one in document["targets"]:
        measured = [
            f"{name} {one[key]:.3f} (at most {one[f'{key}_target']:g})"
            for key, name in (("first", "first round"), ("later", "later rounds"), ("wire", "wire"))
            if one[key] is not None
        ]
        verdict = "met" if one["met"] else "MISSED" if one["valid"] else "INVALID run"
        lines.append(f"- {one['link']}, {one['settings']}: {', '.join(measured)}: {verdict}")
    if lines:
        yield "## Targets\n\n" + "\n".join(lines)


def _troubles(document: dict[str, Any]) -> Iterable[str]:
    if document["failures"]:
        yield "## Failed\n\n" + "\n".join(f"- {line}" for line in document["failures"])
    if document["repeated"]:
        shown = (line.partition(";")[0] for line in document["repeated"])  # All of it is in the JSON.
        yield "## Measured again\n\nInvalid, and thrown away:\n\n" + "\n".join(f"- {line}" for line in shown)


def _rounds(rows: Sequence[Row]) -> str:
    lines = []
    for row in rows:
        again = (row.retransmitted_down_segments, row.retransmitted_up_segments)
        retransmitted = " / ".join("–" if count is None else str(count) for count in again)
        wires = (f"{wire:.3f}" for wire in _wires(row))
        times = (f"{row.latency_s:.3f} s", f"{row.bound_s:.3f} s", f"{row.ratio:.3f}")
        verdict = "" if row.valid else "INVALID"
        lines.append([*_name(row), str(row.round), *times, *wires, retransmitted, verdict])
    head = ["system", "tensors", "link", "initial window", "round", "latency", "bound", "ratio"]
    return markdown_table([*head, "wire down", "wire up", "retransmitted down / up", ""], lines)


def _beyond(rows: Sequence[Row]) -> str:
    lines = []
    for row in rows:
        groups = row.grouped()
        cells = [f"{groups[name] * 1e3:.1f}" if groups else "–" for name in GROUPS]
        beyond = f"{(row.latency_s - row.bound_s) * 1e3:.1f}"
        lines.append([*_name(row), str(row.round), beyond, f"{row.ratio - 1:+.1%}", *cells])
    head = ["system", "tensors", "link", "initial window", "round", "beyond", "of the bound", *GROUPS]
    return markdown_table(head, lines)


def _phases(rows: Sequence[Row]) -> str:
    lines = [[*_name(row), str(row.round), *(f"{row.phases[p]:.3f}" for p in PHASES)] for row in rows]
    return markdown_table(["system", "tensors", "link", "initial window", "round", *PHASES], lines)


def _systems(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows by system, tensors and case."""
    found: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(_name(row)), []).append(row)
    return list(found.values())


def _name(row: Row) -> list[str]:
    window = row.initial_window
    return [row.system, str(row.tensors), row.case.link, "kernel's" if window is None else str(window)]


def _wires(row: Row) -> tuple[float, float]:
    """Down, up."""
    return row.wire_down_bytes / row.payload_bytes, row.wire_up_bytes / row.payload_bytes
