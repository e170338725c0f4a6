"""A network as a graph: hosts, switches, what joins them, and which way frames go.

Frames follow shortest paths, worked out here once and given to the switches as fixed entries: nothing is
learnt or flooded, so loops do no harm and no spanning tree is needed.
"""

from __future__ import annotations

import heapq
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

from emulation.link import AccessLink, LinkError, LinkSpec

SERVER = "server"
Routing = Literal["delay", "hops"]

# Linux allows an interface 15 characters: "-eth0" takes 5 of a host's, "-eth999" 7 of a switch's.
_HOST, _SWITCH = re.compile(r"[a-z][a-z0-9]{0,9}"), re.compile(r"[A-Za-z][A-Za-z0-9_]{0,7}")


class TopologyError(LinkError, ValueError):
    """A network that cannot be; the message names the node, the link or the file."""


@dataclass(frozen=True)
class Edge:
    """What joins two nodes: a link, upwards from `lower` to `upper`, or with None a plain wire."""

    lower: str
    upper: str
    link: AccessLink | None = None

    def other(self, node: str) -> str:
        """The node at the other end."""
        return self.upper if node == self.lower else self.lower

    def spec(self, sender: str) -> LinkSpec | None:
        """What holds for frames from `sender` to the other end; None: a plain wire."""
        if self.link is None:
            return None
        return self.link.up if sender == self.lower else self.link.down


