"""Networks: a cell, and the running network around whichever links it was given.

A cell is a star: `server` and one host per device around the access node `cell`. The server's own
wire is plain, so that each device's downlink is shaped one hop away from its sender; the uplink is
taken from the device at once and shaped after that.
"""

from __future__ import annotations

import re
import resource
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from mininet.net import Mininet
from mininet.topo import Topo
from mininet.util import ipAdd

from emulation import sandbox
from emulation.backend import Backend, Direction, LinkCounters, LinkEnds, check_spec, choose
from emulation.link import AccessLink, LinkError
from emulation.nodes import AccessBridge, Host, TapWire, Wire, execute, strict

SERVER, CELL = "server", "cell"
_DEVICE = re.compile(r"[a-z][a-z0-9]{0,9}")  # Linux allows an interface 15 characters; "-eth0" takes 5.
_WIRES = {"tap": TapWire, "veth": Wire}
_LEAST_BUFFER = 4 << 20
_IPV6 = (
    {f"net.ipv6.conf.{which}.disable_ipv6": "1" for which in ("all", "default")}
    if Path("/proc/sys/net/ipv6").exists()
    else {}
)


class CellTopo(Topo):
    """`server`, the access node `cell`, and a host for each link's device, as any Mininet Topo.

    The devices' links are of the network's own link class; the server's is always a plain wire.
    """

    def build(self, links: Sequence[AccessLink] = (), **host_params: Any) -> None:
        self.addSwitch(CELL, cls=AccessBridge, dpid="1")
        for number, name in enumerate([SERVER, *(link.device for link in links)]):
            address = {
                "ip": f"{ipAdd(number + 1)}/8",
                "mac": f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}",
            }
            self.addHost(name, cls=Host, **address, **host_params)
            if name == SERVER:
                self.addLink(name, CELL, cls=Wire)
            else:
                self.addLink(name, CELL)


class Network:
    """A cell with its links in force, from `with` to the block's end.

    `links` one per device; `backend` "auto", "relay" or "netem"; `seed` of what the air does;
    `congestion_control` any algorithm that the kernel has. Must be entered inside a sandbox
    (emulation.sandbox), as root of it. Raises LinkError, naming the link, rather than build anything else
    than what was asked for.
    """

    mininet: Mininet

    def __init__(
        self,
        links: Sequence[AccessLink],
        *,
        backend: str = "auto",
        seed: int = 0,
        congestion_control: str = "cubic",
    ) -> None:
        self.links = tuple(links)
        self._backend: Backend = choose(backend)
        self._seed = seed
        self._congestion_control = congestion_control
        self.host_settings: dict[str, dict[str, str]] = {}
        """Per host, every pinned sysctl as read back."""
        names = [link.device for link in self.links]
        for link in self.links:
            name = link.device
            if not _DEVICE.fullmatch(name) or name in (SERVER, CELL) or names.count(name) > 1:
                raise LinkError(
                    f"{name!r} cannot name a device: {_DEVICE.pattern}, each once, not {SERVER} or {CELL}"
                )
            check_spec(link)
            self._backend.refuse(link)

    @property
    def backend_name(self) -> str:
        """ "relay" or "netem"."""
        return self._backend.name

    def __enter__(self) -> Network:
        if not sandbox.inside():
            raise LinkError("a network is built inside a sandbox only: python -m emulation.sandbox -- ...")
        _raise_file_limit()
        for (
            key,
            value,
        ) in _IPV6.items():  # The access node, too, would send neighbour discovery down every link.
            execute(["sysctl", "-q", "-w", f"{key}={value}"])
        Mininet.inited = True  # Its init() would set the machine's sysctls, which are not ours to set.
        try:
            with strict():
                self.mininet = Mininet(
                    topo=CellTopo(self.links, pinned=_pinned(self.links)),
                    link=_WIRES[self._backend.wire],
                    controller=None,
                    build=False,
                )
                self.mininet.build()
                self.mininet.start()
            self._introduce()
            self._backend.start([self._ends(link) for link in self.links], self._seed)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
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

    def counters(self) -> dict[Direction, LinkCounters]:
        """(device, "up" or "down") -> what that direction has carried since the network started."""
        return self._backend.counters()

    def violations(self) -> list[str]:
        """Reasons why a run on this network is invalid by now; empty while it is valid."""
        return self._backend.violations()

    def _introduce(self) -> None:
        """Let the server and every device know each other, and record what each host was pinned to."""
        server = self.mininet[SERVER]
        devices = [self.mininet[link.device] for link in self.links]
        if devices:
            server.know({device.IP(): device.MAC() for device in devices})
        for device in devices:
            device.know({server.IP(): server.MAC()})
        for host in (server, *devices):
            host.pin_congestion_control(self._congestion_control)
            self.host_settings[host.name] = dict(host.settings)

    def _ends(self, link: AccessLink) -> LinkEnds:
        device = self.mininet[link.device]
        (wire,) = self.mininet.linksBetween(device, self.mininet[CELL])
        return LinkEnds(
            link=link,
            device_interface=wire.intf1.name,
            access_interface=wire.intf2.name,
            device_pid=device.pid,
            taps=getattr(wire, "taps", None),
        )


def _pinned(links: Sequence[AccessLink]) -> dict[str, str]:
    """The settings of every host: nothing remembered between connections, no window lost while idle,
    buffers of at least four times what the largest link and its queues hold, no IPv6 noise."""
    held = max((_held_bytes(link) for link in links), default=0)
    largest = max(_LEAST_BUFFER, 4 * held)
    return {
        **_IPV6,
        "net.ipv4.tcp_no_metrics_save": "1",
        "net.ipv4.tcp_slow_start_after_idle": "0",
        "net.ipv4.tcp_rmem": f"4096 131072 {largest}",
        "net.ipv4.tcp_wmem": f"4096 131072 {largest}",
    }


def _held_bytes(link: AccessLink) -> int:
    """The most a TCP connection can have under way: rate times round-trip time, and the queue."""
    round_trip_s = link.up.delay_s + link.down.delay_s
    return max(int(spec.rate_bps * round_trip_s / 8) + spec.queue_bytes for spec in (link.up, link.down))


def _raise_file_limit() -> None:
    """Every host costs a handful of descriptors."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
