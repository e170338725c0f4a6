"""One device in one round of secure aggregation: its keys, its shares, its masks, and what it may reveal.

A device's masked update can be unmasked by its self-mask's seed and its mask key together. The server needs
one of them of each device: the seed if the update is in the sum, the key if it is not. So a device that holds
shares of both reveals of each device one kind, for one list of survivors in a round, and none at all where
fewer than the threshold survive. As the threshold is above half of the cohort, two disjoint groups
cannot each reveal another kind.

No message is trusted beyond what it can do: all of it is checked, and SecretError says what a server may not
ask for. Answers to a message that comes again are the same.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from proto.federation_pb2 import Delivery, KeysWanted, Roster, Share, Survivors
from proto.secagg.keys import PUBLIC_BYTES, SEED_BYTES, KeyPair, SecretError, purpose, seal, unseal
from proto.secagg.masks import Masks
from proto.secagg.shares import SHARE_BYTES, split


class Participant:
    """Keys and secrets of a round, drawn anew. Raises SecretError, here and everywhere."""

    def __init__(self, wanted: KeysWanted, run_id: str) -> None:
        if not wanted.devices / 2 < wanted.threshold <= wanted.devices or wanted.threshold < 2:
            raise SecretError(
                f"round {wanted.round}: a threshold of {wanted.threshold} with {wanted.devices} devices; it "
                "must be 2 or more and above half of them"
            )
        self.wanted = wanted
        self._run_id = run_id
        self._mask_pair, self._share_pair = KeyPair(), KeyPair()
        self._self_mask = secrets.token_bytes(SEED_BYTES)
        self._roster: Roster | None = None
        self._sealed: list[Share] = []
        self._own_share = b""
        self._held: dict[int, bytes] | None = None
        """By device, the shares of its mask key's seed and of its self-mask's, one after the other."""
        self._used = False
        self._survivors: Survivors | None = None

    @property
    def mask_key(self) -> bytes:
        return self._mask_pair.public

    @property
    def share_key(self) -> bytes:
        return self._share_pair.public

    def share(self, roster: Roster) -> list[Share]:
        """Shares of this device's secrets, one sealed for each of the others."""
        if self._roster is None:
            self._check(roster)
            threshold, count = self.wanted.threshold, len(roster.members)
            keys = split(self._mask_pair.seed, threshold, count)
            seeds = split(self._self_mask, threshold, count)
            plain = {number: keys[number - 1] + seeds[number - 1] for number in range(1, count + 1)}
            self._roster = roster
            self._own_share = plain[roster.number]
            self._sealed = [
                Share(number=number, data=seal(key, plain[number], self._bound(roster.number, number)))
                for number, key in self._share_agreements().items()
            ]
        elif roster != self._roster:
            raise SecretError(f"round {roster.round}: another roster than before")
        return self._sealed

    def _check(self, roster: Roster) -> None:
        count = len(roster.members)
        if not self.wanted.threshold <= count <= self.wanted.devices:
            raise SecretError(
                f"round {roster.round}: a roster of {count} devices, {self.wanted.threshold} needed"
            )
        if [member.number for member in roster.members] != list(range(1, count + 1)):
            raise SecretError(f"round {roster.round}: the roster's numbers are not 1 to {count}")
        if any(len(key) != PUBLIC_BYTES for m in roster.members for key in (m.mask_key, m.share_key)):
            raise SecretError(f"round {roster.round}: a key in the roster is not of {PUBLIC_BYTES} bytes")
        own = roster.members[roster.number - 1] if 1 <= roster.number <= count else None
        if own is None or (own.mask_key, own.share_key) != (self.mask_key, self.share_key):
            raise SecretError(f"round {roster.round}: the roster's keys of this device are not its own")

    def receive(self, delivery: Delivery) -> None:
        """The others' shares: masks are agreed with those they come from."""
        roster = self._needed_roster(delivery.round)
        agreements = self._share_agreements()
        held = {roster.number: self._own_share}
        for share in delivery.shares:
            if share.number in held or share.number not in agreements:
                raise SecretError(f"round {delivery.round}: a share of device {share.number}, who is not due")
            held[share.number] = unseal(
                agreements[share.number], share.data, self._bound(share.number, roster.number)
            )
            if len(held[share.number]) != 2 * SHARE_BYTES:
                raise SecretError(f"round {delivery.round}: device {share.number} shared something else")
        if self._held is not None and held != self._held:
            raise SecretError(f"round {delivery.round}: other shares than before")
        if len(held) < self.wanted.threshold:
            raise SecretError(
                f"round {delivery.round}: shares of {len(held)}, {self.wanted.threshold} needed"
            )
        self._held = held

    def masks(self, ring_bits: int) -> Masks:
        """What hides this device's update: one, for two under the same masks would show how they differ."""
        if self._used:
            raise SecretError(f"round {self.wanted.round}: its masks have hidden an update already")
        self._used = True
        held, roster = self._needed_shares(), self._needed_roster(self.wanted.round)
        use = purpose("mask", self._run_id, self.wanted.round)
        keys = {member.number: member.mask_key for member in roster.members}
        pairwise = [
            (1 if roster.number < number else -1, self._mask_pair.agree(keys[number], use))
            for number in sorted(held)
            if number != roster.number
        ]
        return Masks([(1, self._self_mask), *pairwise], ring_bits)

    def reveal(self, survivors: Survivors) -> tuple[list[Share], list[Share]]:
        """Shares of the self-masks' seeds of those who sent, and of the mask keys of those who did not."""
        held, roster = self._needed_shares(), self._needed_roster(survivors.round)
        sent, dropped = list(survivors.sent), list(survivors.dropped)
        if sorted(sent + dropped) != sorted(held):
            raise SecretError(
                f"round {survivors.round}: survivors and dropped are not the devices of the round, each once"
            )
        if len(sent) < self.wanted.threshold or roster.number not in sent:
            raise SecretError(
                f"round {survivors.round}: {len(sent)} survivors, this device "
                f"{'' if roster.number in sent else 'not '}among them; {self.wanted.threshold} needed"
            )
        if self._survivors is not None and survivors != self._survivors:
            raise SecretError(f"round {survivors.round}: shares were revealed already, for other survivors")
        self._survivors = survivors
        seeds = [Share(number=number, data=held[number][SHARE_BYTES:]) for number in sent]
        keys = [Share(number=number, data=held[number][:SHARE_BYTES]) for number in dropped]
        return seeds, keys

    def _share_agreements(self) -> Mapping[int, bytes]:
        """The key that seals shares between this device and each of the others."""
        roster = self._needed_roster(self.wanted.round)
        use = purpose("shares", self._run_id, self.wanted.round)
        others = (member for member in roster.members if member.number != roster.number)
        return {member.number: self._share_pair.agree(member.share_key, use) for member in others}

    @staticmethod
    def _bound(sender: int, receiver: int) -> bytes:
        """One key is for both ways: a message sent back is not one."""
        return f"from {sender} to {receiver}".encode()

    def _needed_roster(self, number: int) -> Roster:
        if self._roster is None or number != self.wanted.round:
            raise SecretError(f"round {number}: no roster has come")
        return self._roster

    def _needed_shares(self) -> dict[int, bytes]:
        if self._held is None:
            raise SecretError(f"round {self.wanted.round}: no shares have come")
        return self._held
