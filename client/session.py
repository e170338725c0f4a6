"""A device's session with the server: join, register, then rounds until it is told to finish.

One thread does everything in order; gRPC keeps the connection alive beneath it. A cut connection is
joined again, and an update that was under way resumes at the byte the server holds.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from dataclasses import field as dataclass_field

import grpc
import numpy as np

from client.counters import read_counters
from client.device import Compute
from client.trainers import build_trainer
from client.training import Trainer
from proto import codecs, federation_pb2_grpc
from proto import federation_pb2 as pb
from proto.adapter import Vector
from proto.events import EventLog
from proto.payload import Assembler, chunks

log = logging.getLogger("client")

_GRPC_OPTIONS = [
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 60_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 20_000),  # How long one attempt to connect may take.
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.enable_http_proxy", 0),
]
_PROGRESS_EVERY_S = 0.25
_CONNECT_TIMEOUT_S = 30.0
_UPLOAD_ATTEMPTS = 5


class SessionError(RuntimeError):
    """The server turned this device away, or cannot be reached; the message says which and why."""


@dataclass
class Update:
    """An encoded update until the server has it."""

    round_number: int
    codec: str
    payload: bytes
    steps: int
    loss: float
    attempt: int = 0


@dataclass
class Session:
    """One device's life in a run."""

    server: str
    client_id: str
    events: EventLog
    compute: Compute = dataclass_field(default_factory=Compute)
    reconnect_s: float = 60.0
    """How long to try to reach the server again before giving up."""

    def __post_init__(self) -> None:
        self._session = uuid.uuid4().hex
        self._run_id = ""
        self._trainer: Trainer | None = None
        self._unsent: Update | None = None
        self._done_round = 0

    def run(self) -> None:
        """Take part until the server says finish. Raises SessionError."""
        self.events.write("client_start", server=self.server)
        lost_at: float | None = time.monotonic()
        while True:
            try:
                with grpc.insecure_channel(self.server, options=_GRPC_OPTIONS) as channel:
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
            timeout=min(timeout_s, _CONNECT_TIMEOUT_S),
            wait_for_ready=True,
        )
        self._require_ok(joined.status, joined.reason)
        self._run_id = joined.run_id
        if self._trainer is None:
            self.events.write("prepare_start")
            self._trainer = build_trainer(
                joined.task_json, device_index=joined.device_index, device_count=joined.device_count
            )
            self.events.write("prepare_end", examples=self._trainer.examples)
        registered = stub.Register(
            pb.RegisterRequest(
                client_id=self.client_id,
                session=self._session,
                run_id=self._run_id,
                layout_digest=self._trainer.layout.digest,
                examples=self._trainer.examples,
            ),
            timeout=_CONNECT_TIMEOUT_S,
        )
        self._require_ok(registered.status, registered.reason)

    def _follow(self, stub: federation_pb2_grpc.FederationStub) -> bool:
        """Do what the Tasks stream says. Returns whether it said finish."""
        request = pb.TasksRequest(client_id=self.client_id, session=self._session, run_id=self._run_id)
        stream = stub.Tasks(request)
        self.events.write("connected", **asdict(read_counters()))
        if self._unsent is not None:
            self._send(stub)
        for instruction in stream:
            kind = instruction.WhichOneof("kind")
            if kind == "finish":
                log.info("finished: %s", instruction.finish.reason)
                return True
            if kind == "round_start":
                start = instruction.round_start
                adapter = self._receive(start, instruction.ByteSize(), stream)
                # A round that is pushed again after a reconnect has been done already.
                if start.round > self._done_round:
                    self._unsent = self._work(start, adapter)
                    self._done_round = start.round
                    self._send(stub)
        raise SessionError("the server ended the stream without a word")

    def _receive(self, start: pb.RoundStart, message_bytes: int, stream: Iterator[pb.Instruction]) -> Vector:
        """Gather the chunks of a round's global adapter; shape (layout.size,)."""
        assert self._trainer is not None
        size = self._trainer.layout.size
        codec = codecs.parse(start.downlink_codec)
        if start.payload_bytes > codec.encoded_bytes(size):
            raise SessionError(f"round {start.round}: {start.payload_bytes} bytes is no {codec.name} adapter")
        self.events.write("download_first", round=start.round, payload_bytes=start.payload_bytes)
        progress = _Progress(self.events, "download_progress", start.round)
        assembler = Assembler(start.payload_bytes)
        while not assembler.complete:
            instruction = next(stream, None)
            if instruction is None:
                raise SessionError(f"the server ended the stream in the middle of round {start.round}")
            message_bytes += instruction.ByteSize()
            assembler.add(instruction.chunk)
            progress.report(assembler.received)
        adapter = codec.decode(assembler.payload(), size)
        self.events.write(
            "download_end",
            round=start.round,
            payload_bytes=start.payload_bytes,
            message_bytes=message_bytes,
            **asdict(read_counters()),
        )
        return adapter

    def _work(self, start: pb.RoundStart, adapter: Vector) -> Update:
        """Train and encode: what goes up is the difference to the adapter that came down."""
        assert self._trainer is not None
        number = start.round
        progress = _Progress(self.events, "compute_progress", number)
        # A profile's time runs from here; measured compute begins when a core is free.
        began = time.monotonic()
        if self.compute.seconds_per_step is not None:
            self.events.write("compute_start", round=number)
        with self.compute.slot():
            if self.compute.seconds_per_step is None:
                self.events.write("compute_start", round=number)
            cpu = time.process_time()
            result = self._trainer.train(adapter, round_number=number, on_step=progress.report)
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
        codec = codecs.parse(start.uplink_codec)
        rng = np.random.default_rng(np.frombuffer(f"{self.client_id}/{number}".encode(), np.uint8))
        payload = codec.encode(result.vector - adapter, rng)
        self.events.write("encode_end", round=number, payload_bytes=len(payload), **asdict(read_counters()))
        return Update(number, codec.name, payload, result.steps, result.loss)

    def _send(self, stub: federation_pb2_grpc.FederationStub) -> None:
        """Upload the update; damaged or cut streams are sent again from where the server stands."""
        update = self._unsent
        assert update is not None
        key = pb.UploadKey(
            client_id=self.client_id,
            session=self._session,
            run_id=self._run_id,
            round=update.round_number,
        )
        offset = 0
        if update.attempt:
            held = stub.UploadStatus(key, timeout=_CONNECT_TIMEOUT_S)
            if held.status != pb.STATUS_OK:
                self._sent(update, held.status, held.reason)
                return
            offset = held.received
        while True:
            update.attempt += 1
            reply = stub.Upload(self._parts(update, key, offset))
            offset = reply.received
            again = reply.status in (pb.STATUS_CORRUPT, pb.STATUS_INCOMPLETE)
            if not again or update.attempt >= _UPLOAD_ATTEMPTS:
                self._sent(update, reply.status, reply.reason)
                return

    def _parts(self, update: Update, key: pb.UploadKey, offset: int) -> Iterator[pb.UploadPart]:
        """Header and chunks; gRPC takes the next part when the last is on its way."""
        header = pb.UploadHeader(
            key=key,
            attempt=update.attempt,
            codec=update.codec,
            payload_bytes=len(update.payload),
            offset=offset,
            steps=update.steps,
            loss=update.loss,
        )
        self.events.write("upload_start", round=update.round_number, attempt=update.attempt, offset=offset)
        progress = _Progress(self.events, "upload_progress", update.round_number)
        yield pb.UploadPart(header=header)
        for chunk in chunks(update.payload, offset):
            yield pb.UploadPart(chunk=chunk)
            progress.report(chunk.offset + len(chunk.data))

    def _sent(self, update: Update, status: pb.Status, reason: str) -> None:
        self._unsent = None
        self.events.write(
            "upload_end",
            round=update.round_number,
            status=pb.Status.Name(status),
            reason=reason,
            attempts=update.attempt,
            **asdict(read_counters()),
        )
        if status not in (pb.STATUS_OK, pb.STATUS_ALREADY_HELD):
            log.warning("round %d: update not taken: %s", update.round_number, reason)

    def _require_ok(self, status: pb.Status, reason: str) -> None:
        if status != pb.STATUS_OK:
            raise SessionError(f"{self.server} refused {self.client_id}: {reason}")


class _Progress:
    """Writes how far something is, a few times a second."""

    def __init__(self, events: EventLog, event: str, round_number: int) -> None:
        self._events, self._event, self._round = events, event, round_number
        self._last = 0.0

    def report(self, done: int) -> None:
        now = time.monotonic()
        if now - self._last >= _PROGRESS_EVERY_S:
            self._last = now
            self._events.write(self._event, round=self._round, done=done)
