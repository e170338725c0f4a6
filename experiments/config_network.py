"""The `network` section: its shape, and what its links and hosts are asked to be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PrivateAttr, model_validator

from emulation import trace
from emulation.link import FRAME_BYTES, AccessLink, Air, LinkSpec, Outages, Scheduler
from emulation.link_budget import Floats
from emulation.tcp import Tcp
from emulation.topologies import builtin
from emulation.topologies.graph import Graph, Routing
from experiments import config_channel, profiles
from experiments.config_cell import WAYS, Cell, DeviceNeeds, Division
from experiments.config_channel import Channel
from experiments.config_hosts import Bytes, Flow, TcpSettings
from experiments.config_radio import RadioPower
from experiments.config_section import Section
from experiments.profiles import ProfileName
from experiments.units import Duration, Fraction, Queue, QueueLength, Rate

_BUILT_IN = ("cell", "multicell", "mesh")


def _listed(value: object) -> object:
    """One name is a list of one."""
    return [value] if isinstance(value, str) else value


class Outage(Section):
    """Times without a link: exponential, of these means."""

    up: Duration = Field(gt=0)
    down: Duration = Field(gt=0)


class Direction(Section):
    """One direction of a device's link."""

    rate: Rate | None = None
    trace: Path | None = None
    """A Mahimahi packet-delivery trace, in place of `rate`."""
    delay: Duration = 0.0
    jitter: Duration = 0.0
    """Standard deviation of the delay; frames stay in order."""
    jitter_distribution: str = "normal"
    """`normal`, or a file of iproute2's kind: quantiles in 1/8192 of a standard deviation."""
    loss: Fraction = 0.0
    loss_burst: float = Field(1.0, ge=1)
    """Mean number of frames lost in a row; above 1 losses are a Gilbert-Elliott chain's."""
    duplicate: Fraction = 0.0
    corrupt: Fraction = 0.0
    outage: Outage | None = None
    queue: QueueLength = Queue(0.2, "s")
    aqm: Literal["tail", "codel"] = "tail"

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        if self.rate is not None and self.trace is not None:
            raise ValueError("rate: a link needs a rate or a trace, and not both")
        if self.rate is not None and self.rate <= 0:
            raise ValueError("rate: a link needs more than 0 bit/s")
        if self.loss >= 1:
            raise ValueError("loss: at 100% nothing ever arrives")
        if self.loss > self.loss_burst / (self.loss_burst + 1) and self.loss_burst > 1:
            raise ValueError("loss: at most burst / (burst + 1), for between two bursts a frame gets through")
        if self.jitter == 0 and self.jitter_distribution != "normal":
            raise ValueError("jitter_distribution: needs a jitter above 0")
        if self.rate is not None or self.trace is not None:
            self.spec()
        return self

    def spec(self, start: tuple[float, float] | None = None) -> LinkSpec:
        """What the emulation is asked for; `start` the rate (bit/s) and loss that a channel begins with.

        A queue given as a time holds it at that first rate, and 64 frames at least. Raises ValueError for
        what cannot be, a file that is not what it should be too.
        """
        delivery = None if self.trace is None else trace.read_mahimahi(self.trace)
        rate = delivery.mean_rate_bps if delivery else start[0] if start else self.rate
        if rate is None:
            raise ValueError("rate: a link needs a rate, a trace, or network.channel")
        queue_bytes = self.queue.bytes_at(rate, FRAME_BYTES)
        if start and self.queue.unit == "s":
            queue_bytes = max(queue_bytes, LinkSpec.queue_bytes)
        if queue_bytes < FRAME_BYTES:
            raise ValueError(f"queue: shorter than one frame of {FRAME_BYTES} bytes")
        table = None
        if self.jitter_distribution != "normal":
            table = trace.read_distribution(Path(self.jitter_distribution))
        in_frames = self.queue.unit == "packets"
        return LinkSpec(
            rate_bps=rate,
            delay_s=self.delay,
            jitter_s=self.jitter,
            loss=start[1] if start else self.loss,
            queue_bytes=queue_bytes,
            loss_burst=self.loss_burst,
            duplicate=self.duplicate,
            corrupt=self.corrupt,
            queue_frames=round(self.queue.value) if in_frames else None,
            aqm=self.aqm,
            jitter_table=table,
            outages=None if self.outage is None else Outages(self.outage.up, self.outage.down),
            trace=delivery,
        )


