"""Central training: devices send their training data once, the server trains on all of them.

The server itself imports no torch: beside it on its host runs its trainer, a client that joins as a device of
its own name, over the loopback. It reads the devices' files, trains the run's adapter and writes each
round's where the server would; none of that crosses the network. The first round waits for the data; at the
end of the last one the adapter goes down to every device.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from proto.adapter import LayoutError, adapter_file, load_adapter
from proto.exchange import TRAINER
from proto.federation_pb2 import ASK_ACCEPT, ASK_DATA, ASK_REPORT, UploadKey
from proto.lora import LoraLayout
from server.alone import LocalFederation
from server.collection import Collection
from server.devices import Device
from server.incoming import Wanted
from server.rounds import log


class TrainerLost(TimeoutError):
    """There is nobody to train, or nothing to train on: the run is over."""


class CentralFederation(LocalFederation):
    """`collected`: the folder of the devices' files; `deliver`: whether the last round brings the adapter."""

    def __init__(self, *, collected: Path, data_limit: int, deliver: bool, **federation: Any) -> None:
        super().__init__(**federation)
        self._collection = Collection(collected, data_limit, self._executor)
        self._deliver = deliver
        self._devices = [name for name in self.registry.devices if name != TRAINER]

    async def _run_round(self, number: int) -> int:
        gather, deliver = number == 1, number == self.plan.rounds and self._deliver
        cohort = [*(self._devices if gather or deliver else []), TRAINER]
        self.events.write("round_start", round=number, cohort=cohort, scheme="central")
        outcomes = dict.fromkeys(cohort, "unfinished")
        try:
            if gather:
                asked = await self._ask(number, self._devices, ASK_DATA)
                outcomes |= asked.outcomes
                log.info("the data of %d of %d devices", asked.finished, len(self._devices))
                if not asked.finished:
                    raise TrainerLost("no device has sent its data")
            trained = await self._ask(number, [TRAINER], ASK_REPORT)
            outcomes |= trained.outcomes
            if not trained.finished:
                raise TrainerLost(f"round {number}: the server's trainer is {trained.outcomes[TRAINER]}")
            if deliver:
                for name, outcome in (await self._bring(number)).items():
                    if not gather or outcomes[name] == "finished":  # The first thing that went wrong counts.
                        outcomes[name] = outcome
        finally:
            self.events.write("round_end", round=number, outcomes=outcomes, weight=0)
        return 1

    async def _bring(self, number: int) -> dict[str, str]:
        """The adapter of round `number`, to every device; how it ended for each."""
        path = adapter_file(self._checkpoints, number)
        layout, adapter = await asyncio.get_running_loop().run_in_executor(self._executor, load_adapter, path)
        if layout != self.model.layout:
            raise LayoutError(f"{path} is not of the run's layout")
        self.model.adapter = adapter
        devices = [self.registry.devices[name] for name in self._devices]
        payloads = self.downlink.open(number, adapter, devices)
        asked = await self._ask(number, self._devices, ASK_ACCEPT, payloads)
        return asked.outcomes

    def wanted(self, device: Device, key: UploadKey) -> Wanted:
        """As Federation.wanted; of training data, all that the device has."""
        return self._collection.wanted(device.name) if key.ask == ASK_DATA else super().wanted(device, key)

    @property
    def device_count(self) -> int:
        """The trainer has none of the data."""
        return len(self._devices)

    def lora_of(self, device: Device) -> LoraLayout:
        """There is one adapter."""
        return self.model.lora
