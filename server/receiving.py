"""Updates as they come in: which are taken, into which round's sum, and how each ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from proto import federation_pb2 as pb
from proto.codecs import CodecError
from proto.payload import PayloadError
from server.aggregation.fedavg import OutOfRangeError
from server.devices import Device, Refusal
from server.incoming import Incoming
from server.late import discounted
from server.open_round import OpenRound
from server.rounds import Federation
from server.uploads import Upload

# How an arrival is on record, by what was asked for; an update, a report or data otherwise.
_ARRIVED = {pb.ASK_ACCEPT: "delivered"}

# A stranger using a device's name, or a retry that comes too late, must not end that device's round.
_SETTLE_NOTHING = (
    pb.STATUS_UNKNOWN_CLIENT,
    pb.STATUS_WRONG_RUN,
    pb.STATUS_WRONG_ROUND,
    pb.STATUS_ALREADY_HELD,
    pb.STATUS_LATE,
)


class Uploads:
    """The updates of a federation. Every one that is turned down is told why, and the round goes on."""

    def __init__(self, federation: Federation) -> None:
        self._federation = federation

    def status(self, key: pb.UploadKey) -> pb.UploadReply:
        """How much of an update has come."""
        try:
            self._target(key)
        except Refusal as refusal:
            return pb.UploadReply(status=refusal.status, reason=refusal.reason)
        upload = self._find(key)
        return pb.UploadReply(status=pb.STATUS_OK, received=upload.received if upload else 0)

    async def receive(self, first: pb.UploadPart, parts: AsyncIterator[pb.UploadPart]) -> pb.UploadReply:
        """One stream of an update: its header, then chunks from where the device means to go on."""
        header = first.header
        upload: Incoming | None = None
        try:
            device, current = self._target(header.key)
            upload = self._admit(header, device, current)
            if current is not None:
                await current.discard(device.name, but=upload)
            upload.message_bytes += first.ByteSize()
            async for part in _until_closed(parts, upload):
                upload.message_bytes += part.ByteSize()
                upload.take(part.chunk)
                await upload.room()
            arrived = time.monotonic()
            complete = await upload.absorbed()
            self._target(header.key)  # Still wanted?
            if not complete:
                if upload.received == header.payload_bytes:
                    raise CodecError(f"the update ends with byte {upload.received}, within a segment")
                return pb.UploadReply(
                    status=pb.STATUS_INCOMPLETE, reason="the stream ended early", received=upload.received
                )
            if current is not None and self._federation.round is current:
                self._count(header, device, current, upload, arrived)
            else:
                await self._count_late(header, device, upload, arrived)
        except PayloadError as error:
            return await self._refuse(header, upload, Refusal(pb.STATUS_CORRUPT, str(error)), settle=False)
        except CodecError as error:
            return await self._refuse(header, upload, Refusal(pb.STATUS_CORRUPT, str(error)))
        except OutOfRangeError as error:
            return await self._refuse(header, upload, Refusal(pb.STATUS_NOT_FINITE, str(error)))
        except OSError as error:
            reason = f"the server cannot keep the update: {error.strerror}"
            return await self._refuse(header, upload, Refusal(pb.STATUS_NO_SPACE, reason))
        except Refusal as refusal:
            return await self._refuse(header, upload, refusal)
        return pb.UploadReply(status=pb.STATUS_OK, received=upload.received)

    def _target(self, key: pb.UploadKey) -> tuple[Device, OpenRound | None]:
        """The device and the round it may upload to now; None if that has closed and late ones are taken."""
        federation = self._federation
        device = federation.registry.authenticate(key.client_id, key.session, key.run_id)
        current = federation.round
        if current is not None and current.is_asked(key):
            outcomes = current.outcomes
            if device.name in current.pending:
                return device, current
        else:
            outcomes = federation.outcomes.get((key.round, key.ask), {})
        outcome = outcomes.get(device.name)
        if outcome == "finished":
            raise Refusal(pb.STATUS_ALREADY_HELD, f"round {key.round} has the update of '{device.name}'")
        if outcome != "late":
            raise Refusal(pb.STATUS_WRONG_ROUND, f"round {key.round} is not open for '{device.name}'")
        if federation.plan.staleness_exponent is None or federation.finish_reason:
            reason = f"round {key.round} closed without the update of '{device.name}'"
            raise Refusal(pb.STATUS_LATE, reason)
        return device, None

    def _find(self, key: pb.UploadKey) -> Incoming | None:
        """What has come of an update in this session."""
        current = self._federation.round
        if current is not None and current.is_asked(key):
            return current.uploads.get((key.client_id, key.session))
        return self._federation.late_uploads.get((key.client_id, key.session, key.round))

    def _admit(self, header: pb.UploadHeader, device: Device, current: OpenRound | None) -> Incoming:
        """Check what the header announces before taking space for it."""
        federation, key = self._federation, header.key
        theirs, ours = header.adapter_crc32, federation.downlink.crc32
        if current is not None and theirs != ours:
            reason = f"trained from an adapter with checksum {theirs:08x}, the round's is {ours:08x}"
            raise Refusal(pb.STATUS_WRONG_VERSION, reason)
        device.version = key.round  # It could not have trained without the whole adapter.
        wanted = federation.wanted(device, key)
        if header.codec != wanted.codec:
            raise Refusal(
                pb.STATUS_WRONG_CODEC, f"update in {header.codec}, the round asks for {wanted.codec}"
            )
        if header.payload_bytes > wanted.most_bytes:
            raise Refusal(pb.STATUS_TOO_LONG, f"{header.payload_bytes} bytes announced, {wanted.because}")
        if (upload := self._find(key)) is not None:
            return upload
        if current is not None:
            upload = wanted.begin(header.payload_bytes, current.updates, device.examples)
            current.uploads[key.client_id, key.session] = upload
            device.update_began = time.monotonic()
        else:
            upload = wanted.begin(header.payload_bytes, None, 0)
            federation.late_uploads[key.client_id, key.session, key.round] = upload
        return upload

    def _count(
        self, header: pb.UploadHeader, device: Device, current: OpenRound, upload: Incoming, arrived: float
    ) -> None:
        """It came in time."""
        took_s = device.has_sent(upload.received, header.loss, arrived)
        self._note(_ARRIVED.get(current.ask, "upload_received"), header, upload, arrived, took_s=took_s)
        current.updates.count(upload.weight)
        is_update = current.ask == pb.ASK_UPDATE
        needed = is_update and self._federation.aggregator.needs_updates(current.number)
        upload.keep(bytes_too=needed)
        if needed:
            assert isinstance(upload, Upload)
            current.kept[device.name] = upload
        del current.uploads[device.name, header.key.session]
        current.settle(device.name, "finished")

    async def _count_late(
        self, header: pb.UploadHeader, device: Device, upload: Incoming, arrived: float
    ) -> None:
        """Its round has closed: it counts in the one that is open when all of it has been added there."""
        assert isinstance(upload, Upload)
        federation, key = self._federation, header.key
        exponent = federation.plan.staleness_exponent
        assert exponent is not None
        while True:
            host = await federation.until_open()
            staleness = host.number - key.round
            weight = discounted(device.examples, staleness, exponent)
            host.guests.add(upload)
            await upload.attach(host.updates, weight)
            await upload.absorbed()
            if federation.round is host:
                break
        self._target(key)  # Another stream of the same device may have been quicker.
        host.updates.count(weight)
        upload.keep()
        host.guests.discard(upload)
        federation.late_uploads.pop((device.name, key.session, key.round), None)
        federation.outcomes[key.round, key.ask][device.name] = "finished"
        used = {"used_in": host.number, "staleness": staleness, "weight": weight}
        self._note("late_update_used", header, upload, arrived, **used)

    def _note(
        self, event: str, header: pb.UploadHeader, upload: Incoming, arrived: float, **more: object
    ) -> None:
        """A whole update is on record with the time its last byte came."""
        self._federation.events.write(
            event,
            t=arrived,
            round=header.key.round,
            client=header.key.client_id,
            payload_bytes=upload.received,
            message_bytes=upload.message_bytes,
            loss=header.loss,
            steps=header.steps,
            **more,
        )

    async def _refuse(
        self, header: pb.UploadHeader, upload: Incoming | None, refusal: Refusal, *, settle: bool = True
    ) -> pb.UploadReply:
        """Turn an update down. A damaged chunk can be sent again; anything else ends the client's round."""
        federation, key = self._federation, header.key
        received = upload.received if upload else 0
        federation.note_refusal(key.client_id, refusal, key.round, received)
        if settle and refusal.status not in _SETTLE_NOTHING:
            outcome = f"refused: {refusal.reason}"
            if federation.round is not None and federation.round.is_asked(key):
                federation.round.settle(key.client_id, outcome)
            elif (key.round, key.ask) in federation.outcomes:
                federation.outcomes[key.round, key.ask][key.client_id] = outcome
            if upload is not None:
                await upload.discard()
        return pb.UploadReply(status=refusal.status, reason=refusal.reason, received=received)


async def _until_closed(
    parts: AsyncIterator[pb.UploadPart], upload: Incoming
) -> AsyncIterator[pb.UploadPart]:
    """The parts of a stream as they come, until it ends or its round does."""
    closed = asyncio.ensure_future(upload.closed.wait())
    try:
        while not closed.done():
            coming = asyncio.ensure_future(_next_of(parts))
            try:
                await asyncio.wait((coming, closed), return_when=asyncio.FIRST_COMPLETED)
                part = coming.result() if coming.done() else None
            finally:
                coming.cancel()
            if part is None:
                return
            yield part
    finally:
        closed.cancel()


async def _next_of(parts: AsyncIterator[pb.UploadPart]) -> pb.UploadPart | None:
    return await anext(parts, None)
