"""The gRPC service: messages in, calls on the federation, messages out. No policy lives here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

import grpc

from proto import federation_pb2 as pb
from proto import federation_pb2_grpc
from proto.privacy import message
from server.aggregation.fedavg import LARGEST_WEIGHT
from server.devices import Device, Outbox, Refusal, Sending
from server.open_round import OpenRound
from server.receiving import Uploads
from server.rounds import Federation, log

if TYPE_CHECKING:
    from server.secure_aggregation import SecureRound


class FederationService(federation_pb2_grpc.FederationServicer):
    """Answers the devices. Every refusal is a status and a reason, and the run goes on."""

    def __init__(self, federation: Federation, task_json: str) -> None:
        self._federation = federation
        self._registry = federation.registry
        self._events = federation.events
        self._task_json = task_json
        self._uploads = Uploads(federation)

    async def Join(self, request: pb.JoinRequest, context: grpc.aio.ServicerContext) -> pb.JoinReply:
        try:
            device = self._registry.join(request.client_id, request.session)
        except Refusal as refusal:
            return pb.JoinReply(
                status=refusal.status, reason=self._federation.note_refusal(request.client_id, refusal)
            )
        return pb.JoinReply(
            status=pb.STATUS_OK,
            run_id=self._registry.run_id,
            task_json=self._task_json,
            device_index=device.index,
            device_count=self._federation.device_count,
            privacy=message(self._federation.plan.privacy),
        )

    async def Register(
        self, request: pb.RegisterRequest, context: grpc.aio.ServicerContext
    ) -> pb.RegisterReply:
        try:
            device = self._registry.authenticate(request.client_id, request.session, request.run_id)
            layout = self._federation.lora_of(device).layout
            if request.layout_digest != layout.digest:
                theirs, ours = request.layout_digest.hex()[:12], layout.digest.hex()[:12]
                raise Refusal(
                    pb.STATUS_WRONG_LAYOUT,
                    f"adapter layout {theirs} is not the server's {ours} ({layout.size} values): "
                    "same base, rank and target modules on both sides?",
                )
            if not 1 <= request.examples <= LARGEST_WEIGHT:
                raise Refusal(pb.STATUS_NOT_FINITE, f"{request.examples} examples: 1 to {LARGEST_WEIGHT}")
        except Refusal as refusal:
            return pb.RegisterReply(
                status=refusal.status, reason=self._federation.note_refusal(request.client_id, refusal)
            )
        device.examples = request.examples
        self._events.write("registered", client=device.name, examples=device.examples)
        return pb.RegisterReply(status=pb.STATUS_OK)

    async def Tasks(self, request: pb.TasksRequest, context: grpc.aio.ServicerContext) -> None:
        # No generator: one learns of a broken connection when it is collected as garbage.
        try:
            device = self._registry.authenticate(request.client_id, request.session, request.run_id)
            if not device.examples:
                raise Refusal(pb.STATUS_UNKNOWN_CLIENT, f"'{device.name}' has not registered its layout")
        except Refusal as refusal:
            await context.abort(
                grpc.StatusCode.FAILED_PRECONDITION,
                self._federation.note_refusal(request.client_id, refusal),
            )
        outbox = self._registry.connect(device, request.started_round)
        try:
            async for instruction in self._instructions(device, outbox, request):
                await context.write(instruction)
        except grpc.aio.BaseError:
            log.info("the connection of %s broke", device.name)
        finally:
            self._registry.disconnect(device, outbox)
            open_round = self._federation.round
            if open_round and open_round.waits_for(device.name) and not device.connected:
                self._federation.watch_for_return(device.name)

    async def _instructions(
        self, device: Device, outbox: Outbox, held: pb.TasksRequest
    ) -> AsyncIterator[pb.Instruction]:
        """What one Tasks stream carries; a round that is open already is pushed at once."""
        open_round = self._federation.round
        if self._federation.finish_reason:
            outbox.put_nowait(None)
        elif open_round:
            for item in open_round.due(device):
                outbox.put_nowait(item)
        pushed: OpenRound | None = None
        while (number := await outbox.get()) is not None:
            if isinstance(number, pb.Instruction):
                yield number
                continue
            current = self._federation.round
            if current is None or current.number != number or current is pushed:
                continue  # It closed, or was queued twice, before we came to send it.
            if device.name not in current.cohort:
                continue  # What is open by now asks others.
            pushed = current
            async for instruction in self._push(device, outbox, current, held):
                yield instruction
                if self._federation.round is not current:
                    break  # Nobody waits for the rest any more.
        self._registry.dismiss(device)
        yield pb.Instruction(finish=pb.Finish(reason=self._federation.finish_reason))

    async def _push(
        self, device: Device, outbox: Outbox, current: OpenRound, held: pb.TasksRequest
    ) -> AsyncIterator[pb.Instruction]:
        """A round and its global adapter, from where the device was cut off."""
        broadcast = current.payloads.choose(device, held.held_payload)
        exchange = self._federation.exchange(current.number, device, broadcast)
        start = pb.RoundStart(
            round=current.number,
            downlink_codec=broadcast.codec.name,
            # Under masks: the codec beneath them.
            uplink_codec=self._federation.uplink.name if current.secure else current.uplink_codec,
            payload_bytes=broadcast.payload_bytes,
            payload_id=broadcast.id,
            offset=held.held_bytes if held.held_payload == broadcast.id else 0,
            error_feedback=self._federation.plan.error_feedback,
            base_round=broadcast.base_round,
            keep=current.payloads.keep,
            down_factors=exchange.down,
            trained_factors=exchange.trained,
            merge_rank=exchange.merge_rank,
            fresh_seed=exchange.fresh,
            cohort=len(current.cohort),
            ring_bits=current.secure.codec.ring_bits if current.secure else 0,
            weight=current.secure.weight(device) if current.secure else 0,
            ask=current.ask,
        )
        sending = Sending(current.number, broadcast, start.offset)
        if device.outbox is outbox:
            device.sending = sending
        self._events.write(
            "delivery_start" if current.ask == pb.ASK_ACCEPT else "download_start",
            round=current.number,
            client=device.name,
            kind=broadcast.kind,
            payload_bytes=start.payload_bytes,
            offset=start.offset,
        )
        yield pb.Instruction(round_start=start)
        async for chunk in broadcast.chunks(start.offset):
            sending.sent_bytes = chunk.offset + len(chunk.data)
            yield pb.Instruction(chunk=chunk)

    async def Upload(
        self, request_iterator: AsyncIterator[pb.UploadPart], context: grpc.aio.ServicerContext
    ) -> pb.UploadReply:
        first = await anext(aiter(request_iterator), None)
        if first is None or first.WhichOneof("kind") != "header":
            return pb.UploadReply(status=pb.STATUS_CORRUPT, reason="an upload starts with its header")
        return await self._uploads.receive(first, request_iterator)

    async def UploadStatus(self, request: pb.UploadKey, context: grpc.aio.ServicerContext) -> pb.UploadReply:
        return self._uploads.status(request)

    async def AdvertiseKeys(self, request: pb.PublicKeys, context: grpc.aio.ServicerContext) -> pb.StageReply:
        return self._staged(request.key, lambda secure, device: secure.take_keys(device, request))

    async def ShareSecrets(
        self, request: pb.SealedShares, context: grpc.aio.ServicerContext
    ) -> pb.StageReply:
        return self._staged(request.key, lambda secure, device: secure.take_shares(device, request))

    async def Reveal(self, request: pb.RevealedShares, context: grpc.aio.ServicerContext) -> pb.StageReply:
        return self._staged(request.key, lambda secure, device: secure.take_revealed(device, request))

    def _staged(self, key: pb.UploadKey, take: Callable[[SecureRound, Device], None]) -> pb.StageReply:
        """A device's answer in a stage of secure aggregation. One that is damaged ends its round."""
        opened = self._federation.round
        try:
            device = self._registry.authenticate(key.client_id, key.session, key.run_id)
            if opened is None or opened.secure is None or opened.number != key.round:
                raise Refusal(pb.STATUS_LATE, f"round {key.round} takes no keys or shares")
            take(opened.secure, device)
        except Refusal as refusal:
            if refusal.status == pb.STATUS_CORRUPT and opened is not None:
                self._federation.note_refusal(key.client_id, refusal, key.round)
                opened.settle(key.client_id, f"refused: {refusal.reason}")
            return pb.StageReply(status=refusal.status, reason=refusal.reason)
        return pb.StageReply(status=pb.STATUS_OK)
