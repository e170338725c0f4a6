"""Error feedback: what a codec leaves out of one update is in the next, and nothing is counted twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from running import INITIAL, LAYOUT, Federation

from client.feedback import Feedback
from client.session import Session
from client.synthetic import SyntheticTrainer
from client.upload import Update
from proto import codecs
from proto import federation_pb2 as pb
from proto.adapter import Vector, load_adapter
from proto.events import EventLog
from proto.segments import SEGMENT_VALUES, SegmentDecoder, SegmentEncoder

SIZE = SEGMENT_VALUES + 100


class Coarse:
    """Two levels, drawn at random: what is sent is hardly what was meant."""

    name = "coarse"
    bits_per_parameter = 8.0
    unbiased = True
    wants_error_feedback = True
    fixed_length = True

    def encoded_bytes(self, size: int) -> int:
        return size

    def encode(self, vector: Vector, rng: np.random.Generator) -> bytes:
        return np.floor(vector / 2 + rng.random(vector.size)).astype(np.int8).tobytes()

    def decode(self, payload: bytes, size: int) -> Vector:
        return 2 * np.frombuffer(payload, np.int8).astype(np.float32)


def decoded(codec: codecs.Codec, encoder: SegmentEncoder) -> Vector:
    """What the server makes of it."""
    decoder = SegmentDecoder(codec, SIZE)
    return np.concatenate([v for piece in encoder.pieces() for _, v in decoder.feed(piece)])


@settings(max_examples=20, deadline=None)
@pytest.mark.parametrize("codec", [codecs.parse("int8"), Coarse()], ids=lambda codec: codec.name)
@given(taken=st.lists(st.booleans(), min_size=1, max_size=6), seed=st.integers(0, 99))
def test_what_the_server_got_is_what_was_meant_but_for_one_residual(
    codec: codecs.Codec, taken: list[bool], seed: int
) -> None:
    """Over the rounds whose updates were taken: sum of decoded + residual = sum of true updates."""
    rng = np.random.default_rng(seed)
    feedback = Feedback(EventLog(None, "dev0"), 1)
    got, meant = np.zeros(SIZE), np.zeros(SIZE)
    for number, is_taken in enumerate(taken, 1):
        vector = rng.standard_normal(SIZE, np.float32)
        true = vector.copy()
        owed = None if feedback.residual is None else feedback.residual.copy()
        feedback.add_to(vector)
        encoder = SegmentEncoder(codec, vector, (number,))
        sent = decoded(codec, encoder)
        if is_taken:
            feedback.settle(vector, encoder, number)
            got += sent
            meant += true
        elif owed is None:
            assert feedback.residual is None
        else:
            np.testing.assert_array_equal(feedback.residual, owed)
    residual = np.zeros(SIZE) if feedback.residual is None else feedback.residual
    np.testing.assert_allclose(got + residual, meant, rtol=0, atol=1e-5)
    assert np.abs(residual).max() <= 2.001  # A level of the coarse one; never the rounds' losses added up.


class Answering:
    """A server's stub that takes every part of an upload and gives one answer."""

    def __init__(self, status: pb.Status) -> None:
        self._status = status

    def Upload(self, parts: Iterator[pb.UploadPart]) -> pb.UploadReply:
        list(parts)
        return pb.UploadReply(status=self._status, reason="as the test wishes")


@pytest.mark.parametrize(
    ("status", "taken"),
    [
        (pb.STATUS_OK, True),
        (pb.STATUS_ALREADY_HELD, True),  # The reply to it was lost.
        (pb.STATUS_LATE, False),
        (pb.STATUS_NOT_FINITE, False),
    ],
)
def test_only_an_update_that_was_taken_changes_what_is_owed(status: pb.Status, taken: bool) -> None:
    silence = EventLog(None, "dev0")
    session = Session("127.0.0.1:9", "dev0", silence)
    session._feedback = Feedback(silence, 1)
    key = pb.UploadKey(client_id="dev0", round=1)
    update = np.full(SIZE, 0.3, np.float32)
    update[0] = 100
    session._unsent = Update(key, "int8", update, {}, silence)
    session._send(Answering(status))  # type: ignore[arg-type]
    assert (session._feedback.residual is not None) == taken
    assert session._unsent is None


def test_a_device_sends_on_what_its_codec_left_out(federation: Callable[..., Federation]) -> None:
    """Two rounds of int8 by a real client: the second update has the first one's residual in it."""
    options = ["--rounds", 2, "--uplink-codec", "int8", "--error-feedback", "on"]
    run = federation("dev0", *options)
    client = run.client("dev0")
    assert client.wait() == 0, client.complaint
    assert run.server.wait() == 0
    trainer = SyntheticTrainer(LAYOUT, device_index=0, steps=4, examples=10, seed=5)
    adapter, residual = INITIAL, np.zeros(LAYOUT.size, np.float32)
    events = client.events("error_feedback")
    for number, event in enumerate(events, 1):
        update = trainer.train(adapter, round_number=number).vector - adapter
        meant = update + residual
        int8 = codecs.parse("int8")
        sent = int8.decode(int8.encode(meant, np.random.default_rng()), LAYOUT.size)
        _, after = load_adapter(run.checkpoints / f"round-{number:04d}.safetensors")
        np.testing.assert_allclose(after, adapter + sent, rtol=0, atol=2.0**-23)
        adapter, residual = after, meant - sent
        assert event["residual_norm"] == pytest.approx(np.linalg.norm(residual), rel=1e-5)
        assert event["update_norm"] == pytest.approx(np.linalg.norm(update), rel=1e-5)
    assert len(events) == 2
    assert len(client.events("feedback_start")) == 1  # A process owes nothing when it starts, and says so.
