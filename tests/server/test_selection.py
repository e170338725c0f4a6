"""Policies: cohorts of the right size, without repetition, in order, and by nothing but what each goes by."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.selection import Candidate, SelectionError, Selector, parse
from server.selection.fastest import Fastest
from server.selection.power_of_choice import PowerOfChoice
from server.selection.random_fraction import RandomFraction
from server.selection.round_robin import RoundRobin
from server.selection.selector import cohort_size

TEN = [Candidate(f"dev{index}", examples=1 + index) for index in range(10)]

candidates = st.lists(
    st.builds(
        Candidate,
        st.just("to be numbered"),
        examples=st.integers(0, 1000),
        connected=st.booleans(),
        loss=st.none() | st.floats(0, 10) | st.just(math.inf),
        uplink_bps=st.none() | st.floats(0, 1e9),
    ),
    min_size=1,
    max_size=40,
).map(lambda found: [replace(one, name=f"dev{index}") for index, one in enumerate(found)])

POLICIES: dict[str, Callable[[int, int], Selector]] = {
    "random": lambda count, seed: RandomFraction(count, seed),
    "round_robin": lambda count, seed: RoundRobin(count),
    "fastest": lambda count, seed: Fastest(count),
    "power_of_choice": lambda count, seed: PowerOfChoice(count, count + 3, seed),
}


def rounds(selector: Selector, those: Sequence[Candidate], count: int) -> list[list[str]]:
    return [selector.select(those, number) for number in range(1, count + 1)]


@pytest.mark.parametrize("policy", POLICIES)
@given(candidates, st.integers(1, 50), st.integers(0, 2**32 - 1), st.integers(1, 1000))
def test_a_cohort_is_as_large_as_asked_without_repetition_in_order(
    policy: str, those: list[Candidate], count: int, seed: int, round_number: int
) -> None:
    names = [candidate.name for candidate in those]
    cohort = POLICIES[policy](count, seed).select(those, round_number)
    there = sum(candidate.connected for candidate in those) or len(those)
    expected = min(count, there if policy in ("fastest", "power_of_choice") else len(those))
    assert len(cohort) == expected
    assert cohort == [name for name in names if name in set(cohort)]


@pytest.mark.parametrize("policy", POLICIES)
@given(candidates, st.integers(1, 50), st.integers(0, 2**32 - 1))
def test_the_same_seed_and_the_same_knowledge_give_the_same_cohorts(
    policy: str, those: list[Candidate], count: int, seed: int
) -> None:
    make = POLICIES[policy]
    assert rounds(make(count, seed), those, 5) == rounds(make(count, seed), those, 5)


@given(st.integers(1, 50), st.floats(0, 1))
def test_a_cohort_s_size_is_rounded_up_and_at_least_one(devices: int, fraction: float) -> None:
    assert cohort_size(devices, fraction) == max(1, math.ceil(fraction * devices - 1e-9))


@pytest.mark.parametrize(
    ("fraction", "count", "size"),
    [(0.0, 10, 1), (0.1, 10, 1), (0.31, 10, 4), (1.0, 10, 10), (0.07, 100, 7), (0.55, 100, 55)],
)
def test_fractions_that_floats_cannot_hold_do_not_add_a_device(
    fraction: float, count: int, size: int
) -> None:
    """0.07 * 100 is 7.000000000000001 in floating point, and still 7 devices."""
    assert cohort_size(count, fraction) == size


def test_random_draws_what_it_has_always_drawn() -> None:
    """Cohorts of published runs: a change here makes them irreproducible."""
    assert rounds(RandomFraction(3, seed=7), TEN, 3) == [
        ["dev6", "dev8", "dev9"],
        ["dev1", "dev2", "dev8"],
        ["dev5", "dev8", "dev9"],
    ]


@pytest.mark.parametrize("policy", ["random", "power_of_choice"])
def test_rounds_and_seeds_draw_different_cohorts_and_everyone_gets_a_turn(policy: str) -> None:
    make = POLICIES[policy]
    drawn = rounds(make(3, 0), TEN, 40)
    assert len(set(map(tuple, drawn))) > 20
    assert {name for cohort in drawn for name in cohort} == {candidate.name for candidate in TEN}
    assert drawn != rounds(make(3, 1), TEN, 40)


def test_round_robin_goes_round() -> None:
    assert rounds(RoundRobin(3), TEN[:4], 3) == [
        ["dev0", "dev1", "dev2"],
        ["dev0", "dev1", "dev3"],
        ["dev0", "dev2", "dev3"],
    ]


@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 30))
def test_round_robin_asks_nobody_twice_more_often_than_another(devices: int, count: int, number: int) -> None:
    those = [Candidate(f"dev{index}") for index in range(devices)]
    turns = Counter({candidate.name: 0 for candidate in those})
    for cohort in rounds(RoundRobin(count), those, number):
        turns.update(cohort)
    assert max(turns.values()) - min(turns.values()) <= 1


def test_who_was_away_has_its_turn_when_it_is_back() -> None:
    selector = RoundRobin(2)
    assert selector.select(TEN[1:4], 1) == ["dev1", "dev2"]
    assert selector.select(TEN[:4], 2) == ["dev0", "dev3"]


def test_fastest_measures_everyone_once_and_then_keeps_to_the_fastest() -> None:
    """Each device asked is then known by its rate; dev1's update never comes, dev4 is gone at the end."""
    rates_bps = {"dev0": 2e6, "dev1": 0.0, "dev2": 8e6, "dev3": 1e6, "dev4": 9e6}
    known = {name: Candidate(name) for name in rates_bps}
    cohorts = []
    selector = Fastest(2)
    for number in range(1, 6):
        cohort = selector.select(list(known.values()), number)
        cohorts.append(cohort)
        for name in cohort:
            known[name] = replace(known[name], uplink_bps=rates_bps[name])
    both = ["dev2", "dev4"]
    assert cohorts == [["dev0", "dev1"], ["dev2", "dev3"], both, both, both]
    known["dev4"] = replace(known["dev4"], connected=False)
    assert selector.select(list(known.values()), 6) == ["dev0", "dev2"]


