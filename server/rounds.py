"""The rounds: push the global adapter to a cohort, gather updates, aggregate, checkpoint."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from proto import codecs
from proto.adapter import AdapterLayout, Vector
from proto.codecs import Codec
from proto.events import EventLog
from proto.payload import Assembler
from server.aggregation.fedavg import FedAvg
from server.checkpoint import write_checkpoint
from server.cohorts import Cohorts
from server.devices import Registry

log = logging.getLogger("server")


@dataclass(frozen=True)
class Plan:
    """What the server is asked to do."""

    rounds: int
    uplink_codec: str
    downlink_codec: str
    seed: int
    deadline_s: float
    """A round closes with what has come after this long."""
    join_timeout_s: float
    reconnect_grace_s: float
    """How long a device whose connection broke may take to come back within a round."""


class OpenRound:
    """One round while it lasts. Every device of the cohort is settled once: finished, lost, refused, late."""

    def __init__(
        self, number: int, cohort: Iterable[str], *, payload: bytes, downlink: Codec, uplink: Codec, size: int
    ) -> None:
        self.number = number
        self.payload = payload
        self.downlink = downlink
        self.uplink = uplink
        self.size = size
        self.pending = set(cohort)
        self.outcomes: dict[str, str] = {}
        self.uploads: dict[tuple[str, str], Assembler] = {}
        """By device and session: a restarted process never continues its predecessor's update."""
        self.updates = FedAvg(size)
        self._done = asyncio.Event()
        if not self.pending:
            self._done.set()

    def settle(self, name: str, outcome: str) -> bool:
        """Record how the round ended for one device; only the first outcome counts."""
        if name not in self.pending:
            return False
        self.pending.remove(name)
        self.outcomes[name] = outcome
        if not self.pending:
            self._done.set()
        return True

    async def wait(self, deadline_s: float) -> None:
        """Until every device is settled; those not done by the deadline are late."""
        try:
            await asyncio.wait_for(self._done.wait(), deadline_s)
        except TimeoutError:
            for name in sorted(self.pending):
                self.settle(name, "late")


class Federation:
    """The state that the rounds and the gRPC service share."""

    def __init__(
        self,
        *,
        plan: Plan,
        registry: Registry,
        cohorts: Cohorts,
        layout: AdapterLayout,
        adapter: Vector,
        checkpoints: Path,
        events: EventLog,
    ) -> None:
        self.plan = plan
        self.registry = registry
        self.layout = layout
        self.adapter = adapter
        self.events = events
        self.round: OpenRound | None = None
        self.finish_reason = ""
        """Why the run is over; empty while it is not."""
        self._cohorts = cohorts
        self._checkpoints = checkpoints
        self._watchers: set[asyncio.Task[None]] = set()

    async def run(self) -> bool:
        """All rounds, then every device is told. Returns whether each round had at least one update.

        Raises TimeoutError naming the devices that did not join in time.
        """
        try:
            complete = await self._run_rounds()
            self.finish_reason = "all rounds are done"
        finally:
            self.finish_reason = self.finish_reason or "the run was given up"
            for device in self.registry.devices.values():
                if device.outbox is not None:
                    device.outbox.put_nowait(None)
            await self.registry.wait_until_all_dismissed(self.plan.reconnect_grace_s)
            await self.registry.wait_until_all_gone(timeout_s=30)
        return complete

    async def _run_rounds(self) -> bool:
        missing = await self.registry.wait_until_all_connected(self.plan.join_timeout_s)
        if missing:
            waited = f"{self.plan.join_timeout_s:g} s"
            raise TimeoutError(f"devices that did not join within {waited}: {', '.join(missing)}")
        write_checkpoint(self._checkpoints, 0, self.layout, self.adapter)
        complete = True
        for number in range(1, self.plan.rounds + 1):
            complete = await self._run_round(number) > 0 and complete
        return complete

    async def _run_round(self, number: int) -> int:
        """One round; returns how many updates it aggregated."""
        plan = self.plan
        cohort = await self._cohorts.choose(number, plan.deadline_s)
        self.events.write("round_start", round=number, cohort=cohort)
        downlink = codecs.parse(plan.downlink_codec)
        payload = downlink.encode(self.adapter, np.random.default_rng((plan.seed, number)))
        self.round = OpenRound(
            number,
            cohort,
            payload=payload,
            downlink=downlink,
            uplink=codecs.parse(plan.uplink_codec),
            size=self.layout.size,
        )
        for name in cohort:
            device = self.registry.devices[name]
            if device.outbox is not None:
                device.outbox.put_nowait(number)
            else:
                self.watch_for_return(name)
        await self.round.wait(plan.deadline_s)
        closing, self.round = self.round, None
        self._cohorts.learn(closing.outcomes)
        self.events.write("aggregate_start", round=number)
        self.adapter = closing.updates.step(self.adapter)
        self.events.write("round_end", round=number, outcomes=closing.outcomes, weight=closing.updates.weight)
        write_checkpoint(self._checkpoints, number, self.layout, self.adapter)
        finished = sum(outcome == "finished" for outcome in closing.outcomes.values())
        log.info("round %d: %d of %d updates", number, finished, len(cohort))
        return finished

    def watch_for_return(self, name: str) -> None:
        """A device of the open round has no connection: settle it as lost unless it comes back in time."""
        watcher = asyncio.ensure_future(self._settle_unless_back(name, self.round))
        self._watchers.add(watcher)
        watcher.add_done_callback(self._watchers.discard)

    async def _settle_unless_back(self, name: str, watched: OpenRound | None) -> None:
        device = self.registry.devices[name]
        if watched is None or await self.registry.reconnected(device, self.plan.reconnect_grace_s):
            return
        if watched.settle(name, "lost"):
            upload = watched.uploads.get((name, device.session))
            received = upload.received if upload else 0
            self.events.write("client_lost", round=watched.number, client=name, received=received)
            log.warning("round %d: lost %s after %d bytes of its update", watched.number, name, received)
