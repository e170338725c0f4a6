"""The rounds: push the global adapter to a cohort, gather updates, aggregate, checkpoint."""

from __future__ import annotations

import asyncio
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from proto import codecs
from proto.adapter import AdapterLayout, Vector
from proto.events import EventLog
from proto.exchange import Exchange
from proto.federation_pb2 import STATUS_LATE, Ask, Status, UploadKey
from proto.lora import LoraLayout
from proto.segments import Segments
from server.aggregation.aggregator import Aggregator, Kept
from server.aggregation.fedavg import Tally
from server.aggregation.options import AggregationOptions
from server.broadcast import Broadcast
from server.changes import Changes
from server.checkpoint import write_checkpoint
from server.cohorts import Cohorts
from server.devices import Device, Refusal, Registry
from server.downlink import Downlink, parse_exact
from server.global_model import GlobalModel
from server.incoming import Incoming, Wanted
from server.open_round import OpenRound
from server.tailored import Tailored
from server.uploads import Upload

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
    close_share: float = 1.0
    """A round closes `close_grace_s` after this share of its cohort has finished."""
    close_grace_s: float = 0.0
    staleness_exponent: float | None = None
    """Late updates are refused (None), or count in the round that is open when they are complete, with the
    weight of server.late."""
    error_feedback: bool = False
    """Whether devices send on what the uplink codec left out of their updates."""
    full_codec: str | None = None
    """The downlink codec carries differences, and this one the whole adapter to who needs it; None: none."""
    aggregation: AggregationOptions = field(default_factory=AggregationOptions)
    ranks: tuple[int, ...] = ()
    """Each device's LoRA rank, in the devices' order; empty: the initial adapter's."""


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
        self.model = GlobalModel(layout, adapter, checkpoints)
        self.aggregator = Aggregator(
            plan.aggregation, self.model, folder=checkpoints, seed=plan.seed, events=events
        )
        self.events = events
        self.uplink = codecs.parse(plan.uplink_codec)
        self.round: OpenRound | None = None
        self.outcomes: dict[tuple[int, Ask], dict[str, str]] = {}
        """Of the rounds that have closed, and what they asked."""
        self.late_uploads: dict[tuple[str, str, int], Incoming] = {}
        """By device, session and round: what has come of updates that are not complete yet."""
        self.finish_reason = ""
        """Why the run is over; empty while it is not."""
        self._cohorts = cohorts
        self._checkpoints = checkpoints
        self._executor = ThreadPoolExecutor(max(2, os.cpu_count() or 1), "numbers")
        self._loras = {rank: LoraLayout(self.model.lora.with_rank(rank)) for rank in set(plan.ranks)}
        self.downlink = self._make_downlink()
        self._changes = Changes()
        self._watchers: set[asyncio.Task[None]] = set()

    async def run(self) -> bool:
        """All rounds, then every device is told. Returns whether each round had at least one update.

        Raises TimeoutError naming the devices that did not join in time, CodecError when the global adapter
        cannot be encoded.
        """
        try:
            complete = await self._run_rounds()
            self.finish_reason = "all rounds are done"
        finally:
            self.finish_reason = self.finish_reason or "the run was given up"
            for device in self.registry.devices.values():
                if device.outbox is not None:
                    device.outbox.put_nowait(None)
            self._changes.announce()
            await self.registry.wait_until_all_dismissed(self.plan.reconnect_grace_s)
            await self.registry.wait_until_all_gone(timeout_s=30)
        return complete

    async def _run_rounds(self) -> bool:
        missing = await self.registry.wait_until_all_connected(self.plan.join_timeout_s)
        if missing:
            waited = f"{self.plan.join_timeout_s:g} s"
            raise TimeoutError(f"devices that did not join within {waited}: {', '.join(missing)}")
        await self._write_checkpoint(0)
        complete = True
        for number in range(1, self.plan.rounds + 1):
            complete = await self._run_round(number) > 0 and complete
        return complete

    async def _run_round(self, number: int) -> int:
        """One round; returns how many updates it aggregated."""
        plan = self.plan
        cohort = await self._cohorts.choose(number, plan.deadline_s)
        self.events.write("round_start", round=number, cohort=cohort)
        loop = asyncio.get_running_loop()
        closes_at = loop.time() + plan.deadline_s
        payloads = self.downlink.open(number, self.model.adapter, [self.registry.devices[n] for n in cohort])
        opened = OpenRound(
            number,
            cohort,
            payloads=payloads,
            uplink=self.uplink,
            updates=self.aggregator.open(number),
            share=plan.close_share,
        )
        self._push(opened)
        await payloads.encoded()
        await opened.wait(closes_at - loop.time(), plan.close_grace_s)
        self.round = None
        await payloads.encoded()  # For who was restarted meanwhile; the next round moves what it is made of.
        self._cohorts.learn(opened.outcomes)
        self.events.write("aggregate_start", round=number)
        await self._close(opened)
        step = await loop.run_in_executor(self._executor, self._step, opened)
        weight = opened.updates.weight
        self.events.write("round_end", round=number, outcomes=opened.outcomes, weight=weight, **step)
        # Before the checkpoint, whose writing takes memory too: the sum is twice as large as the adapter.
        opened.updates.release()
        await loop.run_in_executor(self._executor, self.aggregator.look_back, number)
        await self._write_checkpoint(number)
        log.info("round %d: %d of %d updates", number, opened.finished, len(cohort))
        return opened.finished

    def _push(self, opened: OpenRound) -> None:
        """It is open: who is connected is told, who is not is waited for."""
        self.round = opened
        self._changes.announce()
        for name in sorted(opened.pending):
            device = self.registry.devices[name]
            if device.outbox is not None:
                device.outbox.put_nowait(opened.number)
            else:
                self.watch_for_return(name)

    async def _close(self, closing: OpenRound) -> None:
        """Take back from the sum what did not become a whole update in time."""
        self.outcomes[closing.number, closing.ask] = closing.outcomes
        for name in sorted(name for name, outcome in closing.outcomes.items() if outcome == "late"):
            received = closing.received(name)
            self.events.write("client_late", round=closing.number, client=name, received=received)
        unfinished, closing.uploads = closing.uploads, {}
        # An update goes on coming meanwhile: whoever takes it must find it.
        kept = {key for key in unfinished if self._may_count_later(closing, *key)}
        self.late_uploads |= {(*key, closing.number): unfinished[key] for key in kept}
        for key, upload in unfinished.items():
            await (upload.detach() if key in kept else upload.discard())
        for guest in list(closing.guests):
            await guest.detach()
        for name, session, number in list(self.late_uploads):
            if self.registry.devices[name].session != session:
                await self.late_uploads.pop((name, session, number)).discard()

    def _may_count_later(self, closing: OpenRound, name: str, session: str) -> bool:
        return closing.outcomes[name] == "late" and self.plan.staleness_exponent is not None

    def _make_downlink(self) -> Downlink | Tailored:
        plan, wire = self.plan, self.plan.aggregation.wire
        codec = codecs.parse(plan.downlink_codec)
        full_codec = parse_exact(plan.full_codec) if plan.full_codec else None
        if wire.name == "fedit":
            return Downlink(
                codec,
                full_codec,
                self.model.layout.size,
                seed=plan.seed,
                folder=self._checkpoints,
                executor=self._executor,
                events=self.events,
            )
        return Tailored(
            wire,
            self.model,
            codec=codec,
            full_codec=codecs.parse("fp32"),
            lora_of=self.lora_of,
            seed=plan.seed,
            folder=self._checkpoints,
            executor=self._executor,
        )

    def _step(self, closed: OpenRound) -> dict[str, float]:
        """What the round makes of the model, in a thread."""
        kept = []
        for name, upload in sorted(closed.kept.items()):  # Sums of floats depend on their order.
            device = self.registry.devices[name]
            kept.append(Kept(name, device.index, upload.weight, self.lora_of(device), upload.values))
        step = self.aggregator.step(closed.number, closed.updates, kept)
        if isinstance(self.downlink, Tailored):
            self.downlink.adopt(closed.number)
        # What was sent may be lost yet; what a device has answered to it has.
        held = [device.version or 1 for device in self.registry.devices.values() if device.started()]
        self.model.settle(closed.number, needed_from=min(held, default=closed.number))
        return step

    @property
    def device_count(self) -> int:
        """Between which the training data are divided."""
        return len(self.registry.devices)

    def lora_of(self, device: Device) -> LoraLayout:
        """The device's own layout: its rank may differ."""
        return self._loras[self.plan.ranks[device.index]] if self.plan.ranks else self.model.lora

    def update_size(self, device: Device, number: int) -> int:
        """Values of the device's update of round `number`."""
        return self.lora_of(device).only(self.plan.aggregation.wire.trained(number)).size

    def exchange(self, number: int, device: Device, payload: Broadcast) -> Exchange:
        """What `payload` means to the device."""
        fresh = self.plan.aggregation.wire.fresh
        return payload.exchange.drawn_by(device.index) if fresh else payload.exchange

    def wanted(self, device: Device, key: UploadKey) -> Wanted:
        """What is taken of the device in answer to `key`."""
        size = self.update_size(device, key.round)
        most = Segments(self.uplink, size).payload_bytes
        because = f"{size} values make {most}"
        return Wanted(self.uplink.name, most, because, partial(self.new_upload, size))

    def new_upload(
        self, size: int, payload_bytes: int, total: Tally | None = None, weight: int = 0
    ) -> Upload:
        """An update of `size` values of which nothing has come."""
        return Upload(
            self.uplink,
            size,
            payload_bytes=payload_bytes,
            total=total,
            weight=weight,
            folder=self._checkpoints,
            executor=self._executor,
        )

    def note_refusal(
        self, name: str, refusal: Refusal, round_number: int | None = None, received: int = 0
    ) -> str:
        """Put on record that a device was turned down; returns the reason."""
        self.events.write(
            "refused",
            client=name,
            status=Status.Name(refusal.status),
            reason=refusal.reason,
            round=round_number,
            received=received,
        )
        log.warning("refused %s: %s", name, refusal.reason)
        return refusal.reason

    async def until_open(self) -> OpenRound:
        """The round that is open, or the next. Raises Refusal when there is none to come."""
        await self._changes.until(lambda: self.round or self.finish_reason)
        if self.round is None:
            raise Refusal(STATUS_LATE, "there is no later round to count it in")
        return self.round

    async def _write_checkpoint(self, number: int) -> None:
        await asyncio.get_running_loop().run_in_executor(self._executor, self._checkpoint, number)

    def _checkpoint(self, number: int) -> None:
        fresh = self.plan.aggregation.wire.fresh
        write_checkpoint(self._checkpoints, number, *self.model.whole(with_adapter=not fresh))

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
            received = watched.received(name)
            self.events.write("client_lost", round=watched.number, client=name, received=received)
            log.warning("round %d: lost %s after %d bytes of its update", watched.number, name, received)
            await watched.discard(name)
