"""The gRPC service: messages in, calls on the federation, messages out. No policy lives here."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import grpc

from proto import federation_pb2 as pb
from proto import federation_pb2_grpc
from proto.codecs import CodecError
from proto.payload import Assembler, PayloadError, chunks
from server.aggregation.fedavg import LARGEST_WEIGHT, OutOfRangeError
from server.devices import Device, Outbox, Refusal
from server.rounds import Federation, OpenRound, log


class FederationService(federation_pb2_grpc.FederationServicer):
    """Answers the devices. Every refusal is a status and a reason, and the run goes on."""

    def __init__(self, federation: Federation, task_json: str) -> None:
        self._federation = federation
        self._registry = federation.registry
        self._events = federation.events
        self._task_json = task_json

    async def Join(self, request: pb.JoinRequest, context: grpc.aio.ServicerContext) -> pb.JoinReply:
        try:
            device = self._registry.join(request.client_id, request.session)
        except Refusal as refusal:
            return pb.JoinReply(status=refusal.status, reason=self._refused(request.client_id, refusal))
        return pb.JoinReply(
            status=pb.STATUS_OK,
            run_id=self._registry.run_id,
            task_json=self._task_json,
            device_index=device.index,
            device_count=len(self._registry.devices),
        )

    async def Register(
        self, request: pb.RegisterRequest, context: grpc.aio.ServicerContext
    ) -> pb.RegisterReply:
        try:
            device = self._registry.authenticate(request.client_id, request.session, request.run_id)
            layout = self._federation.layout
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
            return pb.RegisterReply(status=refusal.status, reason=self._refused(request.client_id, refusal))
        device.examples = request.examples
        self._events.write("registered", client=device.name, examples=device.examples)
        return pb.RegisterReply(status=pb.STATUS_OK)

    async def Tasks(
        self, request: pb.TasksRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.Instruction]:
        try:
            device = self._registry.authenticate(request.client_id, request.session, request.run_id)
            if not device.examples:
                raise Refusal(pb.STATUS_UNKNOWN_CLIENT, f"'{device.name}' has not registered its layout")
        except Refusal as refusal:
            await context.abort(
                grpc.StatusCode.FAILED_PRECONDITION, self._refused(request.client_id, refusal)
            )
        outbox = await self._registry.connect(device)
        try:
            async for instruction in self._instructions(device, outbox):
                yield instruction
        finally:
            await self._registry.disconnect(device, outbox)
            open_round = self._federation.round
            if open_round and device.name in open_round.pending and not device.connected:
                self._federation.watch_for_return(device.name)

    async def _instructions(self, device: Device, outbox: Outbox) -> AsyncIterator[pb.Instruction]:
        """What one Tasks stream carries; a round that is open already is pushed at once."""
        open_round = self._federation.round
        if self._federation.finish_reason:
            outbox.put_nowait(None)
        elif open_round and device.name in open_round.pending:
            outbox.put_nowait(open_round.number)
        pushed = 0
        while (number := await outbox.get()) is not None:
            current = self._federation.round
            if current is None or current.number != number or number == pushed:
                continue  # It closed, or was queued twice, before we came to send it.
            pushed = number
            start = pb.RoundStart(
                round=number,
                downlink_codec=current.downlink.name,
                uplink_codec=current.uplink.name,
                payload_bytes=len(current.payload),
            )
            self._events.write(
                "download_start", round=number, client=device.name, payload_bytes=len(current.payload)
            )
            yield pb.Instruction(round_start=start)
            for chunk in chunks(current.payload):
                yield pb.Instruction(chunk=chunk)
        await self._registry.dismiss(device)
        yield pb.Instruction(finish=pb.Finish(reason=self._federation.finish_reason))

    async def Upload(
        self, request_iterator: AsyncIterator[pb.UploadPart], context: grpc.aio.ServicerContext
    ) -> pb.UploadReply:
        first = await anext(aiter(request_iterator), None)
        if first is None or first.WhichOneof("kind") != "header":
            return pb.UploadReply(status=pb.STATUS_CORRUPT, reason="an upload starts with its header")
        header = first.header
        name = header.key.client_id
        try:
            device, current = self._open_round_of(header.key)
            assembler = self._admit(header, current)
            if not assembler.received:
                device.update_began = time.monotonic()
            message_bytes = first.ByteSize()
            async for part in request_iterator:
                message_bytes += part.ByteSize()
                assembler.add(part.chunk)
            if not assembler.complete:
                return pb.UploadReply(
                    status=pb.STATUS_INCOMPLETE, reason="the stream ended early", received=assembler.received
                )
            took_s = device.has_sent(assembler.received, header.loss)
            self._events.write(
                "upload_received",
                round=current.number,
                client=name,
                payload_bytes=assembler.received,
                message_bytes=message_bytes,
                took_s=took_s,
                loss=header.loss,
                steps=header.steps,
            )
            if name not in current.pending:
                return pb.UploadReply(status=pb.STATUS_WRONG_ROUND, reason="this round has closed")
            update = current.uplink.decode(assembler.payload(), current.size)
            current.updates.add(update, device.examples)
        except PayloadError as error:
            return self._refuse_update(header, Refusal(pb.STATUS_CORRUPT, str(error)), settle=False)
        except CodecError as error:
            return self._refuse_update(header, Refusal(pb.STATUS_CORRUPT, str(error)))
        except OutOfRangeError as error:
            return self._refuse_update(header, Refusal(pb.STATUS_NOT_FINITE, str(error)))
        except Refusal as refusal:
            return self._refuse_update(header, refusal)
        current.uploads.pop((name, device.session))
        current.settle(name, "finished")
        return pb.UploadReply(status=pb.STATUS_OK, received=assembler.received)

    async def UploadStatus(self, request: pb.UploadKey, context: grpc.aio.ServicerContext) -> pb.UploadReply:
        try:
            _, current = self._open_round_of(request)
        except Refusal as refusal:
            return pb.UploadReply(status=refusal.status, reason=refusal.reason)
        upload = current.uploads.get((request.client_id, request.session))
        return pb.UploadReply(status=pb.STATUS_OK, received=upload.received if upload else 0)

    def _open_round_of(self, key: pb.UploadKey) -> tuple[Device, OpenRound]:
        """The device and the round it may upload to now."""
        device = self._registry.authenticate(key.client_id, key.session, key.run_id)
        current = self._federation.round
        if current and current.number == key.round and current.outcomes.get(device.name) == "finished":
            raise Refusal(pb.STATUS_ALREADY_HELD, f"round {key.round} has the update of '{device.name}'")
        if current is None or current.number != key.round or device.name not in current.pending:
            raise Refusal(pb.STATUS_WRONG_ROUND, f"round {key.round} is not open for '{device.name}'")
        return device, current

    def _admit(self, header: pb.UploadHeader, current: OpenRound) -> Assembler:
        """Check what the header announces before taking memory for it."""
        if header.codec != current.uplink.name:
            raise Refusal(
                pb.STATUS_WRONG_CODEC, f"update in {header.codec}, the round asks for {current.uplink.name}"
            )
        most = current.uplink.encoded_bytes(current.size)
        if header.payload_bytes > most:
            raise Refusal(
                pb.STATUS_TOO_LONG,
                f"{header.payload_bytes} bytes announced, {current.size} values make {most}",
            )
        sender = header.key.client_id, header.key.session
        if sender not in current.uploads:
            current.uploads[sender] = Assembler(header.payload_bytes)
        return current.uploads[sender]

    def _refuse_update(
        self, header: pb.UploadHeader, refusal: Refusal, *, settle: bool = True
    ) -> pb.UploadReply:
        """Turn an update down. A damaged chunk can be sent again; anything else ends the client's round."""
        name = header.key.client_id
        reason = self._refused(name, refusal, round_number=header.key.round)
        current = self._federation.round
        upload = current.uploads.get((name, header.key.session)) if current else None
        received = upload.received if upload else 0
        if settle and current and refusal.status not in _SETTLE_NOTHING:
            current.settle(name, f"refused: {refusal.reason}")
        return pb.UploadReply(status=refusal.status, reason=reason, received=received)

    def _refused(self, name: str, refusal: Refusal, round_number: int | None = None) -> str:
        status = pb.Status.Name(refusal.status)
        self._events.write("refused", client=name, status=status, reason=refusal.reason, round=round_number)
        log.warning("refused %s: %s", name, refusal.reason)
        return refusal.reason


# A stranger using a device's name, or a retry that comes too late, must not end that device's round.
_SETTLE_NOTHING = (
    pb.STATUS_UNKNOWN_CLIENT,
    pb.STATUS_WRONG_RUN,
    pb.STATUS_WRONG_ROUND,
    pb.STATUS_ALREADY_HELD,
)