class Device(Section):
    """A device, or `count` alike."""

    up: Direction | None = None
    down: Direction | None = None
    """Its link; None in a user's own topology, which says itself what its links are."""
    profile: ProfileName | None = None
    """What of its link it does not say itself; None: network.profile."""
    at: str | None = None
    """The edge node or access point that it is at; in a cell there is but one."""
    count: int = Field(1, ge=1, le=1000)
    remote: bool = False
    """Joins from another machine, over whatever lies between: its link is not emulated."""
    seconds_per_step: Duration | None = None
    """How long this device's own local step takes; None: what `compute` says."""
    compute_profile: str | None = None
    """Or the named device that it trains like; see client/device_profiles.py."""
    rank: int | None = Field(None, ge=1, le=1024)
    """Of this device's own LoRA adapter; None: adapter.rank."""
    congestion_control: str | None = None
    """Of what this device sends; None: network.congestion_control."""

    def follows(self, default: str | None) -> bool:
        """Whether it has a link, and one of its profile."""
        name = self.profile or default
        if name is None or self.remote or self.up is None or self.down is None:
            return False
        return profiles.follows(name, {"up": self.up.rate, "down": self.down.rate})


class Backhaul(Section):
    up: Direction
    down: Direction


class EdgeNode(Section):
    """Where a cell of devices meets its backhaul."""

    name: str
    backhaul: Backhaul


class Radio(Section):
    """A link between two access points, upwards from the first to the second."""

    ends: tuple[str, str]
    up: Direction
    down: Direction


class Mesh(Section):
    """Access points, by the links between them; the server hangs on `gateway`."""

    gateway: str
    links: list[Radio] = Field(min_length=1)


