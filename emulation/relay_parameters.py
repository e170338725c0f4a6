"""Links as the relay process takes them: one JSON document for every path, on a server with its air's others.

A path is one direction of a link. Paths whose links have equal `air` stand on one server, in each direction
one, which may be empty where links only roam to it; all others, and those whose share of the airtime is
fixed, on servers of their own.

What many paths have in common, traces and tables of jitter, is sent once and named by number.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from emulation.backend import Direction, LinkEnds
from emulation.link import AccessLink, Air, LinkChange, LinkError, LinkSpec

_HIGHEST_BPS = 1e9
_LEAST_OUTAGE_S = 1e-3
_LONGEST_S = 3600
_MESSAGE = struct.Struct("=III4x4d")  # relay.c: message_t
_ASK_COUNTERS, _CHANGE, _ASK_MACHINE = 0, 1, 2
_NO_SERVER = 0xFFFFFFFF

Servers = list[tuple[str, list[dict[str, Any]]]]
"""(scheduler, its paths' parameters), as relay.c's run() takes them."""
Cells = dict[tuple[Air, str], int]
"""An air, "up" or "down" -> the number of its server."""


def refuse(link: AccessLink) -> None:
    """Raise LinkError, naming the link, for what the relay cannot put in force."""
    if link.roams and (link.air is None or "fixed" in {link.air.scheduler} | _schedulers(link)):
        raise LinkError(f"{link.device}: roams, and has no air or a fixed share of one: 1/n of how many?")
    if link.air is not None and not _schedulers(link) <= {link.air.scheduler}:
        raise LinkError(f"{link.device}: roams to airs of another scheduler than {link.air.scheduler}")
    for direction, spec in (("up", link.up), ("down", link.down)):
        where, outages, table, trace = (
            f"{link.device} {direction}",
            spec.outages,
            spec.jitter_table,
            spec.trace,
        )
        if not 1 <= spec.rate_bps <= _HIGHEST_BPS:
            # A frame then takes no longer than the relay's own time for it, a few microseconds.
            raise LinkError(f"{where}: {spec.rate_bps:g} bit/s; relay: at least 1, at most {_HIGHEST_BPS:g}")
        if outages and min(outages.mean_up_s, outages.mean_down_s) < _LEAST_OUTAGE_S:
            raise LinkError(
                f"{where}: outages every {outages.mean_up_s:g} s of {outages.mean_down_s:g} s; "
                f"relay: means of at least {_LEAST_OUTAGE_S:g} s"
            )
        if table is not None and (len(table) < 2 or not all(map(math.isfinite, table))):
            raise LinkError(f"{where}: a table of jitter needs two finite quantiles at least")
        if trace is None:
            continue
        if link.air is not None:
            raise LinkError(
                f"{where}: trace {trace.name} says when this link alone may send; "
                f"it cannot share the air of {link.air.name!r}"
            )
        times = trace.deliveries_ms
        if not times or times[-1] <= 0 or times[0] < 0 or list(times) != sorted(times):
            raise LinkError(f"{where}: trace {trace.name} does not ascend to a period above 0 ms")


def _schedulers(link: AccessLink) -> set[str]:
    return {air.scheduler for air in link.roams}


def shares(links: Sequence[AccessLink]) -> Mapping[Air | None, int]:
    """How many links have each air."""
    return Counter(link.air for link in links)


def describe(ends: Sequence[LinkEnds], seed: int) -> tuple[bytes, list[Direction], Cells]:
    """The JSON document for the relay process, the directions in the order of its path numbers, and the
    numbers of the servers that paths can be moved to."""
    members = shares([end.link for end in ends])
    servers: dict[Any, tuple[str, list[dict[str, Any]]]] = {}
    tables: dict[tuple[Any, ...], int] = {}
    directions: dict[Any, list[Direction]] = {}
    for end in ends:
        assert end.taps is not None, "the relay's wires are TAPs"
        link, air = end.link, end.link.air
        fixed = air is not None and air.scheduler == "fixed"
        device, access = end.taps
        for direction, spec, taps in (("up", link.up, end.taps), ("down", link.down, (access, device))):
            alone = air is None or fixed
            key = (link.device, direction) if alone else (air, direction)
            scheduler = "round_robin" if air is None or fixed else air.scheduler
            path = _document(spec, members[air] if fixed else 1, tables)
            path |= {"in": taps[0], "out": taps[1], "seed": _seed(seed, link.device, direction)}
            servers.setdefault(key, (scheduler, []))[1].append(path)
            directions.setdefault(key, []).append((link.device, direction))
            for other in link.roams:
                servers.setdefault((other, direction), (other.scheduler, []))
    document = {"servers": list(servers.values()), "tables": list(tables)}
    return (
        json.dumps(document).encode(),
        [way for key in servers for way in directions.get(key, [])],
        {key: number for number, key in enumerate(servers) if isinstance(key[0], Air)},
    )


def _document(spec: LinkSpec, share: int, tables: dict[tuple[Any, ...], int]) -> dict[str, Any]:
    """One path's parameters; `share` of how many alike its rate is one."""
    document: dict[str, Any] = {
        "rate_bps": spec.rate_bps / share,
        "delay_s": spec.delay_s,
        "jitter_s": spec.jitter_s,
        "loss": spec.loss,
        "loss_burst": spec.loss_burst,
        "duplicate": spec.duplicate,
        "corrupt": spec.corrupt,
        "queue_bytes": spec.queue_bytes,
        "queue_frames": spec.queue_frames,
        "codel": int(spec.aqm == "codel"),
    }
    if spec.outages is not None:
        document |= {"mean_up_s": spec.outages.mean_up_s, "mean_down_s": spec.outages.mean_down_s}
    if spec.jitter_table is not None:
        document["jitter_table"] = tables.setdefault(spec.jitter_table, len(tables))
    if spec.trace is not None:
        document["trace_ms"] = tables.setdefault(spec.trace.deliveries_ms, len(tables))
    return document


def unpack(document: bytes) -> Servers:
    """What `describe` wrote, as relay.c's run() takes it."""
    described = json.loads(document)
    for _, paths in described["servers"]:
        for path in paths:
            if "jitter_table" in path:
                path["jitter_table"] = array("d", described["tables"][path["jitter_table"]]).tobytes()
            if "trace_ms" in path:
                times = described["tables"][path.pop("trace_ms")]
                path["trace_ns"] = array("q", (ms * 1_000_000 for ms in times)).tobytes()
    return [(scheduler, paths) for scheduler, paths in described["servers"]]


def question(path: int) -> bytes:
    """The message that asks for a path's counters."""
    return _MESSAGE.pack(_ASK_COUNTERS, path, _NO_SERVER, *[math.nan] * 4)


def machine_question() -> bytes:
    """The message that asks how the machine treats the relay."""
    return _MESSAGE.pack(_ASK_MACHINE, 0, _NO_SERVER, *[math.nan] * 4)


def order(path: int, change: LinkChange, share: int = 1, server: int | None = None) -> bytes:
    """The message that changes a path, and has it stand on another `server` from then on."""
    rate = None if change.rate_bps is None else change.rate_bps / share
    values = (rate, change.delay_s, change.loss, change.up)
    numbers = (math.nan if value is None else float(value) for value in values)
    return _MESSAGE.pack(_CHANGE, path, _NO_SERVER if server is None else server, *numbers)


def refuse_change(link: AccessLink, direction: str, change: LinkChange) -> None:
    """Raise LinkError, naming the direction, for a change that a link cannot make."""
    where, highest_loss = f"{link.device} {direction}", 1.0
    spec = link.up if direction == "up" else link.down
    if change.air is not None and change.air not in (link.air, *link.roams):
        raise LinkError(f"{where}: does not roam to the air of {change.air.name!r}")
    if spec.loss_burst > 1:
        highest_loss = spec.loss_burst / (spec.loss_burst + 1)
    if change.rate_bps is not None and spec.trace is not None:
        raise LinkError(f"{where}: its rate is what trace {spec.trace.name} says, and cannot change")
    if change.rate_bps is not None and not 1 <= change.rate_bps <= _HIGHEST_BPS:
        raise LinkError(
            f"{where}: a rate of {change.rate_bps:g} bit/s; relay: at least 1, at most {_HIGHEST_BPS:g} "
            "(a link that is down is up=False)"
        )
    if change.delay_s is not None and not 0 <= change.delay_s <= _LONGEST_S:
        raise LinkError(f"{where}: a delay of {change.delay_s:g} s is not in 0..{_LONGEST_S}")
    if change.loss is not None and not (0 <= change.loss < 1 and change.loss <= highest_loss):
        raise LinkError(
            f"{where}: a loss of {change.loss:g} in bursts of {spec.loss_burst:g} is not in "
            f"0..{highest_loss:.3g}"
        )


def _seed(seed: int, device: str, direction: str) -> int:
    """A stream of its own for every direction, the same in every run of one seed."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{device}/{direction}".encode(), digest_size=8).digest())
