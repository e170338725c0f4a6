"""Participants of a round of secure aggregation, with nothing between them but what a server passes on."""

from __future__ import annotations

from client.participant import Participant
from proto.federation_pb2 import Delivery, KeysWanted, Member, Roster, Survivors

RUN, ROUND = "run-7", 3


def roster(participants: list[Participant], number: int) -> Roster:
    """As participant `number` is told."""
    members = [
        Member(number=place, mask_key=one.mask_key, share_key=one.share_key)
        for place, one in enumerate(participants, start=1)
    ]
    return Roster(round=ROUND, number=number, members=members)


def new_cohort(count: int, threshold: int) -> list[Participant]:
    """That have advertised their keys."""
    return [
        Participant(KeysWanted(round=ROUND, devices=count, threshold=threshold), RUN) for _ in range(count)
    ]


def deliveries(participants: list[Participant]) -> list[Delivery]:
    """What each of them gets when all have shared."""
    count = len(participants)
    sealed = [one.share(roster(participants, place)) for place, one in enumerate(participants, start=1)]
    return [
        Delivery(
            round=ROUND,
            shares=[
                type(share)(number=sender, data=share.data)
                for sender, shares in enumerate(sealed, start=1)
                for share in shares
                if share.number == place
            ],
        )
        for place in range(1, count + 1)
    ]


def agreed(count: int, threshold: int) -> list[Participant]:
    """That have agreed on masks."""
    participants = new_cohort(count, threshold)
    for one, delivery in zip(participants, deliveries(participants), strict=True):
        one.receive(delivery)
    return participants


def survivors(sent: list[int], dropped: list[int]) -> Survivors:
    return Survivors(round=ROUND, sent=sent, dropped=dropped)
