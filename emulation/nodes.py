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

from emulation import relay
from emulation.link import LinkError

_OFFLOADS = ("rx", "tx", "sg", "tso", "gso", "gro")
"""What hands over more than one frame at a time, or a frame without its checksum."""


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


class Host(Node):
    """A host whose kernel settings are pinned before it has an interface."""

    def __init__(self, name: str, pinned: Mapping[str, str] | None = None, **params: Any) -> None:
        super().__init__(name, **params)
        self.settings: dict[str, str] = {}
        """Every pinned setting, as read back from the namespace."""
        for key, value in (pinned or {}).items():
            self.pin(key, value)

    def pin(self, key: str, value: str) -> None:
        """Set a sysctl in this namespace and keep what it reads afterwards. LinkError if it differs."""
        execute(["sysctl", "-q", "-w", f"{key}={value}"], pid=self.pid)
        read = " ".join(execute(["sysctl", "-n", key], pid=self.pid).split())
        if read != value:
            raise LinkError(f"{self.name}: {key} reads {read!r}, not {value!r}")
        self.settings[key] = read

    def pin_congestion_control(self, name: str) -> None:
        """Make every TCP connection through the network use `name`, in both roles.

        A namespace may take as its default only what the machine's administrator has allowed to all; the
        same choice on the route (ip-route(8), congctl) is open to whoever owns the namespace, so it
        serves where the default does not. Raises LinkError if the kernel has no such algorithm.
        """
        available = Path("/proc/sys/net/ipv4/tcp_available_congestion_control").read_text().split()
        if name not in available:
            raise LinkError(
                f"congestion control {name!r} is not among {', '.join(available)}; "
                f"fix: modprobe tcp_{name}, as root"
            )
        key = "net.ipv4.tcp_congestion_control"
        try:
            self.pin(key, name)
        except LinkError:
            interface, own = self.defaultIntf().name, self.IP()
            route = json.loads(execute(["ip", "-j", "route", "show", "dev", interface], pid=self.pid))[0]
            words = ["proto", "kernel", "scope", "link", "src", own, "congctl", name]
            execute(["ip", "route", "replace", route["dst"], "dev", interface, *words], pid=self.pid)
            read = execute(["ip", "route", "show", "dev", interface], pid=self.pid)
            if f"congctl {name}" not in read:
                raise LinkError(
                    f"{self.name}: the route does not take congctl {name}: {read.strip()}"
                ) from None
            self.settings[key] = name

    def know(self, neighbours: Mapping[str, str]) -> None:
        """Fix the MAC address (values) of every IP address (keys), so that nobody has to ask."""
        interface = self.defaultIntf().name
        lines = [
            f"neigh replace {ip} lladdr {mac} dev {interface} nud permanent" for ip, mac in neighbours.items()
        ]
        execute(["ip", "-batch", "-"], pid=self.pid, stdin="\n".join(lines))


class AccessBridge(Switch):
    """An access node: a Linux bridge that forwards at once and floods nothing it knows the way to.

    Where every host is, it is told; a frame is never copied onto another device's link because the
    bridge has yet to learn.
    """

    def start(self, _controllers: Sequence[Any]) -> None:
        """Make the bridge, join the ports, tell it where the hosts are."""
        bridge = self.name
        execute(["ip", "link", "add", bridge, "type", "bridge", "stp_state", "0", "mcast_snooping", "0"])
        commands = []
        for interface in self.intfList():
            if interface.link is None:
                continue
            port, link = interface.name, interface.link
            host = link.intf2 if link.intf1 is interface else link.intf1
            commands += [
                f"link set {port} master {bridge}",
                f"link set {port} type bridge_slave learning off flood off mcast_flood off",
                f"link set {port} up",
            ]
            execute(["ip", "-batch", "-"], stdin="\n".join(commands))
            execute(["bridge", "fdb", "replace", host.MAC(), "dev", port, "master", "static"])
            commands = []
        execute(["ip", "link", "set", bridge, "up"])

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
