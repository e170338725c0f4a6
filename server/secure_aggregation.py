"""Secure aggregation at the server: passes keys and sealed shares on, unmasks a sum with what is revealed.

The stages of a round (client/secure_aggregation.py says what each is for): `keys`, `shares`, `input` (the
round as it is without secure aggregation), `reveal`, `over`. A stage ends when everybody has answered or is
lost, or when its time is up: who has not answered by then is late. Of the last, as many answers as the
threshold are enough. Where fewer than the threshold are left, the round fails with its reason, nothing of it
counts, and the next one goes on.

What is pushed goes through the devices' outboxes; `due` says what a device that connects has missed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from proto import federation_pb2 as pb
from proto.codecs.ring import Ring, ring_bits
from proto.events import EventLog
from proto.secagg.keys import PUBLIC_BYTES, SEALED_EXTRA_BYTES, KeyPair, SecretError, purpose
from proto.secagg.masked import Masked
from proto.secagg.masks import Masks
from proto.secagg.shares import SHARE_BYTES, combine
from server.aggregation.masked_sum import MaskedSum
from server.changes import Changes
from server.devices import Device, Refusal
from server.secure_options import SecureOptions

if TYPE_CHECKING:
    from server.open_round import OpenRound

log = logging.getLogger("server")

Stage = Literal["keys", "shares", "input", "reveal", "over"]

_SEALED_BYTES = 2 * SHARE_BYTES + SEALED_EXTRA_BYTES


@dataclass(eq=False)
class Member:
    """A device that has advertised keys, in the session it has done so."""

    device: Device
    session: str
    mask_key: bytes = b""
    share_key: bytes = b""
    number: int = 0
    sealed: dict[int, bytes] = field(default_factory=dict)
    """Its shares, by whom they are for."""
    seeds: dict[int, bytes] = field(default_factory=dict)
    """What it has revealed: its shares of others' self-masks, and of their mask keys."""
    keys: dict[int, bytes] = field(default_factory=dict)


