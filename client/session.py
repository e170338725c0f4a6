"""A device's session with the server: join, register, then rounds until it is told to finish.

One thread does everything in order; gRPC keeps the connection alive beneath it. A cut connection is
joined again, and what was under way in either direction goes on at the byte where it was cut.
"""

from __future__ import annotations

import logging
import time
import uuid
import zlib
from dataclasses import asdict, dataclass
from dataclasses import field as dataclass_field
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from client.counters import read_counters
from client.device import Compute
from client.differential_privacy import PrivateUpdates
from client.download import Download
from client.feedback import Feedback
from client.own import OwnAdapter
from client.presence import presence
from client.secure_aggregation import SECURE_KINDS, SecureAggregation
from client.trainers import build_trainer
from client.training import Trainer
from client.upload import Receipt, Update, Upload
from proto import federation_pb2 as pb
from proto import federation_pb2_grpc
from proto.adapter import Vector
from proto.connection import connection_options
from proto.events import EventLog
from proto.exchange import ExchangeError, exchange_of
from proto.lora import LoraLayout
from proto.payload import PayloadError
from proto.privacy import privacy_of
from proto.progress import Progress

log = logging.getLogger("client")


def grpc_options(keepalive_s: float, connect_s: float) -> list[tuple[str, int]]:
    """gRPC's channel arguments.

    `min_reconnect_backoff_ms` is, whatever its name says, how long one attempt to connect may take: TCP's
    and HTTP/2's handshakes are seconds on a bad link, and a lost SYN costs one more. An attempt that is
    refused at once is repeated by the backoff.
    """
    return [
        *connection_options(keepalive_s),
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.min_reconnect_backoff_ms", round(1000 * connect_s)),
        ("grpc.max_reconnect_backoff_ms", 2_000),
        ("grpc.enable_http_proxy", 0),
    ]


class SessionError(RuntimeError):
    """The server turned this device away, or cannot be reached; the message says which and why."""


