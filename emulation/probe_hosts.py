"""Hosts for calibration where a link ends at a switch: a link is measured from its ends, and by hosts.

They are made when they are asked for, belong to no experiment, and are silent unless they are used.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping

from mininet.net import Mininet

from emulation.nodes import Host, Wire, address, strict
from emulation.topologies.graph import Edge, Graph


class ProbeHosts:
    """The hosts at the ends of a running network's links; `pinned` the settings of those it adds."""

    def __init__(self, graph: Graph, mininet: Mininet, pinned: Mapping[str, str]) -> None:
        self._graph, self._mininet, self._pinned = graph, mininet, pinned
        self._made: dict[tuple[str, Edge | None], Host] = {}
        self._one_at_a_time = threading.Lock()

    def ends(self, edge: Edge) -> tuple[str, str]:
        """A host at the lower and one at the upper end, all of whose traffic takes this edge."""
        with self._one_at_a_time:
            lower, upper = self._at(edge.lower, edge), self._at(edge.upper, edge)
            for near, far, node in ((lower, upper, edge.lower), (upper, lower, edge.upper)):
                near.know({far.IP(): far.MAC()})
                if node in self._graph.switches:
                    self._mininet[node].lead(
                        {
                            far.MAC(): self._mininet[node].port_to(edge.other(node)),
                            near.MAC(): self._mininet[node].port_to(near.name),
                        }
                    )
        return lower.name, upper.name

    def _at(self, node: str, edge: Edge) -> Host:
        """A host's edge may be measured from any host on its switch. Between switches the shortest way
        may be another one, so probes are led over that very edge, and serve for nothing else."""
        if node in self._graph.hosts:
            return self._mininet[node]
        between_switches = edge.other(node) in self._graph.switches
        if not between_switches and (wired := self._graph.wired_to(node)):
            return self._mininet[wired]
        key = (node, edge if between_switches else None)
        if key not in self._made:
            self._made[key] = self._add(node)
        return self._made[key]

    def _add(self, switch: str) -> Host:
        """A new host on a plain wire."""
        number = len(self._made)
        name = next(n for i in range(number, 10_000) if (n := f"probe{i}") not in self._graph.nodes)
        with strict():
            host = self._mininet.addHost(
                name, cls=Host, **address(len(self._graph.hosts) + number), pinned=self._pinned
            )
            wire = self._mininet.addLink(host, self._mininet[switch], cls=Wire)
            host.configDefault()
        self._mininet[switch].join(wire.intf2.name)
        return host
