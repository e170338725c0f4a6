"""One round while it lasts: who is asked what, what has come of it, and when it closes."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence

from proto.codecs import Codec
from proto.federation_pb2 import ASK_DATA, ASK_UPDATE, Ask, UploadKey
from server.aggregation.fedavg import Tally
from server.collection import RAW
from server.downlink import Payloads
from server.incoming import Incoming
from server.tailored import TailoredPayloads
from server.uploads import Upload


class OpenRound:
    """One round, or what else is asked in it, while it lasts.

    Every device of the cohort is settled once: finished, lost, refused, late.
    """

    def __init__(
        self,
        number: int,
        cohort: Sequence[str],
        *,
        payloads: Payloads | TailoredPayloads,
        uplink: Codec,
        updates: Tally,
        share: float,
        ask: Ask = ASK_UPDATE,
    ) -> None:
        self.number = number
        self.ask = ask
        self.payloads = payloads
        self.uplink = uplink
        self.cohort = frozenset(cohort)
        self.pending = set(cohort)
        self.outcomes: dict[str, str] = {}
        self.uploads: dict[tuple[str, str], Incoming] = {}
        """By device and session: a restarted process never continues its predecessor's update."""
        self.guests: set[Upload] = set()
        """Late updates of earlier rounds that are being added to this one."""
        self.updates = updates
        self.kept: dict[str, Upload] = {}
        """Whole updates, by device, where each is needed by itself."""
        self._missing = math.ceil(share * len(cohort) - 1e-9)
        self._enough = asyncio.Event()
        self._done = asyncio.Event()
        if not self.pending:
            self._enough.set()
            self._done.set()

    @property
    def uplink_codec(self) -> str:
        """As RoundStart.uplink_codec; training data are in none."""
        return RAW if self.ask == ASK_DATA else self.uplink.name

    def is_asked(self, key: UploadKey) -> bool:
        """Whether this is what an upload of `key` answers."""
        return self.number == key.round and self.ask == key.ask

    def settle(self, name: str, outcome: str) -> bool:
        """Record how the round ended for one device; only the first outcome counts."""
        if name not in self.pending:
            return False
        self.pending.remove(name)
        self.outcomes[name] = outcome
        self._missing -= outcome == "finished"
        if not self.pending:
            self._done.set()
        if not self.pending or self._missing <= 0:
            self._enough.set()
        return True

    @property
    def finished(self) -> int:
        """How many devices have."""
        return sum(outcome == "finished" for outcome in self.outcomes.values())

    async def discard(self, name: str, *, but: Incoming | None = None) -> None:
        """Take back what has come of the device's updates, all `but` one. Closing the round does it again."""
        for (owner, _), upload in list(self.uploads.items()):
            if owner == name and upload is not but:
                await upload.discard()

    def received(self, name: str) -> int:
        """Payload bytes of the device's update that have come, whatever became of them."""
        return max((u.received for (owner, _), u in self.uploads.items() if owner == name), default=0)

    async def wait(self, deadline_s: float, grace_s: float) -> None:
        """Until every device is settled, or `grace_s` after enough have finished; the others are late."""
        try:
            async with asyncio.timeout(deadline_s):
                await self._enough.wait()
                async with asyncio.timeout(grace_s):
                    await self._done.wait()
        except TimeoutError:
            for name in sorted(self.pending):
                self.settle(name, "late")
