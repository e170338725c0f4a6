"""The built-in shapes: a cell, cells behind edge nodes, and a mesh of access points.

The server's own wire is always plain, so that what comes down a link is shaped one hop away from its
sender; what goes up is taken from its sender at once and shaped after that.
"""

from __future__ import annotations

from collections.abc import Sequence

from emulation.link import AccessLink
from emulation.topologies.graph import SERVER, Edge, Graph, Routing, TopologyError

CELL, CORE = "cell", "core"
Attached = tuple[str, AccessLink]
"""Where a device is, and its link to there."""
Radio = tuple[str, str, AccessLink]
"""Two access points, and the link upwards from the first to the second."""


def cell(links: Sequence[AccessLink]) -> Graph:
    """A star: `server` and each link's device around the access node `cell`."""
    return _graph(CELL, [], (CELL,), [(CELL, link) for link in links])


def multicell(backhauls: Sequence[AccessLink], devices: Sequence[Attached]) -> Graph:
    """Edge nodes, each with a cell of devices, and each behind a backhaul link to the server's `core`.

    `backhauls` one per edge node, of its name. An edge node only forwards; it is the place where
    aggregation at the edge would run.
    """
    edges = [Edge(link.device, CORE, link) for link in backhauls]
    return _graph(CORE, edges, tuple(edge.lower for edge in edges), devices)


def mesh(
    radios: Sequence[Radio], devices: Sequence[Attached], *, gateway: str, routing: Routing = "delay"
) -> Graph:
    """Access points joined by radio links, each with a cell of devices; the server hangs on `gateway`.

    A radio link is no part of a cell's air: access points talk to each other on channels of their own.
    """
    points = tuple(dict.fromkeys(point for radio in radios for point in radio[:2]))
    if gateway not in points:
        raise TopologyError(
            f"gateway {gateway}: no radio link ends there; access points: {', '.join(points)}"
        )
    return _graph(gateway, [Edge(*radio) for radio in radios], points, devices, routing)


def _graph(
    gateway: str,
    between: Sequence[Edge],
    places: tuple[str, ...],
    devices: Sequence[Attached],
    routing: Routing = "delay",
) -> Graph:
    """What the shapes share: the server at `gateway`, devices at `places`, links between the switches."""
    for place, link in devices:
        if place not in places:
            raise TopologyError(f"{link.device} is at {place}, which is none of {', '.join(places)}")
    attached = [Edge(link.device, place, link) for place, link in devices]
    return Graph(
        devices=tuple(edge.lower for edge in attached),
        switches=tuple(dict.fromkeys((gateway, *places))),
        edges=(Edge(SERVER, gateway), *between, *attached),
        routing=routing,
    )