def test_power_of_choice_among_all_takes_the_highest_losses_the_untrained_first() -> None:
    losses = {"dev0": 0.3, "dev1": 0.9, "dev2": None, "dev3": 0.5, "dev4": 0.1}
    those = [Candidate(name, examples=5, loss=loss) for name, loss in losses.items()]
    assert PowerOfChoice(1, 5, seed=0).select(those, 1) == ["dev2"]
    assert PowerOfChoice(3, 5, seed=0).select(those, 1) == ["dev1", "dev2", "dev3"]
    gone = [replace(one, connected=one.name != "dev1") for one in those]
    assert PowerOfChoice(3, 5, seed=0).select(gone, 1) == ["dev0", "dev2", "dev3"]


def test_power_of_choice_draws_by_examples() -> None:
    """One drawn, one taken: dev9 owns 10 of 55 examples, dev0 one. 3 standard deviations of 4,000 draws."""
    drawn = Counter(name for [name] in rounds(PowerOfChoice(1, 1, seed=1), TEN, 4000))
    for candidate in TEN:
        share = candidate.examples / 55
        assert abs(drawn[candidate.name] - 4000 * share) < 3 * math.sqrt(4000 * share * (1 - share))


def test_power_of_choice_breaks_ties_at_random_not_by_who_was_drawn_first() -> None:
    """All are drawn, none has trained: one device is taken as often as another, whatever its examples."""
    taken = Counter(name for [name] in rounds(PowerOfChoice(1, 10, seed=1), TEN, 2000))
    assert all(abs(taken[candidate.name] - 200) < 3 * math.sqrt(180) for candidate in TEN)


def test_names_give_their_policies() -> None:
    made = {
        text: type(parse(text, devices=10, fraction=0.3, seed=0))
        for text in ("random", "round_robin", "fastest", "power_of_choice(3)", " power_of_choice( 10 ) ")
    }
    assert list(made.values()) == [RandomFraction, RoundRobin, Fastest, PowerOfChoice, PowerOfChoice]
    assert len(parse("round_robin", devices=10, fraction=0.31, seed=0).select(TEN, 1)) == 4


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("fast", "unknown selection 'fast': random, round_robin, fastest or power_of_choice"),
        ("power_of_choice", "unknown selection 'power_of_choice'"),
        ("power_of_choice(-1)", "unknown selection"),
        ("power_of_choice(2.5)", "unknown selection"),
        ("power_of_choice(2)", "draws fewer devices than a cohort of 3 takes"),
        ("power_of_choice(11)", r"draws more devices than there are \(10\)"),
    ],
)
def test_a_policy_that_cannot_be_is_refused(text: str, says: str) -> None:
    with pytest.raises(SelectionError, match=says):
        parse(text, devices=10, fraction=0.3, seed=0)
