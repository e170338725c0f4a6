"""The running network: whatever graph it was given, built of Mininet's pieces, with its links in force."""

from __future__ import annotations

import os
import resource
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from mininet.net import Mininet
from mininet.topo import Topo

from emulation import sandbox
from emulation.awake import Awake
from emulation.backend import Backend, Direction, LinkCounters, LinkEnds, check_spec, choose
from emulation.link import AccessLink, LinkChange, LinkError, LinkSpec
from emulation.nodes import AccessBridge, Host, TapWire, Wire, address, execute, strict
from emulation.probe_hosts import ProbeHosts
from emulation.tcp import Tcp
from emulation.topologies.builtin import cell
from emulation.topologies.graph import Graph

_WIRES = {"tap": TapWire, "veth": Wire}
_LEAST_BUFFER = 4 << 20
_IPV6 = (
    {f"net.ipv6.conf.{which}.disable_ipv6": "1" for which in ("all", "default")}
    if Path("/proc/sys/net/ipv6").exists()
    else {}
)
"""Nobody's neighbour discovery goes down a link, the access node's neither."""
_PLAIN_BRIDGE = (
    {f"net.bridge.bridge-nf-call-{table}": "0" for table in ("iptables", "ip6tables", "arptables")}
    if Path("/proc/sys/net/bridge").exists()
    else {}
)
"""A bridge that shows its frames to the firewall drops those with a damaged IP header."""


class GraphTopo(Topo):
    """A graph as a Mininet Topo, of our own hosts, switches and wires.

    Links are of the network's own link class, plain wires always plain. `pinned` each host's sysctls.
    """

    def build(self, graph: Graph, pinned: Mapping[str, Mapping[str, str]] | None = None) -> None:
        for number, name in enumerate(graph.switches, 1):
            self.addSwitch(name, cls=AccessBridge, dpid=f"{number:x}")
        for number, name in enumerate(graph.hosts):
            self.addHost(name, cls=Host, **address(number), pinned=(pinned or {}).get(name))
        for edge in graph.edges:
            self.addLink(edge.lower, edge.upper, **({} if edge.link else {"cls": Wire}))


