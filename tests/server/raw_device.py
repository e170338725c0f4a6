"""A device made of bare stubs, and the server it talks to: a real process, real gRPC over loopback.

The device can do what a good client does, and much that a good client never would.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np

from proto import federation_pb2 as pb
from proto.adapter import AdapterLayout, Vector, load_adapter, save_adapter
from proto.federation_pb2_grpc import FederationStub
from proto.payload import Intake, chunks

ROOT = Path(__file__).parents[2]
LAYOUT = AdapterLayout.of({"a.lora_A.weight": (4, 1250), "a.lora_B.weight": (1250, 4)})  # 10,000 values
INITIAL: Vector = np.linspace(-1, 1, LAYOUT.size, dtype=np.float32)
FP32_BYTES = 4 * LAYOUT.size
PIECE = 4096  # an upload here is ten chunks
TIMEOUT_S = 30


def free_address() -> str:
    """A loopback address nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@dataclass
class Server:
    """A `python -m server` process."""

    process: subprocess.Popen[bytes]
    address: str
    folder: Path

    @classmethod
    def start(
        cls, folder: Path, devices: str, *options: str, address: str = "", layout: AdapterLayout = LAYOUT
    ) -> Server:
        """Start it in `folder` for the comma-separated `devices`; it need not be ready yet."""
        folder.mkdir(exist_ok=True)
        address = address or free_address()
        initial = INITIAL if layout is LAYOUT else np.zeros(layout.size, np.float32)
        save_adapter(folder / "initial.safetensors", layout, initial)
        command = [sys.executable, "-m", "server", "--listen", address, "--devices", devices]
        command += ["--initial", str(folder / "initial.safetensors"), "--run-id", "run-7"]
        command += ["--checkpoints", str(folder / "adapters"), "--events", str(folder / "events.jsonl")]
        with (folder / "stderr").open("wb") as stderr:
            process = subprocess.Popen([*command, *options], cwd=ROOT, stderr=stderr)
        return cls(process, address, folder)

    def wait(self) -> int:
        """Its exit code."""
        return self.process.wait(TIMEOUT_S)

    @property
    def complaint(self) -> str:
        """All it has said."""
        return (self.folder / "stderr").read_text()

    def events(self, event: str) -> list[dict[str, object]]:
        """Its events of one kind."""
        records = map(json.loads, (self.folder / "events.jsonl").read_text().splitlines())
        return [record for record in records if record["event"] == event]

    def outcomes(self) -> list[object]:
        """How each round ended: device -> outcome."""
        return [record["outcomes"] for record in self.events("round_end")]

    def checkpoint(self, number: int) -> Vector:
        """The global adapter after round `number`."""
        return load_adapter(self.folder / "adapters" / f"round-{number:04d}.safetensors")[1]


