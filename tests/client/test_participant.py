"""A device in secure aggregation: what it hides, and what it never reveals."""

from __future__ import annotations

import numpy as np
import pytest
from cohort import RUN, agreed, deliveries, new_cohort, roster, survivors

from client.participant import Participant
from proto.codecs.ring import Ring, ring_bits
from proto.federation_pb2 import KeysWanted
from proto.secagg.keys import KeyPair, SecretError, purpose
from proto.secagg.masks import Masks
from proto.secagg.shares import combine

SIZE, GRID = 2**16, Ring(8, 1.0)
BITS = ring_bits(GRID.bits, 4)


def masked(one: Participant, codes: np.ndarray) -> np.ndarray:
    elements = codes.copy()
    one.masks(BITS).add(elements, 0)
    return elements % 2**BITS


def chi_square(elements: np.ndarray) -> float:
    """In deviations from what uniform elements of the ring have."""
    expected = elements.size / 2**BITS
    counts = np.bincount(elements, minlength=2**BITS)
    freedom = 2**BITS - 1
    return float(((counts - expected) ** 2 / expected).sum() - freedom) / (2 * freedom) ** 0.5


def correlation(elements: np.ndarray, codes: np.ndarray) -> float:
    return float(np.corrcoef(elements, codes)[0, 1])


def test_all_that_a_server_has_of_one_device_looks_like_chance_and_the_sum_is_exact() -> None:
    """Also with the one secret of the device that a server learns: its self-mask if it sent, its mask key
    if it did not. Only both together show the update."""
    participants = agreed(4, 3)
    rng = np.random.default_rng(0)
    updates = rng.normal(0, 0.1, (4, SIZE)).astype(np.float32)
    codes = [GRID.codes(update, rng) for update in updates]
    assert chi_square(codes[0]) > 1000  # What chance looks like this can tell.
    sent = [masked(one, own) for one, own in zip(participants, codes, strict=True)]
    np.testing.assert_array_equal(
        sum(sent) % 2**BITS,
        (sum(codes) + sum(of_seed(one._self_mask) for one in participants)) % 2**BITS,
    )

    self_mask, pairwise = of_seed(participants[0]._self_mask), of_key(participants, 0)
    for known in (0, self_mask, pairwise):
        seen = (sent[0] - known) % 2**BITS
        assert abs(chi_square(seen)) < 5
        assert abs(correlation(seen, codes[0])) < 5 / SIZE**0.5
    np.testing.assert_array_equal((sent[0] - self_mask - pairwise) % 2**BITS, codes[0])


def of_seed(seed: bytes) -> np.ndarray:
    elements = np.zeros(SIZE, np.uint32)
    Masks([(1, seed)], BITS).add(elements, 0)
    return elements


def of_key(participants: list[Participant], place: int) -> np.ndarray:
    """The masks that one has in common with the others, by its mask key."""
    pair, use = participants[place]._mask_pair, purpose("mask", RUN, 3)
    seeds = [
        (1 if place < other else -1, pair.agree(one.mask_key, use))
        for other, one in enumerate(participants)
        if other != place
    ]
    elements = np.zeros(SIZE, np.uint32)
    Masks(seeds, BITS).add(elements, 0)
    return elements


def test_what_survivors_reveal_gives_the_self_masks_of_those_who_sent_and_the_keys_of_the_others() -> None:
    participants = agreed(4, 3)
    lists = survivors([1, 2, 4], [3])
    answers = {place: participants[place - 1].reveal(lists) for place in (1, 2, 4)}
    for place in (1, 2, 4):
        shares = {
            by: share.data for by, (seeds, _) in answers.items() for share in seeds if share.number == place
        }
        assert combine(shares, 3) == participants[place - 1]._self_mask
    keys = {by: keys[0].data for by, (_, keys) in answers.items()}
    assert KeyPair(combine(keys, 3)).public == participants[2].mask_key


def test_never_both_secrets_of_one_device() -> None:
    one = agreed(4, 3)[0]
    seeds, keys = one.reveal(survivors([1, 2, 3], [4]))
    assert not {share.number for share in seeds} & {share.number for share in keys}
    assert one.reveal(survivors([1, 2, 3], [4])) == (seeds, keys)  # Asked again after a cut.
    for other in (survivors([1, 2, 4], [3]), survivors([1, 2, 3, 4], [])):
        with pytest.raises(SecretError, match="revealed already, for other survivors"):
            one.reveal(other)


@pytest.mark.parametrize(
    ("sent", "dropped", "complaint"),
    [
        ([1, 2, 3, 4], [4], "each once"),
        ([1, 2, 3], [], "each once"),
        ([1, 2, 3, 3], [4], "each once"),
        ([1, 2, 3], [4, 5], "each once"),
        ([1, 2], [3, 4], "2 survivors, this device among them; 3 needed"),
        ([2, 3, 4], [1], "3 survivors, this device not among them"),
    ],
)
def test_lists_of_survivors_that_do_not_fit_reveal_nothing(
    sent: list[int], dropped: list[int], complaint: str
) -> None:
    with pytest.raises(SecretError, match=complaint):
        agreed(4, 3)[0].reveal(survivors(sent, dropped))


def test_masks_hide_one_update_and_no_other() -> None:
    one = agreed(2, 2)[0]
    one.masks(BITS)
    with pytest.raises(SecretError, match="have hidden an update already"):
        one.masks(BITS)


@pytest.mark.parametrize(("devices", "threshold"), [(4, 2), (4, 5), (1, 1), (2, 1)])
def test_a_threshold_that_two_groups_can_reach_is_refused(devices: int, threshold: int) -> None:
    with pytest.raises(SecretError, match="2 or more and above half"):
        Participant(KeysWanted(round=1, devices=devices, threshold=threshold), RUN)


def test_a_roster_with_other_keys_of_its_own_or_too_few_devices_is_refused() -> None:
    participants = new_cohort(4, 3)
    for wrong, complaint in (
        (roster(participants, 2), "not its own"),
        (roster(participants[:2], 1), "a roster of 2 devices, 3 needed"),
        (roster([*participants, *participants], 1), "a roster of 8 devices"),
    ):
        with pytest.raises(SecretError, match=complaint):
            participants[0].share(wrong)
    first = participants[0].share(roster(participants, 1))
    assert participants[0].share(roster(participants, 1)) == first
    with pytest.raises(SecretError, match="another roster"):
        participants[0].share(roster(participants[:3], 1))


def test_shares_that_were_changed_swapped_or_too_few_are_refused() -> None:
    participants = new_cohort(3, 2)
    one, delivery = participants[0], deliveries(participants)[0]
    swapped = type(delivery)(round=delivery.round, shares=delivery.shares)
    swapped.shares[0].number, swapped.shares[1].number = 3, 2
    with pytest.raises(SecretError, match="not what its sender made"):
        one.receive(swapped)
    with pytest.raises(SecretError, match="shares of 1, 2 needed"):
        one.receive(type(delivery)(round=delivery.round))
    twice = type(delivery)(round=delivery.round, shares=[delivery.shares[0], delivery.shares[0]])
    with pytest.raises(SecretError, match="who is not due"):
        one.receive(twice)
    one.receive(delivery)
    one.receive(delivery)


def test_nothing_is_done_before_its_time() -> None:
    one = new_cohort(2, 2)[0]
    with pytest.raises(SecretError, match="no shares have come"):
        one.masks(BITS)
    with pytest.raises(SecretError, match="no shares have come"):
        one.reveal(survivors([1, 2], []))