class Network:
    """A network with its links in force, from `with` to the block's end.

    `graph` what to build, or the links of a cell; `backend` "auto", "relay" or "netem"; `seed` of what the
    air does; `tcp` of every host but those in `tcp_of`. Must be entered inside a sandbox
    (emulation.sandbox), as root of it. Raises LinkError, naming the link, rather than build anything else
    than what was asked for.
    """

    mininet: Mininet

    def __init__(
        self,
        graph: Graph | Sequence[AccessLink],
        *,
        backend: str = "auto",
        seed: int = 0,
        tcp: Tcp | None = None,
        tcp_of: Mapping[str, Tcp] | None = None,
    ) -> None:
        self.graph = graph if isinstance(graph, Graph) else cell(graph)
        self.links = self.graph.links
        self._backend: Backend = choose(backend)
        self._awake = Awake()
        self._seed = seed
        self._tcp = dict.fromkeys(self.graph.hosts, tcp or Tcp()) | dict(tcp_of or {})
        self._in_force: dict[Direction, LinkSpec] = {}
        self.host_settings: dict[str, dict[str, str]] = {}
        """Per host, every pinned setting as read back."""
        for link in self.links:
            check_spec(link)
            self._backend.refuse(link)
            self._in_force |= {(link.device, "up"): link.up, (link.device, "down"): link.down}

    @property
    def backend_name(self) -> str:
        """ "relay" or "netem"."""
        return self._backend.name

    def __enter__(self) -> Network:
        if not sandbox.inside():
            raise LinkError("a network is built inside a sandbox only: python -m emulation.sandbox -- ...")
        _raise_file_limit()
        for key, value in {**_IPV6, **_PLAIN_BRIDGE}.items():
            execute(["sysctl", "-q", "-w", f"{key}={value}"])
        Mininet.inited = True  # Its init() would set the machine's sysctls, which are not ours to set.
        largest = _largest_buffer(self.graph)
        pinned = {host: {**_IPV6, **tcp.sysctls(largest)} for host, tcp in self._tcp.items()}
        try:
            with strict():
                self.mininet = Mininet(
                    topo=GraphTopo(self.graph, pinned),
                    link=_WIRES[self._backend.wire],
                    controller=None,
                    build=False,
                )
                self.mininet.build()
                self.mininet.start()
            self._introduce()
            self._probe_hosts = ProbeHosts(self.graph, self.mininet, {**_IPV6, **Tcp().sysctls(largest)})
            self._awake.start()
            self._backend.start(self._ends_of_links(), self._seed)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._awake.stop()
        self._backend.stop()
        if hasattr(self, "mininet"):
            self.mininet.stop()
            del self.mininet

    def pid(self, host: str) -> int:
        """A process in the host's namespaces, to join them by."""
        return int(self.mininet[host].pid)

    def ip(self, host: str) -> str:
        """The host's IPv4 address."""
        return str(self.mininet[host].IP())

    def interface(self, host: str) -> str:
        """The host's one interface, such as "dev0-eth0"."""
        return str(self.mininet[host].defaultIntf().name)

    def interfaces(self) -> dict[str, int]:
        """Every interface of hosts and switches -> a process in the namespaces where it is."""
        found: dict[str, int] = {}
        for node in (*self.mininet.hosts, *self.mininet.switches):
            pid = int(node.pid) if node.inNamespace else os.getpid()
            found |= {str(interface.name): pid for interface in node.intfList() if interface.link}
        return found

    def counters(self) -> dict[Direction, LinkCounters]:
        """(link, "up" or "down") -> what that direction has carried since the network started."""
        return self._backend.counters()

    def change(self, device: str, direction: str, change: LinkChange) -> None:
        """Change a direction while it runs, keeping its backlog; `in_force` tells what holds from then on.

        Raises LinkError if there is no such direction or the backend cannot.
        """
        if (device, direction) not in self._in_force:
            known = ", ".join(link.device for link in self.links)
            raise LinkError(f"there is no link {device} {direction} to change; links: {known}")
        self._backend.change((device, direction), change)
        changed = {key: getattr(change, key) for key in ("rate_bps", "delay_s", "loss")}
        given = {key: value for key, value in changed.items() if value is not None}
        self._in_force[device, direction] = replace(self._in_force[device, direction], **given)

    def in_force(self) -> dict[Direction, LinkSpec]:
        """What every direction is asked to be by now, changes included."""
        return dict(self._in_force)

    def ends(self, link: AccessLink) -> tuple[str, str]:
        """Hosts directly at the lower and the upper end of a link, all of whose traffic takes that link.

        For an end that is a switch this is a host that hangs on it by a plain wire; where there is none,
        a probe is added, which is silent unless it is used.
        """
        return self._probe_hosts.ends(self.graph.edge_of(link))

    def watch(self) -> None:
        """From now on frames are a run's, and not calibration's; see emulation.backend.Backend."""
        self._backend.watch()

    def violations(self) -> list[str]:
        """Reasons why a run on this network is invalid by now; empty while it is valid."""
        return self._backend.violations()

    def _introduce(self) -> None:
        """Tell every switch the way to every host, let the server and the devices know each other, and
        record what each host was pinned to."""
        hosts = [self.mininet[name] for name in self.graph.hosts]
        macs = {host.IP(): host.MAC() for host in hosts}
        for name in self.graph.switches:
            switch = self.mininet[name]
            ways = {host.MAC(): self.graph.next_edge(name, host.name).other(name) for host in hosts}
            ports = {neighbour: switch.port_to(neighbour) for neighbour in set(ways.values())}
            switch.lead({mac: ports[neighbour] for mac, neighbour in ways.items()})
            switch.answer_for(macs)
        server, *devices = hosts
        if devices:
            server.know({device.IP(): device.MAC() for device in devices})
        for device in devices:
            device.know({server.IP(): server.MAC()})
        for host in hosts:
            host.pin_tcp(self._tcp[host.name])
            self.host_settings[host.name] = dict(host.settings)

    def _ends_of_links(self) -> list[LinkEnds]:
        """What the backend works on."""
        wires = {(wire.intf1.node.name, wire.intf2.node.name): wire for wire in self.mininet.links}
        found = []
        for link in self.links:
            edge = self.graph.edge_of(link)
            wire = wires[edge.lower, edge.upper]
            found.append(
                LinkEnds(
                    link=link,
                    device_interface=wire.intf1.name,
                    access_interface=wire.intf2.name,
                    device_pid=wire.intf1.node.pid,
                    taps=getattr(wire, "taps", None),
                )
            )
        return found


def _largest_buffer(graph: Graph) -> int:
    """What a socket's buffers may grow to: four times the most that a device's ways hold, at least 4 MiB."""
    return max([_LEAST_BUFFER, *(4 * _held_bytes(graph.access(device)) for device in graph.devices)])


def _held_bytes(link: AccessLink) -> int:
    """The most a TCP connection can have under way: rate times round-trip time, and the queues."""
    round_trip_s = link.up.delay_s + link.down.delay_s
    return max(int(spec.rate_bps * round_trip_s / 8) + spec.queue_bytes for spec in (link.up, link.down))


def _raise_file_limit() -> None:
    """Every host costs a handful of descriptors."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
