"""A user's own Mininet file, as `mn --custom` takes it, read as a graph of links that we put in force.

The file has a dictionary `topos = {'name': class or function}`. Links have TCLink's options, in its units;
what an option would do that is not known here is never guessed: it is refused by name.
"""

from __future__ import annotations

import math
import re
import runpy
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from mininet.topo import Topo
from mininet.util import splitArgs

from emulation.link import FRAME_BYTES, AccessLink, LinkSpec
from emulation.topologies.graph import SERVER, Edge, Graph, Routing, TopologyError

_MININET_QUEUE = 1000
"""Packets that Mininet's netem holds without max_queue_size."""
_KNOWN = ("bw", "delay", "jitter", "loss", "max_queue_size")
_BOOKKEEPING = {"node1", "node2", "port1", "port2"}
_CLASSES = {"Link", "TCLink"}
_SECONDS = {
    unit: scale
    for units, scale in (
        ("s sec secs", 1.0),
        ("ms msec msecs", 1e-3),
        ("us usec usecs", 1e-6),
    )
    for unit in units.split()
}


def load(where: str, devices: Sequence[str], *, routing: Routing = "delay") -> Graph:
    """The network of `path/to/file.py:name`, or `...:name,argument,key=value`, as `mn --topo` takes it.

    `devices` are the hosts that it must have besides `server`, no more and no fewer. Raises TopologyError,
    naming file and cause.
    """
    file, _, call = where.rpartition(":")
    try:
        topo = _topo(Path(file), call)
        return _graph(topo, devices, routing)
    except TopologyError as error:
        raise TopologyError(f"{file}: {error}") from error


def _topo(file: Path, call: str) -> Topo:
    name, arguments, options = splitArgs(call)
    if not file.is_file():
        raise TopologyError("there is no such file")
    with redirect_stdout(sys.stderr):  # Standard output is for results.
        try:
            topos = runpy.run_path(str(file)).get("topos")
        except (Exception, SystemExit) as error:
            raise TopologyError(_cause(error)) from error
        if not isinstance(topos, dict) or not topos:
            raise TopologyError("it has no topos = {'name': class or function}")
        if name not in topos:
            raise TopologyError(f"its topos have no {name!r}, only {', '.join(map(repr, topos))}")
        try:
            topo = topos[name](*arguments, **options)
        except (Exception, SystemExit) as error:
            raise TopologyError(f"{name}: {_cause(error)}") from error
    if not isinstance(topo, Topo):
        raise TopologyError(f"{name} makes a {type(topo).__name__}, not a Mininet Topo")
    return topo


