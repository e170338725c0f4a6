"""Secure aggregation at a device: the server learns the sum of a round's updates, and no update by itself.

Bonawitz et al., "Practical Secure Aggregation for Privacy-Preserving Machine Learning" (CCS 2017, figure 4),
against a server that follows the protocol and looks at all it gets:

    KeysWanted  -> AdvertiseKeys   two public keys, fresh in every round
    Roster      -> ShareSecrets    t-of-n shares of mask key and self-mask, sealed for each of the others
    Delivery                       their shares; masks are now agreed
    RoundStart  -> Upload          the update, scaled by its weight, quantised to the round's grid, masked
    Survivors   -> Reveal          one kind of share of each device, and the server can unmask the sum

A device that falls away before its update is whole takes nothing with it: the others' shares of its mask
key give the masks that they have in common with it. Where one falls away later, the others' shares are enough
to take off its self-mask.

What it does not do: the public keys come through the server, unsigned, so one that swaps them sits in the
middle, and one that invents devices can be all the others (the paper's active variant takes signatures and a
public-key infrastructure). Not hidden are who takes part, when, with how many examples, steps and which loss,
and the sum itself: of two devices one knows the other's update. A device can still send nonsense, unseen.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from google.protobuf.message import Message

from client.counters import read_counters
from proto import codecs, federation_pb2_grpc
from proto import federation_pb2 as pb
from proto.adapter import Vector
from proto.codecs import Codec, CodecError
from proto.events import EventLog
from proto.segments import SegmentEncoder

if TYPE_CHECKING:  # cryptography: only for those who are asked for it.
    from client.participant import Participant

log = logging.getLogger("client")

SECURE_KINDS = ("keys_wanted", "roster", "delivery", "survivors")
"""The instructions that belong here."""

MakeEncoder = Callable[[Codec, Vector, Sequence[int]], SegmentEncoder]


class SecureAggregation:
    """One device's part in it, round after round."""

    def __init__(self, events: EventLog, timeout_s: float) -> None:
        self._events, self._timeout_s = events, timeout_s
        self._participant: Participant | None = None
        self._message_bytes = 0
        self._cpu_s = 0.0
        self._clipped: dict[int, int] = {}

    def answer(
        self, stub: federation_pb2_grpc.FederationStub, key: pb.UploadKey, instruction: pb.Instruction
    ) -> None:
        """Do what one instruction asks for. `key` has its round.

        Raises RpcError when the connection breaks: the server repeats what it has no answer to; SecretError
        when the server asks for what it must not get.
        """
        began = time.thread_time()
        self._message_bytes += instruction.ByteSize()
        one = self._participant_of(instruction, key)
        done: tuple[str, dict[str, Any]] | None = None
        match instruction.WhichOneof("kind"):
            case "keys_wanted":
                keys = {"mask_key": one.mask_key, "share_key": one.share_key}
                self._send(stub.AdvertiseKeys, pb.PublicKeys(key=key, **keys))
            case "roster":
                shares = one.share(instruction.roster)
                self._send(stub.ShareSecrets, pb.SealedShares(key=key, shares=shares))
            case "delivery":
                one.receive(instruction.delivery)
                done = "agreed", {"devices": 1 + len(instruction.delivery.shares)}
            case "survivors":
                seeds, mask_keys = one.reveal(instruction.survivors)
                self._send(stub.Reveal, pb.RevealedShares(key=key, seeds=seeds, keys=mask_keys))
                told = {"dropped": len(mask_keys), "clipped": sum(self._clipped.values())}
                done = "revealed", told | asdict(read_counters())
        self._cpu_s += time.thread_time() - began
        if done is not None:
            event, fields = done
            spent = {"message_bytes": self._message_bytes, "cpu_s": self._cpu_s}
            self._events.write(event, round=key.round, **spent, **fields)
            self._message_bytes, self._cpu_s = 0, 0.0

    def hides(self, number: int) -> bool:
        """Whether the device takes part in round `number`: more is asked of it when its update is sent."""
        return self._participant is not None and self._participant.wanted.round == number

    def encoder(self, start: pb.RoundStart) -> MakeEncoder:
        """What encodes the update of the round: under masks, if that is how it is to go up."""
        if not start.ring_bits:
            return SegmentEncoder
        from proto.secagg.masked import Masked, MaskedEncoder, grid_of

        if not 0 < start.weight <= 1:
            raise CodecError(f"round {start.round}: a weight of {start.weight:g}; above 0, at most 1")
        masked = Masked(grid_of(codecs.parse(start.uplink_codec)), start.ring_bits)
        masks = self._current(start.round).masks(start.ring_bits)
        clipped: dict[int, int] = {}
        self._clipped = clipped

        def make(_: Codec, vector: Vector, seed: Sequence[int]) -> SegmentEncoder:
            return MaskedEncoder(masked, vector, seed, masks=masks, scale=start.weight, clipped=clipped)

        return make

    def _participant_of(self, instruction: pb.Instruction, key: pb.UploadKey) -> Participant:
        """This device in the round. It begins with KeysWanted, if that has not come before."""
        from client.participant import Participant

        if instruction.WhichOneof("kind") != "keys_wanted":
            return self._current(key.round)
        wanted = instruction.keys_wanted
        if self._participant is None or self._participant.wanted != wanted:
            self._participant, self._clipped = Participant(wanted, key.run_id), {}
        return self._participant

    def _current(self, number: int) -> Participant:
        from proto.secagg.keys import SecretError

        if self._participant is None or self._participant.wanted.round != number:
            raise SecretError(f"round {number}: this device has no keys in it")
        return self._participant

    def _send(self, call: Callable[..., pb.StageReply], answer: Message) -> None:
        """Who is told that an answer was too late is out of the round; nothing else follows from it."""
        reply = call(answer, timeout=self._timeout_s)
        self._message_bytes += answer.ByteSize() + reply.ByteSize()
        if reply.status != pb.STATUS_OK:
            self._events.write("stage_refused", status=pb.Status.Name(reply.status), reason=reply.reason)
            log.warning("an answer was not taken: %s", reply.reason)
