"""The pieces a network is built of, as Mininet classes: hosts, the access bridge, wires.

Mininet prints an error and carries on; `strict` makes that an exception. Nothing here writes to
standard output.
"""

from __future__ import annotations

import json
import logging
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mininet.link import Link
from mininet.log import lg
from mininet.node import Node, Switch
from mininet.util import ipAdd

from emulation import relay
from emulation.link import LinkError
from emulation.tcp import Tcp

_OFFLOADS = ("rx", "tx", "sg", "tso", "gso", "gro")
"""What hands over more than one frame at a time, or a frame without its checksum."""
_CONGESTION_CONTROL = "net.ipv4.tcp_congestion_control"


class _Errors(logging.Handler):
    """Keeps what Mininet logs as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage().strip())


@contextmanager
def strict() -> Iterator[None]:
    """Raise LinkError on leaving if Mininet reported an error meanwhile."""
    errors = _Errors()
    lg.addHandler(errors)
    try:
        yield
    finally:
        lg.removeHandler(errors)
    if errors.messages:
        raise LinkError(f"Mininet: {' '.join(errors.messages).removeprefix('*** Error: ')}")


def execute(argv: Sequence[str], *, pid: int | None = None, stdin: str = "") -> str:
    """Run a command, in the namespaces of process `pid` if given; its standard output.

    Raises LinkError with the command's last word when it fails.
    """
    command = [*(["mnexec", "-a", str(pid)] if pid else []), *argv]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True)
    if done.returncode != 0:
        why = (done.stderr.strip() or done.stdout.strip() or f"status {done.returncode}").splitlines()[-1]
        raise LinkError(f"{' '.join(argv)}: {why}")
    return done.stdout


def disable_offloads(interface: str, pid: int | None = None) -> None:
    """Switch off every offload of an interface and read back that it is. Raises LinkError."""
    settings = [word for offload in _OFFLOADS for word in (offload, "off")]
    execute(["ethtool", "-K", interface, *settings], pid=pid)
    shown = execute(["ethtool", "-k", interface], pid=pid)
    for feature in ("tcp-segmentation-offload", "generic-segmentation-offload", "generic-receive-offload"):
        if f"{feature}: off" not in shown:
            raise LinkError(f"{interface}: {feature} cannot be switched off")


def address(number: int) -> dict[str, str]:
    """The IP and MAC address of a network's host by its number, from 0 on, as Mininet's parameters."""
    return {"ip": f"{ipAdd(number + 1)}/8", "mac": f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}"}


class Host(Node):
    """A host whose kernel settings are pinned before it has an interface."""

    def __init__(self, name: str, pinned: Mapping[str, str] | None = None, **params: Any) -> None:
        super().__init__(name, **params)
        self.settings: dict[str, str] = {}
        """Every pinned setting, as read back from the namespace."""
        if pinned:
            self.pin(pinned)

    def pin(self, settings: Mapping[str, str]) -> None:
        """Set sysctls in this namespace and keep what they read afterwards. LinkError if one differs."""
        execute(["sysctl", "-q", "-w", *(f"{key}={value}" for key, value in settings.items())], pid=self.pid)
        read = execute(["sysctl", "-n", *settings], pid=self.pid).splitlines()
        for (key, value), found in zip(settings.items(), read, strict=True):
            if " ".join(found.split()) != value:
                raise LinkError(f"{self.name}: {key} reads {found!r}, not {value!r}")
        self.settings |= settings

    def pin_tcp(self, tcp: Tcp) -> None:
        """Make every TCP connection through the network use its congestion control and route settings.

        A namespace may take as its default only what the machine's administrator has allowed to all; the
        same choice on the route (ip-route(8), congctl) is open to whoever owns the namespace, so it
        serves where the default does not. Raises LinkError if the kernel has no such algorithm.
        """
        name = tcp.congestion_control
        available = Path("/proc/sys/net/ipv4/tcp_available_congestion_control").read_text().split()
        if name not in available:
            raise LinkError(
                f"congestion control {name!r} is not among {', '.join(available)}; "
                f"fix: modprobe tcp_{name}, as root"
            )
        on_route = tcp.route()
        try:
            self.pin({_CONGESTION_CONTROL: name})
        except LinkError:
            on_route = {"congctl": name} | on_route
        if on_route:
            self._pin_route(on_route)
            self.settings |= {_CONGESTION_CONTROL: name} | {f"route {k}": v for k, v in tcp.route().items()}

    def _pin_route(self, settings: Mapping[str, str]) -> None:
        interface = self.defaultIntf().name
        route = json.loads(execute(["ip", "-j", "route", "show", "dev", interface], pid=self.pid))[0]
        words = ["proto", "kernel", "scope", "link", "src", self.IP()]
        words += [word for setting in settings.items() for word in setting]
        execute(["ip", "route", "replace", route["dst"], "dev", interface, *words], pid=self.pid)
        read = execute(["ip", "route", "show", "dev", interface], pid=self.pid).replace(" lock ", " ").split()
        for key, value in settings.items():
            if key not in read or read[read.index(key) + 1] != value:
                raise LinkError(f"{self.name}: the route does not take {key} {value}: {' '.join(read)}")

    def know(self, neighbours: Mapping[str, str]) -> None:
        """Fix the MAC address (values) of every IP address (keys), so that nobody has to ask."""
        interface = self.defaultIntf().name
        lines = [
            f"neigh replace {ip} lladdr {mac} dev {interface} nud permanent" for ip, mac in neighbours.items()
        ]
        execute(["ip", "-batch", "-"], pid=self.pid, stdin="\n".join(lines))


class AccessBridge(Switch):
    """An access node: a Linux bridge that forwards at once, and learns and floods nothing.

    Which port leads to every host it is told, so a frame is never copied onto a link that does not lead
    there, and loops do no harm. Who asks for a host's address (ARP) is answered by the nearest node.
    """

    def start(self, _controllers: Sequence[Any]) -> None:
        """Make the bridge and join the ports."""
        execute(["ip", "link", "add", self.name, "type", "bridge", "stp_state", "0", "mcast_snooping", "0"])
        for interface in self.intfList():
            if interface.link is not None:
                self.join(interface.name)
        execute(["ip", "link", "set", self.name, "up"])

    def join(self, port: str) -> None:
        """Make an interface a port of the bridge."""
        silent = "learning off flood off mcast_flood off bcast_flood off proxy_arp on"
        commands = [
            f"link set {port} master {self.name}",
            f"link set {port} type bridge_slave {silent}",
            f"link set {port} up",
        ]
        execute(["ip", "-batch", "-"], stdin="\n".join(commands))

    def port_to(self, neighbour: str) -> str:
        """The interface that joins this node to a neighbouring one."""
        for interface in self.intfList():
            if interface.link is not None:
                ends = (interface.link.intf1, interface.link.intf2)
                if neighbour in (end.node.name for end in ends if end is not interface):
                    return str(interface.name)
        raise LinkError(f"{self.name} has no link to {neighbour}")

    def lead(self, ports: Mapping[str, str]) -> None:
        """Tell the bridge the port (values) that leads to every MAC address (keys)."""
        lines = [f"fdb replace {mac} dev {port} master static" for mac, port in ports.items()]
        execute(["bridge", "-batch", "-"], stdin="\n".join(lines))

    def answer_for(self, neighbours: Mapping[str, str]) -> None:
        """Tell the bridge the MAC address (values) of every IP address (keys) that its hosts may ask for."""
        lines = [
            f"neigh replace {ip} lladdr {mac} dev {self.name} nud permanent" for ip, mac in neighbours.items()
        ]
        execute(["ip", "-batch", "-"], stdin="\n".join(lines))

    def stop(self, deleteIntfs: bool = True) -> None:
        """Take the bridge away."""
        execute(["ip", "link", "del", self.name])
        super().stop(deleteIntfs)


class Wire(Link):
    """A veth pair that carries one frame at a time, as a cable does, and shapes nothing."""

    def __init__(self, node1: Node, node2: Node, **params: Any) -> None:
        super().__init__(node1, node2, **params)
        for end in (self.intf1, self.intf2):
            disable_offloads(end.name, end.node.pid if end.node.inNamespace else None)


class TapWire(Wire):
    """Two TAP devices, with whatever the relay makes of the space between them."""

    taps: tuple[int, int]
    """Descriptors of the two TAPs, in the order of the nodes; owned by whoever relays."""

    def makeIntfPair(self, name1: str, name2: str, *args: Any, **kwargs: Any) -> None:
        """Make both TAPs here and move each to its node."""
        node1, node2 = args[2:4]
        self.taps = (relay.open_tap(name1), relay.open_tap(name2))
        for name, node in ((name1, node1), (name2, node2)):
            if node.inNamespace:
                execute(["ip", "link", "set", name, "netns", str(node.pid)])