@dataclass
class Session:
    """One device's life in a run."""

    server: str
    client_id: str
    events: EventLog
    compute: Compute = dataclass_field(default_factory=Compute)
    reconnect_s: float = 60.0
    """How long to try to reach the server again, and to wait for a short answer, before giving up."""
    connect_s: float = 10.0
    """How long one attempt to connect may take."""
    keepalive_s: float = 60.0
    """How long the connection may be silent until it is probed."""
    adapters: Path | None = None
    """Where an adapter of its own is kept, round by round."""
    collected: Path | None = None
    """A folder of other devices' training data: this is the server's own trainer."""

    def __post_init__(self) -> None:
        self._session = uuid.uuid4().hex
        self._run_id = ""
        self._trainer: Trainer | None = None
        self._download: Download | None = None
        self._held: tuple[int, Vector] | None = None
        """The adapter to which a later round may bring the difference, and its round."""
        self._adapter: Vector | None = None
        """That of the last round where it trained one factor alone: a later one may bring the other only."""
        self._started_round = 0
        """The last round whose payload was whole: what it brought is in force here."""
        self._own = OwnAdapter(self.adapters)
        self._unsent: Upload | Receipt | None = None
        self._feedback: Feedback | None = None
        self._secure = SecureAggregation(self.events, self.reconnect_s)
        self._private: PrivateUpdates | None = None

    def run(self) -> None:
        """Take part until the server says finish. Raises SessionError."""
        self.events.write("client_start", server=self.server)
        options = grpc_options(self.keepalive_s, self.connect_s)
        lost_at: float | None = time.monotonic()
        while True:
            try:
                with grpc.insecure_channel(self.server, options=options) as channel:
                    stub = federation_pb2_grpc.FederationStub(channel)
                    lost_at = lost_at or time.monotonic()
                    self._join(stub, timeout_s=max(0.1, lost_at + self.reconnect_s - time.monotonic()))
                    lost_at = None
                    if self._follow(stub):
                        self.events.write("client_end")
                        return
            except grpc.RpcError as error:
                code, details = error.code(), error.details()
                self.events.write("connection_lost", code=code.name, details=details)
                if code is grpc.StatusCode.FAILED_PRECONDITION:
                    raise SessionError(f"{self.server} refused {self.client_id}: {details}") from error
                lost_at = lost_at or time.monotonic()
                if time.monotonic() - lost_at >= self.reconnect_s:
                    raise SessionError(
                        f"no server at {self.server} for {self.reconnect_s:g} s: {details}"
                    ) from error
                time.sleep(0.2)

    def _join(self, stub: federation_pb2_grpc.FederationStub, timeout_s: float) -> None:
        """Take a place, build the trainer the task asks for, agree on the layout."""
        joined = stub.Join(
            pb.JoinRequest(client_id=self.client_id, session=self._session),
            timeout=timeout_s,
            wait_for_ready=True,
        )
        self._require_ok(joined.status, joined.reason)
        self._run_id = joined.run_id
        if self._trainer is None:
            self.events.write("prepare_start")
            self._trainer = build_trainer(
                joined.task_json,
                device_index=joined.device_index,
                device_count=joined.device_count,
                collected=self.collected,
            )
            self.events.write("prepare_end", examples=self._trainer.examples)
        if (privacy := privacy_of(joined)) is not None:
            self._private = PrivateUpdates(privacy, joined.device_index, self.events)
        registered = stub.Register(
            pb.RegisterRequest(
                client_id=self.client_id,
                session=self._session,
                run_id=self._run_id,
                layout_digest=self._trainer.layout.digest,
                examples=1 if self._private else self._trainer.examples,
            ),
            timeout=self.reconnect_s,
        )
        self._require_ok(registered.status, registered.reason)

    def _follow(self, stub: federation_pb2_grpc.FederationStub) -> bool:
        """Do what the Tasks stream says. Returns whether it said finish."""
        stream = self._listen(stub)
        self._send(stub)
        for instruction in stream:
            kind = instruction.WhichOneof("kind")
            if kind == "finish":
                log.info("finished: %s", instruction.finish.reason)
                return True
            if kind in SECURE_KINDS:
                self._answer(stub, kind, instruction)
                continue
            download = self._receive(kind, instruction)
            # A round that is pushed again after a reconnect may have been done already.
            if download.complete and download.vector is not None:
                with presence(stream, self._connect_again):
                    self._unsent = self._work(download.start, download.take())
                try:
                    self._send(stub)
                except grpc.RpcError as error:
                    if error.code() is grpc.StatusCode.UNAVAILABLE and _says_finish(stream):
                        return True  # The run ended while this device trained, and the server is gone.
                    raise
        raise SessionError("the server ended the stream without a word")

    def _listen(self, stub: federation_pb2_grpc.FederationStub) -> Any:
        """Open the stream of tasks, from where it was cut off."""
        held = self._download
        stream = stub.Tasks(
            pb.TasksRequest(
                client_id=self.client_id,
                session=self._session,
                run_id=self._run_id,
                held_payload=held.start.payload_id if held else b"",
                held_bytes=held.received if held else 0,
                started_round=self._started_round,
            )
        )
        self.events.write("connected", **asdict(read_counters()))
        return stream

    def _connect_again(self) -> tuple[grpc.Channel, Any]:
        """Another connection of this session, beside the one that broke."""
        self.events.write("connection_lost", code="", details="while training")
        channel = grpc.insecure_channel(self.server, options=grpc_options(self.keepalive_s, self.connect_s))
        try:
            stub = federation_pb2_grpc.FederationStub(channel)
            self._join(stub, timeout_s=self.reconnect_s)
            return channel, self._listen(stub)
        except Exception:
            channel.close()
            raise

    def _receive(self, kind: str, instruction: pb.Instruction) -> Download:
        """The global adapter that is coming down, after one more message of it."""
        try:
            if kind == "round_start":
                start = instruction.round_start
                if self._download is None or self._download.start.payload_id != start.payload_id:
                    # Another payload than before: of that, the rest will not come.
                    self._download = None
                    size = exchange_of(start).down_size(self._lora)
                    self._download = Download(start, size, self.events, self._take_held(start.base_round))
                self._download.count(instruction)
            elif self._download is not None:
                self._download.add(instruction)
        except (PayloadError, ExchangeError) as error:
            raise SessionError(f"{self.server} sent no adapter: {error}") from error
        if self._download is None:
            raise SessionError(f"{self.server} sent a chunk of no round")
        return self._download

    @property
    def _lora(self) -> LoraLayout:
        """The device's own layout."""
        assert self._trainer is not None
        return LoraLayout(self._trainer.layout)

    def _take_held(self, round_number: int) -> Vector | None:
        """The adapter of that round, if this device holds it; whichever it holds, it does no longer."""
        held, self._held = self._held, None
        return held[1] if held is not None and held[0] == round_number else None

    def _work(self, start: pb.RoundStart, payload: Vector) -> Upload | Receipt:
        """Do what the round asks for; what goes up for it."""
        assert self._trainer is not None
        self._started_round = start.round
        ids = {"client_id": self.client_id, "session": self._session, "run_id": self._run_id}
        key = pb.UploadKey(**ids, round=start.round, ask=start.ask)
        if start.ask == pb.ASK_DATA:
            told = {"loss": float("nan")}
            return Upload(key, start.uplink_codec, self._trainer.data(), told, self.events)
        if start.ask == pb.ASK_ACCEPT:
            return Receipt(key, start.uplink_codec, self.events)
        return self._train(key, start, payload)

    def _train(self, key: pb.UploadKey, start: pb.RoundStart, payload: Vector) -> Update:
        """Merge what there is to merge, and train: what goes up is how the trained factors have changed, or,
        of an adapter of its own, nothing."""
        assert self._trainer is not None
        number, exchange, lora = start.round, exchange_of(start), self._lora
        by_itself = start.ask == pb.ASK_REPORT
        progress = Progress(self.events, "compute_progress", number)
        # A profile's time runs from here; measured compute begins when a core is free.
        began = time.monotonic()
        if self.compute.seconds_per_step is not None:
            self.events.write("compute_start", round=number)
        with self.compute.slot():
            if self.compute.seconds_per_step is None:
                self.events.write("compute_start", round=number)
            cpu = time.process_time()
            held = self._own.before(number, self._trainer) if by_itself else self._adapter
            adapter, merge = exchange.open(lora, payload, held)
            if (merge_layout := exchange.merge_layout(lora)) is not None:
                self._trainer.merge(merge_layout, merge)
            del payload, merge, held  # Of a round's merge nothing is left but the weights.
            result = self._trainer.train(
                adapter, round_number=number, trained=exchange.trained, on_step=progress.report
            )
            if by_itself:
                self._own.keep(number, self._trainer.layout, result.vector)
            cpu = time.process_time() - cpu
        hold_s = self.compute.hold_s(result.steps, time.monotonic() - began)
        time.sleep(max(0.0, hold_s))
        self.events.write(
            "compute_end",
            round=number,
            steps=result.steps,
            loss=result.loss,
            cpu_s=cpu,
            overrun_s=max(0.0, -hold_s),
        )
        told = {"steps": result.steps, "loss": result.loss}
        if by_itself:
            return Update(key, start.uplink_codec, result.vector[:0], told, self.events)
        update = lora.take(result.vector, exchange.trained)
        np.subtract(update, lora.take(adapter, exchange.trained), out=update)
        self._adapter = None if exchange.trained == "AB" else adapter
        if start.error_feedback:
            if self._private:
                raise SessionError(f"{self.server} asks for error feedback, which no clipping bounds")
            self._feedback = self._feedback or Feedback(self.events, number)
            self._feedback.add_to(update)
        crc = 0
        if start.keep:
            self._held = number, adapter
            crc = zlib.crc32(adapter.data)
        told["adapter_crc32"] = crc
        if self._private is not None:
            told |= self._private.apply(update, number, start.cohort)
        encoder = self._secure.encoder(start)
        return Update(key, start.uplink_codec, update, told, self.events, encoder)

    def _answer(
        self, stub: federation_pb2_grpc.FederationStub, kind: str, instruction: pb.Instruction
    ) -> None:
        """What secure aggregation asks of this device."""
        number = getattr(instruction, kind).round
        self._secure.answer(stub, self._key(number), instruction)
        # Not before: the others waited. Now the adapter is on its way.
        if kind == "delivery" and number > 1 and self._trainer is not None:
            self._trainer.anticipate(number)

    def _key(self, number: int) -> pb.UploadKey:
        """What tells this device's part in round `number` from all others."""
        return pb.UploadKey(
            client_id=self.client_id, session=self._session, run_id=self._run_id, round=number
        )

    def _send(self, stub: federation_pb2_grpc.FederationStub) -> None:
        """Upload what there is to upload; a cut leaves it for the next connection."""
        if (update := self._unsent) is not None:
            taken = update.send(stub, timeout_s=self.reconnect_s)
            self._unsent = None
            if taken and self._feedback is not None and isinstance(update, Update):
                self._feedback.settle(update.vector, update.encoder, update.round_number)
            if self._trainer is not None and not self._secure.hides(update.round_number):
                self._trainer.anticipate(update.round_number + 1)

    def _require_ok(self, status: pb.Status, reason: str) -> None:
        if status != pb.STATUS_OK:
            raise SessionError(f"{self.server} refused {self.client_id}: {reason}")


def _says_finish(stream: Any) -> bool:
    """Whether a stream whose connection is gone still holds the server's last word."""
    try:
        return any(instruction.WhichOneof("kind") == "finish" for instruction in stream)
    except grpc.RpcError:
        return False