def _cause(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _graph(topo: Topo, devices: Sequence[str], routing: Routing) -> Graph:
    for node in topo.nodes():
        # A switch's dpid is its name to a controller, and there is none.
        options = set(topo.nodeInfo(node)) - {"isSwitch", "dpid"}
        if options:
            raise TopologyError(f"{node}: its {sorted(options)[0]} cannot be put in force here: leave it out")
    hosts = topo.hosts()
    if SERVER not in hosts:
        raise TopologyError(f"it has no host named {SERVER}; hosts: {', '.join(hosts) or 'none'}")
    for device in devices:
        if device not in hosts:
            raise TopologyError(f"it has no host {device}, which the configuration asks for")
    for host in hosts:
        if host != SERVER and host not in devices:
            raise TopologyError(
                f"its host {host} is no device of the configuration: {devices[0]} to {devices[-1]}"
            )
    bare = Graph(
        tuple(devices),
        tuple(topo.switches()),
        tuple(Edge(node1, node2) for node1, node2 in topo.links(sort=True)),
        "hops",
    )
    edges = [_edge(bare, node1, node2, info) for node1, node2, info in topo.links(sort=True, withInfo=True)]
    graph = Graph(tuple(devices), tuple(topo.switches()), tuple(edges), routing)
    for device in devices:
        graph.access(device)
    return graph


def _edge(graph: Graph, node1: str, node2: str, info: Mapping[str, Any]) -> Edge:
    """A link, upwards to the end that is nearer to the server; between equals, from the first to the second.

    A device's is called after it, any other after both its ends.
    """
    farther = graph.hops(node1) >= graph.hops(node2)
    lower, upper = (node1, node2) if farther else (node2, node1)
    name = lower if lower in graph.devices else f"{lower}-{upper}"
    common = {key: value for key, value in info.items() if key not in ("params1", "params2")}
    there = common | dict(info.get("params1") or {})
    back = common | dict(info.get("params2") or {})
    up, down = (there, back) if lower == node1 else (back, there)
    specs = [
        _spec(f"link {name}", {key: value for key, value in options.items() if key not in _BOOKKEEPING})
        for options in (up, down)
    ]
    if specs == [None, None]:
        return Edge(lower, upper)
    for direction, spec in zip(("up", "down"), specs, strict=True):
        if spec is None:
            raise TopologyError(f"link {name}: shaped in one direction only; its {direction} needs a bw too")
    assert specs[0] is not None and specs[1] is not None
    return Edge(lower, upper, AccessLink(name, up=specs[0], down=specs[1]))


def _spec(where: str, options: Mapping[str, Any]) -> LinkSpec | None:
    """TCLink's options as a LinkSpec: bw in Mbit/s, times with a unit, loss in %, the queue in packets."""
    for key, value in options.items():
        if key == "cls" and getattr(value, "__name__", "") in _CLASSES:
            continue
        if key not in _KNOWN:
            what = getattr(value, "__name__", value)
            raise TopologyError(f"{where}: {key}={what} is not understood; options: {', '.join(_KNOWN)}")
    given = {key: options[key] for key in _KNOWN if options.get(key) is not None}
    if not given:
        return None
    if "bw" not in given:
        raise TopologyError(f"{where}: {', '.join(given)} without bw: a link that is shaped needs a rate")
    if given.get("jitter") is not None and "delay" not in given:
        raise TopologyError(f"{where}: jitter without a delay to vary")
    rate_bps = 1e6 * _number(where, "bw", given["bw"], "10 (Mbit/s)")
    packets = _number(where, "max_queue_size", given.get("max_queue_size", _MININET_QUEUE), "100 (packets)")
    loss = _number(where, "loss", given.get("loss", 0), "1 (percent)") / 100
    if rate_bps <= 0:
        raise TopologyError(f"{where}: bw={given['bw']} is not above 0")
    if loss >= 1:
        raise TopologyError(f"{where}: loss={given['loss']}: at 100 % nothing ever arrives")
    if packets < 1 or packets != int(packets):
        raise TopologyError(f"{where}: max_queue_size={given['max_queue_size']} is no number of packets")
    return LinkSpec(
        rate_bps=rate_bps,
        delay_s=_seconds(where, "delay", given.get("delay", "0ms")),
        jitter_s=_seconds(where, "jitter", given.get("jitter", "0ms")),
        loss=loss,
        queue_bytes=int(packets) * FRAME_BYTES,
        queue_frames=int(packets),
    )


def _number(where: str, key: str, value: object, example: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise TopologyError(f"{where}: {key}={value!r} is no number from 0 on; write for example {example}")
    return float(value)


def _seconds(where: str, key: str, value: object) -> float:
    """tc's time with its unit; tc takes a bare number for microseconds, which nobody means."""
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([a-z]*)\s*", str(value))
    if match is None or isinstance(value, bool):
        raise TopologyError(f"{where}: {key}={value!r} is no time; write for example '5ms'")
    if match[2] not in _SECONDS and not (not match[2] and float(match[1]) == 0):
        raise TopologyError(f"{where}: {key}={value!r} has no unit (s, ms, us); write for example '5ms'")
    return float(match[1]) * _SECONDS.get(match[2], 0.0)