class Device:
    """One device in one process life; `with` closes its connection."""

    def __init__(self, server: Server, name: str, session: str = "") -> None:
        self.name = name
        self.session = session or uuid.uuid4().hex
        self._channel = grpc.insecure_channel(server.address, options=[("grpc.enable_http_proxy", 0)])
        self.stub = FederationStub(self._channel)
        self.tasks: Iterator[pb.Instruction] = iter(())

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()

    def cut(self) -> None:
        """The connection ends; whatever was under way is cancelled."""
        self._channel.close()

    def join(self) -> pb.JoinReply:
        request = pb.JoinRequest(client_id=self.name, session=self.session)
        return self.stub.Join(request, timeout=TIMEOUT_S, wait_for_ready=True)

    def register(
        self, *, examples: int = 1, run_id: str = "run-7", digest: bytes = LAYOUT.digest
    ) -> pb.RegisterReply:
        request = pb.RegisterRequest(
            client_id=self.name, session=self.session, run_id=run_id, layout_digest=digest, examples=examples
        )
        return self.stub.Register(request, timeout=TIMEOUT_S)

    def listen(self, held_payload: bytes = b"", held_bytes: int = 0) -> None:
        """Open the stream of tasks."""
        request = pb.TasksRequest(
            client_id=self.name,
            session=self.session,
            run_id="run-7",
            held_payload=held_payload,
            held_bytes=held_bytes,
        )
        self.tasks = self.stub.Tasks(request, timeout=2 * TIMEOUT_S)

    def enter(self, examples: int = 1, digest: bytes = LAYOUT.digest) -> Device:
        """All that comes before the first round."""
        assert self.join().status == pb.STATUS_OK
        assert self.register(examples=examples, digest=digest).status == pb.STATUS_OK
        self.listen()
        return self

    def next_round(self) -> tuple[pb.RoundStart, bytes]:
        """Wait for a round; its start and the payload of the global adapter."""
        instruction = next(self.tasks)
        assert instruction.WhichOneof("kind") == "round_start", instruction
        start = instruction.round_start
        intake, payload = Intake(start.payload_bytes), bytearray()
        intake.received = start.offset
        while start.offset + len(payload) < start.payload_bytes:
            payload += intake.accept(next(self.tasks).chunk)
        return start, bytes(payload)

    def finished(self) -> bool:
        """Whether the server now says that all rounds are done."""
        return [instruction.WhichOneof("kind") for instruction in self.tasks] == ["finish"]

    def key(self, round_number: int, run_id: str = "run-7", ask: pb.Ask = pb.ASK_UPDATE) -> pb.UploadKey:
        ids = {"client_id": self.name, "session": self.session, "run_id": run_id}
        return pb.UploadKey(**ids, round=round_number, ask=ask)

    def header(
        self,
        payload_bytes: int = FP32_BYTES,
        *,
        round_number: int = 1,
        offset: int = 0,
        codec: str = "fp32",
        run_id: str = "run-7",
        loss: float = float("nan"),
        crc32: int = 0,
        ask: pb.Ask = pb.ASK_UPDATE,
    ) -> pb.UploadPart:
        return pb.UploadPart(
            header=pb.UploadHeader(
                key=self.key(round_number, run_id, ask),
                attempt=1,
                codec=codec,
                payload_bytes=payload_bytes,
                offset=offset,
                loss=loss,
                adapter_crc32=crc32,
            )
        )

    def send(self, parts: Iterable[pb.UploadPart]) -> pb.UploadReply:
        """One upload stream of any parts."""
        return self.stub.Upload(iter(parts), timeout=TIMEOUT_S)

    def upload(
        self,
        update: Vector | bytes,
        *,
        round_number: int = 1,
        offset: int = 0,
        codec: str = "fp32",
        loss: float = float("nan"),
        crc32: int = 0,
        ask: pb.Ask = pb.ASK_UPDATE,
    ) -> pb.UploadReply:
        """A well-formed upload from `offset` on."""
        payload = update if isinstance(update, bytes) else update.astype("<f4").tobytes()
        more = {"offset": offset, "codec": codec, "loss": loss, "crc32": crc32}
        header = self.header(len(payload), round_number=round_number, ask=ask, **more)
        return self.send([header, *pieces(payload, offset)])

    def upload_part_and_stall(self, update: Vector, count: int) -> threading.Event:
        """Start an upload, send `count` chunks, and the others once the event is set that is returned; it is
        returned when those have come."""
        release = threading.Event()

        def parts() -> Iterator[pb.UploadPart]:
            yield self.header()
            parts = pieces(update.astype("<f4").tobytes())
            yield from parts[:count]
            release.wait(TIMEOUT_S)
            yield from parts[count:]

        self._stalled = self.stub.Upload.future(parts(), timeout=TIMEOUT_S)  # cancelled if nobody holds it
        limit = time.monotonic() + TIMEOUT_S
        while self.held() < count * PIECE:
            assert time.monotonic() < limit
            time.sleep(0.02)
        return release

    def stalled_reply(self) -> pb.UploadReply:
        """What the server says to the upload that stalled."""
        return self._stalled.result()

    def held(self, round_number: int = 1, ask: pb.Ask = pb.ASK_UPDATE) -> int:
        """Bytes of this device's update that the server says it holds."""
        reply = self.stub.UploadStatus(self.key(round_number, ask=ask), timeout=TIMEOUT_S)
        assert reply.status == pb.STATUS_OK, reply
        return reply.received


def pieces(payload: bytes, offset: int = 0, piece_bytes: int = PIECE) -> list[pb.UploadPart]:
    """The chunks of an upload."""
    made = chunks([payload[offset:]], offset, chunk_bytes=piece_bytes)
    return [pb.UploadPart(chunk=chunk) for chunk in made]


def constant(value: float) -> Vector:
    """An update of one value everywhere."""
    return np.full(LAYOUT.size, value, np.float32)