@dataclass(frozen=True)
class Graph:
    """A connected network of `server`, devices and switches; raises TopologyError if it is not one.

    Every host hangs on one switch. `routing` takes the way of the least delay, or of the fewest links;
    where two are equal the fewest links, then the names decide.
    """

    devices: tuple[str, ...]
    switches: tuple[str, ...]
    edges: tuple[Edge, ...]
    routing: Routing = "delay"

    def __post_init__(self) -> None:
        times = Counter(self.nodes)
        for names, pattern, what in ((self.devices, _HOST, "device"), (self.switches, _SWITCH, "switch")):
            for name in names:
                if not pattern.fullmatch(name) or times[name] > 1:
                    raise TopologyError(
                        f"{name!r} cannot name a {what}: {pattern.pattern}, each name once in a network"
                    )
        self._check_edges()
        core = self.switch_of(SERVER)
        for node in self.switches:
            if node != core and node not in self._trees(core):
                raise TopologyError(f"{node} is not connected to {SERVER}")

    def _check_edges(self) -> None:
        pairs: set[frozenset[str]] = set()
        names: set[str] = set()
        nodes, switches = set(self.nodes), set(self.switches)
        for edge in self.edges:
            pair = frozenset((edge.lower, edge.upper))
            for node in (edge.lower, edge.upper):
                if node not in nodes:
                    raise TopologyError(f"a link of {edge.lower} and {edge.upper}: there is no {node}")
            if len(pair) == 1:
                raise TopologyError(f"{edge.lower} is linked to itself")
            if pair in pairs:
                raise TopologyError(f"{edge.lower} and {edge.upper} are linked twice")
            if not pair & switches:
                raise TopologyError(f"{edge.lower} and {edge.upper} are linked without a switch between them")
            pairs.add(pair)
            if edge.link is not None:
                name = edge.link.device
                if name in names:
                    raise TopologyError(f"two links are called {name}")
                names.add(name)
        ends = Counter(node for edge in self.edges for node in (edge.lower, edge.upper))
        for host in self.hosts:
            if (number := ends[host]) != 1:
                raise TopologyError(f"{host} has {number} links: a host has one, to a switch")

    @property
    def hosts(self) -> tuple[str, ...]:
        """`server` first."""
        return (SERVER, *self.devices)

    @property
    def nodes(self) -> tuple[str, ...]:
        return (*self.hosts, *self.switches)

    @property
    def links(self) -> tuple[AccessLink, ...]:
        """Every link that is shaped, devices' first."""
        shaped = [edge for edge in self.edges if edge.link]
        shaped.sort(key=lambda edge: edge.lower in self.switches)
        return tuple(edge.link for edge in shaped if edge.link)

    @cached_property
    def _edge_of(self) -> dict[str, Edge]:
        """Every host's one edge."""
        hosts = set(self.hosts)
        return {node: edge for edge in self.edges for node in (edge.lower, edge.upper) if node in hosts}

    @cached_property
    def _between(self) -> dict[str, list[Edge]]:
        """Every switch's edges to other switches, by their names."""
        between: dict[str, list[Edge]] = {switch: [] for switch in self.switches}
        for edge in self.edges:
            if edge.lower in between and edge.upper in between:
                between[edge.lower].append(edge)
                between[edge.upper].append(edge)
        return {node: sorted(edges, key=lambda e: e.other(node)) for node, edges in between.items()}

    @cached_property
    def _tree_of(self) -> dict[str, dict[str, Edge]]:
        return {}

    @cached_property
    def _edge_by_name(self) -> dict[str, Edge]:
        return {edge.link.device: edge for edge in self.edges if edge.link}

    def edge_of(self, link: AccessLink) -> Edge:
        """Where a link is."""
        return self._edge_by_name[link.device]

    def switch_of(self, node: str) -> str:
        """What a host hangs on; a switch itself."""
        return self._edge_of[node].other(node) if node in self._edge_of else node

    def wired_to(self, switch: str) -> str | None:
        """A host that hangs on a switch by a plain wire, if there is one."""
        for host, edge in self._edge_of.items():
            if edge.link is None and edge.other(host) == switch:
                return host
        return None

    def _trees(self, root: str) -> dict[str, Edge]:
        """Each switch's next edge on its way to the switch `root` (Dijkstra 1959, from the root on)."""
        if root not in self._tree_of:
            found: dict[str, Edge] = {}
            reached: set[str] = set()
            heap: list[tuple[float, int, str, str]] = [(0.0, 0, "", root)]
            while heap:
                delay_s, hops, after, node = heapq.heappop(heap)
                if node in reached:
                    continue
                reached.add(node)
                for edge in self._between[node]:
                    sender = edge.other(node)
                    if sender == after:
                        found[node] = edge
                    elif sender not in reached:
                        spec = edge.spec(sender)
                        cost = spec.delay_s if spec and self.routing == "delay" else 0.0
                        heapq.heappush(heap, (delay_s + cost, hops + 1, node, sender))
            self._tree_of[root] = found
        return self._tree_of[root]

    def next_edge(self, node: str, destination: str) -> Edge:
        """The edge that a frame at `node` takes to `destination`, another node."""
        if node in self._edge_of:
            return self._edge_of[node]
        root = self.switch_of(destination)
        return self._edge_of[destination] if node == root else self._trees(root)[node]

    def hops(self, node: str) -> int:
        """How many edges a node is away from the server."""
        return len(self._nodes(node, SERVER)) - 1

    def path(self, source: str, destination: str) -> list[LinkSpec]:
        """What frames from one node to another pass, shaped links only, in order."""
        nodes = self._nodes(source, destination)[:-1]
        specs = [self.next_edge(node, destination).spec(node) for node in nodes]
        return [spec for spec in specs if spec is not None]

    def describe(self) -> dict[str, Any]:
        """As JSON: switches, what joins nodes (bit/s, s, bytes), and each device's way up and down."""
        edges = []
        for edge in self.edges:
            described: dict[str, Any] = {"lower": edge.lower, "upper": edge.upper, "link": None}
            if edge.link is not None:
                described["link"] = edge.link.device
                for direction, spec in (("up", edge.link.up), ("down", edge.link.down)):
                    simple = {
                        key: value for key, value in vars(spec).items() if isinstance(value, int | float)
                    }
                    described[direction] = simple
            edges.append(described)
        ways = {d: {"up": self._nodes(d, SERVER), "down": self._nodes(SERVER, d)} for d in self.devices}
        return {"switches": list(self.switches), "routing": self.routing, "edges": edges, "ways": ways}

    def _nodes(self, source: str, destination: str) -> list[str]:
        nodes = [source]
        while nodes[-1] != destination:
            nodes.append(self.next_edge(nodes[-1], destination).other(nodes[-1]))
        return nodes

    def change_links(self, change: Callable[[AccessLink], AccessLink]) -> Graph:
        """The same graph with other links in its places."""
        edges = tuple(replace(edge, link=edge.link and change(edge.link)) for edge in self.edges)
        return replace(self, edges=edges)

    def access(self, device: str) -> AccessLink:
        """A device's ways to the server and back, each as if it were one link.

        Raises TopologyError if one of them is of plain wires only: it has no rate.
        """
        ways = self.path(device, SERVER), self.path(SERVER, device)
        if not all(ways):
            raise TopologyError(
                f"{device} reaches {SERVER} over plain wires only: give a link on its way a rate"
            )
        own = self._edge_of[device].link
        return AccessLink(device, up=together(ways[0]), down=together(ways[1]), air=own.air if own else None)


def together(specs: Sequence[LinkSpec]) -> LinkSpec:
    """Links one behind the other as one: the slowest rate, the delays and queues of all."""
    if len(specs) == 1:
        return specs[0]
    return LinkSpec(
        rate_bps=min(spec.rate_bps for spec in specs),
        delay_s=sum(spec.delay_s for spec in specs),
        jitter_s=math.hypot(*(spec.jitter_s for spec in specs)),
        loss=1 - math.prod(1 - spec.loss for spec in specs),
        queue_bytes=sum(spec.queue_bytes for spec in specs),
    )