class Network(Section):
    topology: str = "cell"
    """`cell`, `multicell`, `mesh`, or a Mininet file and a name of its `topos`: `path/to/file.py:name`."""
    routing: Routing = "delay"
    """The shortest ways, by delay or by the number of links; only a graph with loops has a choice."""
    sharing: Literal["none"] | Scheduler = "none"
    """`none`: every link has its rate to itself; else how devices at one place, or served by one of the
    channel's cells, share its airtime."""
    cell: Cell | None = None
    """How `sharing: fixed` divides the cell; None: into equal shares of its airtime."""
    channel: Channel | None = None
    """Drives the rates and losses of the devices' own links."""
    profile: ProfileName | None = None
    """What devices' links are unless they say otherwise; see experiments/profiles.py."""
    edges: list[EdgeNode] = Field([])
    mesh: Mesh | None = None
    devices: list[Device] = Field(min_length=1)
    congestion_control: str = "cubic"
    tcp: TcpSettings = TcpSettings()
    power: RadioPower = RadioPower()
    background: list[Flow] = Field([])
    capture: Annotated[list[str], BeforeValidator(_listed)] = Field([])
    """Interfaces whose frames are written to the run's captures/; `all` of them."""
    snaplen: Bytes = Field(128, ge=14, le=65535)
    """How much of a captured frame is kept: by default its headers."""
    _division: Division | None = PrivateAttr(None)

    @model_validator(mode="before")
    @classmethod
    def _fill_links(cls, values: Any) -> Any:
        """Devices with what their profiles say; whatever cannot be filled is left for its own check."""
        if not isinstance(values, dict) or not isinstance(devices := values.get("devices"), list):
            return values
        filled = []
        for device in devices:
            if isinstance(device, dict) and not device.get("remote"):
                name = device.get("profile") or values.get("profile")
                if isinstance(name, str) and name in profiles.PROFILES:
                    device = profiles.fill(device, name)
            filled.append(device)
        return {**values, "devices": filled}

    @model_validator(mode="after")
    def _follows_its_profiles(self) -> Self:
        """A profile that changes nothing is a mistake: a sweep over it would compare a run with itself."""
        own = [(f"devices.{number}.profile", [d]) for number, d in enumerate(self.devices) if d.profile]
        rest = [device for device in self.devices if not device.profile]
        for key, devices in [*own, *([("profile", rest)] if self.profile else [])]:
            if self.channel is not None:
                raise ValueError(f"{key}: goes without a channel, which says itself how fast links are")
            if self._is_custom:
                raise ValueError(f"{key}: topology {self.topology} says that itself, leave it out")
            if not any(device.follows(self.profile) for device in devices):
                raise ValueError(
                    f"{key}: no link follows it; leave out up and down of the devices that should"
                )
        return self

    @model_validator(mode="after")
    def _is_a_network(self) -> Self:
        if not self._is_custom and self.topology not in _BUILT_IN:
            raise ValueError(
                f"topology: {self.topology!r} is none of {', '.join(_BUILT_IN)}, nor path/to/file.py:name"
            )
        for key, topology, given in (("edges", "multicell", self.edges), ("mesh", "mesh", self.mesh)):
            if bool(given) != (self.topology == topology):
                raise ValueError(f"{key}: topology {topology} needs it, and no other has it")
        placed = self.topology in ("multicell", "mesh")
        for number, device in enumerate(self.devices):
            for key, value, needed in (
                ("up", device.up, not self._is_custom),
                ("down", device.down, not self._is_custom),
                ("at", device.at, placed),
                ("congestion_control", device.congestion_control, None),
            ):
                if device.remote and value is not None:
                    raise ValueError(f"devices.{number}.{key}: a remote device's link is not emulated")
                if not device.remote and needed is not None and (value is not None) != needed:
                    what = "needs it" if needed else "says that itself, leave it out"
                    raise ValueError(f"devices.{number}.{key}: topology {self.topology} {what}")
        if not self.emulated_devices:
            raise ValueError("devices: one at least must not be remote, or nothing is emulated")
        if self.channel is not None:
            self.channel.airs(self.sharing)
            if self.topology != "cell":
                raise ValueError("channel: goes with topology cell")
            if any(device.remote for device in self.devices):
                raise ValueError("channel: goes without remote devices")
            for number, device in enumerate(self.devices):
                config_channel.refuse_own_rate(f"devices.{number}.up", device.up)
                config_channel.refuse_own_rate(f"devices.{number}.down", device.down)
        graph = self.graph
        for number, flow in enumerate(self.background):
            for key, host in (("from", flow.source), ("to", flow.destination)):
                if host not in graph.hosts:
                    raise ValueError(f"background.{number}.{key}: there is no host {host}")
        return self

    @model_validator(mode="after")
    def _can_be_divided(self) -> Self:
        self.power.check(self.channel)
        if self.cell is not None:
            traced = any(way.trace for device in self.devices for way in (device.up, device.down) if way)
            self.cell.check(self.topology, self.sharing, self.channel, traced=traced)
        return self

    def divide(self, needs: Sequence[DeviceNeeds]) -> None:
        """Divide the cell for what its emulated devices need. Raises AllocationError, a ValueError."""
        if self.cell is not None:
            links = [self.graph.access(name) for name, _ in self.emulated_devices]
            self._division = self.cell.divide(links, self.channel, needs)
            for stale in ("graph", "_start"):
                self.__dict__.pop(stale, None)

    @property
    def division(self) -> Division | None:
        """Who has which part of the cell; None where it is not divided by `cell`."""
        return self._division

    @property
    def bands_hz(self) -> Floats | None:
        """Every emulated device's own, down and up; None where it has the whole band while it sends."""
        return None if self._division is None else self._division.bands_hz

    @property
    def _is_custom(self) -> bool:
        return ".py:" in self.topology

    @property
    def topology_file(self) -> Path | None:
        """The user's own file, if that is what the topology is."""
        return Path(self.topology.rpartition(":")[0]) if self._is_custom else None

    @property
    def expanded_devices(self) -> list[tuple[str, Device]]:
        """dev0, dev1, ... with what each was asked to be."""
        alike = [device for device in self.devices for _ in range(device.count)]
        return [(f"dev{index}", device) for index, device in enumerate(alike)]

    @property
    def emulated_devices(self) -> list[tuple[str, Device]]:
        """Those that are in the network: all but the remote ones."""
        return [(name, device) for name, device in self.expanded_devices if not device.remote]

    @cached_property
    def graph(self) -> Graph:
        """The network as asked for. Raises TopologyError, a ValueError, for one that cannot be."""
        if self._is_custom:
            from emulation.topologies import custom

            graph = custom.load(
                self.topology, [name for name, _ in self.emulated_devices], routing=self.routing
            )
        else:
            graph = self._built_in()
        if self.sharing == "none" or self.cell is not None:  # What is its own needs no air to share.
            return graph
        scheduler, roams = self.sharing, self.airs

        def shared(link: AccessLink) -> AccessLink:
            if link.device not in graph.devices:
                return link
            if roams:
                return replace(link, air=roams[self._start.cells[link.device]], roams=roams)
            return replace(link, air=Air(graph.switch_of(link.device), scheduler))

        return graph.change_links(shared)

    @property
    def airs(self) -> tuple[Air, ...]:
        """By the channel's cells, where devices move between several of them and share each one's airtime."""
        return () if self.channel is None else self.channel.airs(self.sharing)

    def _built_in(self) -> Graph:
        devices = [
            (device.at or builtin.CELL, _link(name, self._own_part(name, device), self._start))
            for name, device in self.emulated_devices
        ]
        if self.topology == "multicell":
            backhauls = [_link(edge.name, edge.backhaul) for edge in self.edges]
            return builtin.multicell(backhauls, devices)
        if self.mesh is not None:
            radios = [(*radio.ends, _link("-".join(radio.ends), radio)) for radio in self.mesh.links]
            return builtin.mesh(radios, devices, gateway=self.mesh.gateway, routing=self.routing)
        return builtin.cell([link for _, link in devices])

    def _own_part(self, name: str, device: Device) -> Device:
        """A device with its share of the airtime as its link's rate, where airtime is divided."""
        if self._division is None or self._division.in_hz:
            return device
        parts = {way: self._division.part(name, way) for way in WAYS}
        ways = {way: getattr(device, way) for way in WAYS}
        return device.model_copy(
            update={way: own.model_copy(update={"rate": own.rate * parts[way]}) for way, own in ways.items()}
        )

    @cached_property
    def _start(self) -> config_channel.Start:
        """What the channel begins with; nothing without one."""
        if self.channel is None:
            return config_channel.Start({}, {})
        names = [name for name, _ in self.emulated_devices]
        return config_channel.start(self.channel.build(names, self.bands_hz), names)

    def tcp_of_hosts(self) -> dict[str, Tcp]:
        """What TCP is asked to be on every host."""
        own = {name: device.congestion_control for name, device in self.emulated_devices}
        return {host: self.tcp.build(own.get(host) or self.congestion_control) for host in self.graph.hosts}


def _link(
    name: str, ways: Device | Backhaul | Radio, start: config_channel.Start | None = None
) -> AccessLink:
    assert ways.up is not None and ways.down is not None
    begin = start.links if start else {}
    up, down = ways.up.spec(begin.get((name, "up"))), ways.down.spec(begin.get((name, "down")))
    return AccessLink(name, up=up, down=down)
