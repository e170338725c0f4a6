"""Schemes in which no update goes up: who trains keeps an adapter of its own and reports what it has done.

Local: each device trains by itself, from the same initial adapter on, and what it makes stays with it.
"""

from __future__ import annotations

from collections.abc import Sequence

from proto import codecs
from proto.exchange import Exchange
from proto.federation_pb2 import ASK_REPORT, Ask
from proto.segments import Segments
from server.aggregation.fedavg import Tally
from server.broadcast import Broadcast
from server.devices import Device
from server.downlink import Payloads
from server.open_round import OpenRound
from server.rounds import Federation, log
from server.tailored import TailoredPayloads

_NOTHING = Exchange(down="")


class LocalFederation(Federation):
    """A round asks every device to train, and for a word when it has. The server makes no adapter."""

    async def _run_round(self, number: int) -> int:
        cohort = list(self.registry.devices)
        self.events.write("round_start", round=number, cohort=cohort, scheme="local")
        asked = await self._ask(number, cohort, ASK_REPORT)
        self.events.write("aggregate_start", round=number)
        self.events.write("round_end", round=number, outcomes=asked.outcomes, weight=0)
        finished = asked.finished
        log.info("round %d: %d of %d devices have trained", number, finished, len(cohort))
        return finished

    async def _ask(
        self,
        number: int,
        cohort: Sequence[str],
        ask: Ask,
        payloads: Payloads | TailoredPayloads | None = None,
    ) -> OpenRound:
        """Ask this of the cohort, with nothing or these payloads; returns when it has closed."""
        plan, payloads = self.plan, payloads or self._nothing()
        opened = OpenRound(
            number,
            cohort,
            payloads=payloads,
            uplink=self.uplink,
            updates=Tally(),
            share=plan.close_share,
            ask=ask,
        )
        self._push(opened)
        await payloads.encoded()
        await opened.wait(plan.deadline_s, plan.close_grace_s)
        self.round = None
        await payloads.encoded()  # For who was restarted meanwhile.
        await self._close(opened)
        return opened

    def _nothing(self) -> Payloads:
        """The payload of a round that brings nothing."""
        segments = Segments(codecs.parse("fp32"), 0)
        empty = Broadcast(
            segments, iter(()), folder=self._checkpoints, executor=self._executor, exchange=_NOTHING
        )
        return Payloads(empty, None, keep=False, first=None)

    def update_size(self, device: Device, number: int) -> int:
        """A report has no payload."""
        return 0
