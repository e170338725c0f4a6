"""What puts links in force: the protocol every backend keeps, and the choice between them.

A backend is chosen by trying it in a scratch namespace, never by a kernel's version: kernels differ
in what they were built with.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from emulation.link import FRAME_BYTES, AccessLink, LinkChange, LinkError

Direction = tuple[str, str]
"""(device, "up" or "down")."""


@dataclass(frozen=True)
class LinkCounters:
    """What one direction has carried since the network started, in frames and layer-2 bytes.

    Drops by cause: the queue's tail, `drops_aqm` by CoDel, loss on the air, and `drops_device` where the
    receiving device took no frame (down, out of buffers, or handed more than a frame). What was offered
    and is in no other count is under way; delivered counts duplicates too. Lateness is how long after
    its scheduled release a frame was handed over, of frames since `Backend.watch` (0 where the backend
    cannot know it: the kernel does not say for netem).
    """

    offered_frames: int = 0
    offered_bytes: int = 0
    delivered_frames: int = 0
    delivered_bytes: int = 0
    drops_queue: int = 0
    drops_aqm: int = 0
    drops_loss: int = 0
    drops_device: int = 0
    duplicated: int = 0
    corrupted: int = 0
    lateness_p50_s: float = 0.0
    lateness_p99_s: float = 0.0
    lateness_max_s: float = 0.0


@dataclass(frozen=True)
class LinkEnds:
    """An access link as built: its two interfaces, and a process in the device's namespaces.

    `taps` are the descriptors of the device's and the access node's TAP where the wire is made of them.
    """

    link: AccessLink
    device_interface: str
    access_interface: str
    device_pid: int
    taps: tuple[int, int] | None = None


class Backend(Protocol):
    """One way to put links in force."""

    name: str
    wire: str
    """What joins a device to its access node: "tap" or "veth"."""

    def refuse(self, link: AccessLink) -> None:
        """Raise LinkError, naming the link, for a spec that this backend cannot put in force."""

    def start(self, ends: Sequence[LinkEnds], seed: int) -> None:
        """Put every link in force; raise LinkError unless all of them are."""

    def change(self, direction: Direction, change: LinkChange) -> None:
        """Change a direction while it runs, without losing its backlog. LinkError if it cannot be."""

    def counters(self) -> dict[Direction, LinkCounters]:
        """Cumulative counters of every direction. LinkError if they cannot be had."""

    def watch(self) -> None:
        """Tell and judge lateness by frames from now on: calibration's many would hide a run's late ones."""

    def violations(self) -> list[str]:
        """Reasons why what was measured until now cannot be trusted; empty if it can."""

    def stop(self) -> None:
        """Take the links out of force; nothing if they are not in force."""


_MODULES = {"netem": "emulation.netem", "relay": "emulation.relay"}  # In order of preference.


def probe() -> dict[str, str | None]:
    """Each backend's name -> None if it works here, else one line: what is missing, and the fix."""
    return {name: importlib.import_module(module).probe() for name, module in _MODULES.items()}


def choose(requested: str = "auto") -> Backend:
    """The backend called `requested`, or for "auto" the first that works: netem, then relay.

    Raises LinkError with one line when there is no such backend or it does not work here.
    """
    if requested != "auto" and requested not in _MODULES:
        raise LinkError(f"no backend is called {requested!r}; there are auto, {', '.join(_MODULES)}")
    reasons = []
    for name, module in _MODULES.items():
        if requested in ("auto", name):
            loaded = importlib.import_module(module)
            reason = loaded.probe()
            if reason is None:
                backend: Backend = loaded.create()
                return backend
            reasons.append(f"{name}: {reason}")
    raise LinkError("; ".join(reasons))


def check_spec(link: AccessLink) -> None:
    """Refuse what no link can be, naming the link. Raises LinkError."""
    for direction, spec in (("up", link.up), ("down", link.down)):
        where = f"{link.device} {direction}"
        for what, wrong in (
            (f"rate {spec.rate_bps:g} bit/s is not above 0", not 0 < spec.rate_bps < float("inf")),
            (f"delay {spec.delay_s:g} s is not in 0..3600", not 0 <= spec.delay_s <= 3600),
            (f"jitter {spec.jitter_s:g} s is not in 0..3600", not 0 <= spec.jitter_s <= 3600),
            (f"loss {spec.loss:g} is not in [0, 1)", not 0 <= spec.loss < 1),
            (
                f"loss {spec.loss:g} in bursts of {spec.loss_burst:g}: bursts of 1 frame or more, "
                "and loss at most burst / (burst + 1)",
                not spec.loss_burst >= 1 or spec.loss > spec.loss_burst / (spec.loss_burst + 1),
            ),
            (f"duplicate {spec.duplicate:g} is not in [0, 1)", not 0 <= spec.duplicate < 1),
            (f"corrupt {spec.corrupt:g} is not in [0, 1)", not 0 <= spec.corrupt < 1),
            ("a queue of no frame", spec.queue_frames is not None and spec.queue_frames < 1),
            (
                "outages need means above 0 s",
                spec.outages is not None
                and not (spec.outages.mean_up_s > 0 and spec.outages.mean_down_s > 0),
            ),
            (
                f"a queue of {spec.queue_bytes} bytes holds no full frame of {FRAME_BYTES}",
                spec.queue_bytes < FRAME_BYTES,
            ),
        ):
            if wrong:
                raise LinkError(f"{where}: {what}")
