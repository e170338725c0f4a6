"""A device does with a payload what the round says, once, and tells the server what it has done."""

from __future__ import annotations

import numpy as np
import pytest
from running import LAYOUT

from client.session import Session, SessionError
from client.synthetic import SyntheticTrainer
from proto import federation_pb2 as pb
from proto.adapter import AdapterLayout, Vector
from proto.events import EventLog
from proto.lora import LoraLayout, fresh_adapter

LORA = LoraLayout(LAYOUT)


class Merging(SyntheticTrainer):
    """Notes what it is told to merge."""

    def merge(self, layout: AdapterLayout, vector: Vector) -> None:
        super().merge(layout, vector)
        self.merged = LoraLayout(layout).rank, vector.copy()


class Listening:
    """A stub that notes how the stream of tasks is asked for."""

    def Tasks(self, request: pb.TasksRequest) -> None:
        self.request = request


def session() -> Session:
    made = Session("127.0.0.1:9", "dev0", EventLog(None, "dev0"))
    made._trainer = Merging(LAYOUT, device_index=0, steps=1, examples=1, seed=0)
    return made


def start(
    number: int, down: str, trained: str, merge_rank: int = 0, seed: tuple[int, ...] = ()
) -> pb.RoundStart:
    return pb.RoundStart(
        round=number,
        uplink_codec="fp32",
        down_factors=down,
        trained_factors=trained,
        merge_rank=merge_rank,
        fresh_seed=seed,
    )


def test_one_factor_comes_down_the_other_is_drawn_and_later_kept() -> None:
    device = session()
    half = np.full(LORA.only("B").size, 0.5, np.float32)
    update = device._work(start(1, "B", "B", seed=(7,)), half)
    assert update.vector.size == half.size
    assert device._adapter is not None
    np.testing.assert_array_equal(
        LORA.take(device._adapter, "A"), LORA.take(fresh_adapter(LAYOUT, (7,)), "A")
    )
    before = LORA.take(device._adapter, "A").copy()
    device._work(start(2, "B", "A"), 2 * half)
    np.testing.assert_array_equal(LORA.take(device._adapter, "A"), before)
    np.testing.assert_array_equal(LORA.take(device._adapter, "B"), 2 * half)


def test_what_follows_the_adapter_is_merged_and_the_server_is_told_that_it_was() -> None:
    device, stub = session(), Listening()
    payload = np.arange(LORA.with_rank(3).size, dtype=np.float32)
    update = device._work(start(4, "", "AB", merge_rank=3, seed=(7, 4, 0)), payload)
    assert isinstance(device._trainer, Merging)
    rank, merged = device._trainer.merged
    assert rank == 3
    np.testing.assert_array_equal(merged, payload)
    assert update.vector.size == LAYOUT.size
    device._listen(stub)  # type: ignore[arg-type]
    assert stub.request.started_round == 4


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (start(1, "C", "AB"), "round 1 brings factors 'C'"),
        (start(1, "AB", "AB", merge_rank=10**6), "a merge of rank 1000000"),
    ],
)
def test_a_round_that_cannot_be_is_refused_before_memory_is_taken(wrong: pb.RoundStart, says: str) -> None:
    wrong.downlink_codec = "fp32"
    with pytest.raises(SessionError, match=says):
        session()._receive("round_start", pb.Instruction(round_start=wrong))