class SecureRound:
    """One round of a cohort of `devices`, whose updates of `size` values are quantised to `grid`.

    `weight` tells what the update of a device with so many examples weighs in the sum.
    """

    def __init__(
        self,
        number: int,
        devices: Sequence[Device],
        *,
        grid: Ring,
        size: int,
        weight: Callable[[int], int],
        options: SecureOptions,
        run_id: str,
        executor: Executor,
        events: EventLog,
    ) -> None:
        self.number = number
        self.threshold = options.needed(len(devices))
        self._weight = weight
        self._largest_weight = max([1, *(weight(device.examples) for device in devices)])
        bits = ring_bits(grid.bits, max(2, len(devices)))
        self.codec = Masked(grid, bits)
        self.total = MaskedSum(size, grid, bits, self._largest_weight)
        self._devices = list(devices)
        self._options, self._run_id = options, run_id
        self._executor, self._events = executor, events
        self._stage: Stage = "keys"
        self._members: dict[str, Member] = {}
        self._survivors: list[Member] = []
        self._lost: set[str] = set()
        """Of the survivors those who have no connection any more."""
        self._changes = Changes()

    def begin(self, opened: OpenRound) -> None:
        """`opened` is the round that this one hides."""
        self._opened = opened

    def weight(self, device: Device) -> float:
        """Of the device's update, over the cohort's largest: what it is multiplied by."""
        return self._weight(device.examples) / self._largest_weight

    # What a device is told.

    def due(self, device: Device) -> list[int | pb.Instruction]:
        """What a device that connects now should hear of the round."""
        member = self._members.get(device.name)
        if self._stage == "keys":
            wanted = device.name in self._opened.pending and len(self._devices) >= self.threshold
            return [self._keys_wanted()] if wanted else []
        if self._stage == "reveal":
            self._lost.discard(device.name)
            asked = self.waits_for(device.name) and member is not None and member.session == device.session
            return [self._list_of_survivors()] if asked else []
        if member is None or device.name not in self._opened.pending:
            return []
        if member.session != device.session:
            self._opened.settle(device.name, "lost")  # Its keys were its predecessor's, and went with that.
            return []
        if self._stage == "shares":
            return [self._roster(member)]
        return [self._delivery(member), self.number]

    def _keys_wanted(self) -> pb.Instruction:
        wanted = pb.KeysWanted(round=self.number, devices=len(self._devices), threshold=self.threshold)
        return pb.Instruction(keys_wanted=wanted)

    def _roster(self, member: Member) -> pb.Instruction:
        members = [
            pb.Member(number=other.number, mask_key=other.mask_key, share_key=other.share_key)
            for other in self._members.values()
        ]
        return pb.Instruction(roster=pb.Roster(round=self.number, number=member.number, members=members))

    def _delivery(self, member: Member) -> pb.Instruction:
        shares = [
            pb.Share(number=other.number, data=other.sealed[member.number])
            for other in self._members.values()
            if other is not member
        ]
        return pb.Instruction(delivery=pb.Delivery(round=self.number, shares=shares))

    def _list_of_survivors(self) -> pb.Instruction:
        sent = [member.number for member in self._survivors]
        dropped = [member.number for member in self._members.values() if member not in self._survivors]
        return pb.Instruction(survivors=pb.Survivors(round=self.number, sent=sent, dropped=dropped))

    # What a device answers.

    def take_keys(self, device: Device, keys: pb.PublicKeys) -> None:
        """Raises Refusal, as the others do."""
        member = self._require("keys", device)
        if any(len(key) != PUBLIC_BYTES for key in (keys.mask_key, keys.share_key)):
            raise Refusal(pb.STATUS_CORRUPT, f"a public key that is not of {PUBLIC_BYTES} bytes")
        member.mask_key, member.share_key = keys.mask_key, keys.share_key
        self._members[device.name] = member
        self._changes.announce()

    def take_shares(self, device: Device, shares: pb.SealedShares) -> None:
        """One for each of the others."""
        member = self._require("shares", device)
        others = {other.number for other in self._members.values() if other is not member}
        member.sealed = _by_number(shares.shares, others, _SEALED_BYTES)
        self._changes.announce()

    def take_revealed(self, device: Device, revealed: pb.RevealedShares) -> None:
        """A share of each device's one secret that the sum takes."""
        member = self._require("reveal", device)
        asked = self._list_of_survivors().survivors
        keys = _by_number(revealed.keys, set(asked.dropped), SHARE_BYTES)
        member.seeds, member.keys = _by_number(revealed.seeds, set(asked.sent), SHARE_BYTES), keys
        self._changes.announce()

    def _require(self, stage: Stage, device: Device) -> Member:
        """The device's place in the stage that is open."""
        member = self._members.get(device.name)
        if stage == "keys":
            member = Member(device, device.session)  # A process that was restarted has other keys.
        expected = member in self._survivors if stage == "reveal" else device.name in self._opened.pending
        if self._stage != stage or not expected or member is None or member.session != device.session:
            raise Refusal(pb.STATUS_LATE, f"round {self.number} takes no {stage} of '{device.name}' any more")
        return member

    def waits_for(self, name: str) -> bool:
        """Whether an answer of the device is missing though its update is there."""
        return self._stage == "reveal" and any(m.device.name == name and not m.seeds for m in self._survivors)

    def lose(self, name: str) -> None:
        """The device has no connection, and had its time to come back."""
        self._lost.add(name)
        self._changes.announce()

    def settled(self) -> None:
        """A device of the round has been settled: nobody waits for it."""
        self._changes.announce()

    # The stages.

    async def agree(self) -> None:
        """`keys` and `shares`: whose masks will be in the sum. Who is not among them is settled."""
        self._events.write("agree_start", round=self.number, threshold=self.threshold)
        if len(self._devices) >= self.threshold:
            await self._answers(lambda name: name in self._members)
        self._keep(lambda member: True)
        for number, member in enumerate(self._members.values(), start=1):
            member.number = number
        self._enter("shares")
        await self._answers(lambda name: bool(self._members[name].sealed))
        self._keep(lambda member: bool(member.sealed))
        self._enter("input")
        self._events.write("agree_end", round=self.number, members=len(self._members))

    async def _answers(self, answered: Callable[[str], bool]) -> None:
        """Until all who are still there have answered; after the stage's time the others are late."""

        def missing() -> list[str]:
            return [name for name in sorted(self._opened.pending) if not answered(name)]

        try:
            async with asyncio.timeout(self._options.stage_timeout_s):
                await self._changes.until(lambda: not missing())
        except TimeoutError:
            for name in missing():
                self._opened.settle(name, "late")

    def _keep(self, stays: Callable[[Member], bool]) -> None:
        """The members who are still there, in the devices' order; where they are too few nobody is."""
        members = (self._members.get(device.name) for device in self._devices)
        self._members = {
            member.device.name: member
            for member in members
            if member is not None and member.device.name in self._opened.pending and stays(member)
        }
        if len(self._members) < self.threshold:
            reason = self._too_few(len(self._members))
            for name in sorted(self._opened.pending):
                self._opened.settle(name, reason)
            self._members = {}

    def _too_few(self, left: int) -> str:
        return f"aborted: {left} of {len(self._devices)} devices are left, the threshold is {self.threshold}"

    def _enter(self, stage: Stage) -> None:
        """Tell those who are connected; the others hear it when they come back."""
        self._stage = stage
        for member in list(self._members.values()):
            if member.device.outbox is not None:
                for item in self.due(member.device):
                    member.device.outbox.put_nowait(item)

    async def unmask(self) -> None:
        """`reveal`: with the updates that came whole, before anything is made of their sum."""
        if not self._members:
            self._stage = "over"
            return
        self._events.write("unmask_start", round=self.number)
        self._survivors = [
            member for name, member in self._members.items() if self._opened.outcomes[name] == "finished"
        ]
        left = len(self._survivors)
        try:
            if left < self.threshold:
                raise SecretError(self._too_few(left).removeprefix("aborted: "))
            self._enter("reveal")
            answers = await self._revealed()
            self._stage = "over"
            loop = asyncio.get_running_loop()
            cpu_s = await loop.run_in_executor(self._executor, self._take_masks_off, answers)
        except SecretError as error:
            self._stage = "over"
            self.total.void()
            for member in self._survivors:
                self._opened.outcomes[member.device.name] = f"aborted: {error}"
            log.warning("round %d: %s", self.number, error)
            self._events.write("unmask_end", round=self.number, survivors=left, reason=str(error))
        else:
            dropped = len(self._members) - left
            self._events.write(
                "unmask_end", round=self.number, survivors=left, dropped=dropped, cpu_s=cpu_s, reason=""
            )

    async def _revealed(self) -> list[Member]:
        """As many answers as the threshold. Raises SecretError."""

        def answers() -> list[Member]:
            return [member for member in self._survivors if member.seeds]

        def enough() -> bool:
            there = [m for m in self._survivors if m.seeds or m.device.name not in self._lost]
            return len(answers()) >= self.threshold or len(there) < self.threshold

        with suppress(TimeoutError):
            async with asyncio.timeout(self._options.stage_timeout_s):
                await self._changes.until(enough)
        if len(found := answers()) < self.threshold:
            raise SecretError(
                f"{len(found)} devices revealed their shares, the threshold is {self.threshold}"
            )
        return found[: self.threshold]

    def _take_masks_off(self, answers: Sequence[Member]) -> float:
        """In a thread; processor time that took, in s. Raises SecretError."""
        began = time.thread_time()
        seeds = [
            (1, combine({one.number: one.seeds[member.number] for one in answers}, self.threshold))
            for member in self._survivors
        ]
        use = purpose("mask", self._run_id, self.number)
        for dropped in self._members.values():
            if dropped in self._survivors:
                continue
            shares = {one.number: one.keys[dropped.number] for one in answers}
            pair = KeyPair(combine(shares, self.threshold))
            if pair.public != dropped.mask_key:
                raise SecretError(f"the shares of the key of '{dropped.device.name}' do not give its key")
            # What u added for v > u, and subtracted for v < u.
            seeds += [
                (1 if member.number < dropped.number else -1, pair.agree(member.mask_key, use))
                for member in self._survivors
            ]
        self.total.take_off(Masks(seeds, self.codec.ring_bits))
        return time.thread_time() - began


def _by_number(shares: Sequence[pb.Share], expected: set[int], length: int) -> dict[int, bytes]:
    """Shares by their numbers. Raises Refusal unless there is one of each, of that length."""
    found = {share.number: share.data for share in shares}
    if set(found) != expected or len(found) != len(shares) or any(len(d) != length for d in found.values()):
        raise Refusal(pb.STATUS_CORRUPT, f"{len(shares)} shares that are not those of the round's devices")
    return found
