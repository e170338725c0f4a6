"""The run's devices as the server knows them: identity, session, connection."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from proto.federation_pb2 import (
    STATUS_IDENTITY_IN_USE,
    STATUS_UNKNOWN_CLIENT,
    STATUS_WRONG_RUN,
    Instruction,
    Status,
)
from server.broadcast import Broadcast
from server.changes import Changes


class Refusal(Exception):
    """A request the server turns down; the run goes on."""

    def __init__(self, status: Status, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


Outbox = asyncio.Queue[int | Instruction | None]
"""What a Tasks stream sends next: a round by its number, an instruction as it is, or None to finish."""


@dataclass
class Sending:
    """A payload on one connection. `sent_bytes` counts what has been handed to it, from the first byte on."""

    round: int
    payload: Broadcast
    sent_bytes: int


@dataclass
class Device:
    """One device. `outbox` is its live Tasks stream's; None while there is no connection."""

    name: str
    index: int
    session: str = ""
    examples: int = 0
    outbox: Outbox | None = None
    dismissed: bool = False
    """Whether it has been told that the run is over."""
    started_round: int = 0
    """What it said when it connected; `started` knows better."""
    sending: Sending | None = None
    """The payload that its connection carries, or has last carried."""
    version: int = 0
    """The round whose adapter its session is known to hold; 0: none."""
    loss: float | None = None
    """Mean training loss that it last reported."""
    uplink_bps: float | None = None
    """Rate of its last update, in payload bits per real second; 0 when a round closed without one."""
    update_began: float = 0.0
    """When the first byte of its update came, in s of CLOCK_MONOTONIC."""

    @property
    def connected(self) -> bool:
        """Whether a Tasks stream is open."""
        return self.outbox is not None

    def started(self) -> int:
        """The last round whose payload its session has whole, and has made its own; 0: none.

        Exact while payloads are encoded to their end: what a connection that lasts has taken comes in order.
        """
        if self.sending is not None and self.sending.payload.is_whole(self.sending.sent_bytes):
            self.started_round = self.sending.round
        return self.started_round

    def has_sent(self, payload_bytes: int, loss: float, arrived: float) -> float:
        """A whole update had come at `arrived`: note rate and loss (NaN: none). How long it took, in s."""
        took_s = max(arrived - self.update_began, 1e-6)
        self.uplink_bps = 8 * payload_bytes / took_s
        self.loss = None if math.isnan(loss) else loss
        return took_s


class Registry:
    """Devices by name; at most one live session each."""

    def __init__(self, run_id: str, names: Sequence[str]) -> None:
        self.run_id = run_id
        self.devices = {name: Device(name, index) for index, name in enumerate(names)}
        self._changes = Changes()

    def join(self, name: str, session: str) -> Device:
        """Take a place. A dead session's place can be taken by a new process; a live one's cannot."""
        device = self.devices.get(name)
        if device is None:
            known = ", ".join(self.devices)
            raise Refusal(STATUS_UNKNOWN_CLIENT, f"no device '{name}' in this run (devices: {known})")
        if device.connected and device.session != session:
            raise Refusal(STATUS_IDENTITY_IN_USE, f"another live session is '{name}'")
        if device.session != session:
            device.examples = device.version = device.started_round = 0
            device.sending = None
        device.session = session
        return device

    def authenticate(self, name: str, session: str, run_id: str) -> Device:
        """The device of a session that has joined. Raises Refusal for any other."""
        if run_id != self.run_id:
            raise Refusal(STATUS_WRONG_RUN, f"'{name}' belongs to run {run_id}, this is {self.run_id}")
        device = self.devices.get(name)
        if device is None or device.session != session:
            raise Refusal(STATUS_UNKNOWN_CLIENT, f"'{name}' has not joined with this session")
        return device

    def connect(self, device: Device, started_round: int) -> Outbox:
        """A Tasks stream has opened: from now on it is the device's connection, and this its outbox."""
        outbox = device.outbox = asyncio.Queue()
        device.started_round, device.sending = started_round, None
        self._changes.announce()
        return outbox

    def disconnect(self, device: Device, outbox: Outbox) -> None:
        """A Tasks stream has ended. One that was replaced meanwhile takes nothing with it: a radio link's
        old connection often dies after the new one is up."""
        if device.outbox is outbox:
            device.outbox = None
        self._changes.announce()

    async def wait_until_all_connected(self, timeout_s: float) -> list[str]:
        """Names of devices that are still missing after `timeout_s`; empty when all are there."""

        def missing() -> list[str]:
            return [device.name for device in self.devices.values() if not device.connected]

        return [] if await self._until(lambda: not missing(), timeout_s) else missing()

    def dismiss(self, device: Device) -> None:
        """It is being told that the run is over."""
        device.dismissed = True
        self._changes.announce()

    async def wait_until_all_dismissed(self, timeout_s: float) -> None:
        """Until every device that registered knows that the run is over: one that has lost its connection
        gets `timeout_s` to come back and hear it."""
        registered = [device for device in self.devices.values() if device.examples]
        await self._until(lambda: all(device.dismissed for device in registered), timeout_s)

    async def wait_until_all_gone(self, timeout_s: float) -> None:
        """Wait, at most `timeout_s`, until no stream is open."""
        await self._until(lambda: not any(d.connected for d in self.devices.values()), timeout_s)

    async def reconnected(self, device: Device, timeout_s: float) -> bool:
        """Whether the device is connected again within `timeout_s`."""
        return await self._until(lambda: device.connected, timeout_s)

    async def _until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Whether `condition` comes true within `timeout_s`."""
        try:
            await asyncio.wait_for(self._changes.until(condition), timeout_s)
        except TimeoutError:
            return False
        return True
