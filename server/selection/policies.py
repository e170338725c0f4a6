"""The names that policies go by."""

from __future__ import annotations

import re

from server.selection.fastest import Fastest
from server.selection.power_of_choice import PowerOfChoice
from server.selection.random_fraction import RandomFraction
from server.selection.round_robin import RoundRobin
from server.selection.selector import SelectionError, Selector, cohort_size

POLICIES = "random, round_robin, fastest or power_of_choice(D)"

_POWER_OF_CHOICE = re.compile(r"power_of_choice\(\s*([0-9]{1,9})\s*\)")


def parse(text: str, *, devices: int, fraction: float, seed: int) -> Selector:
    """The policy written `text`, for a run of `devices` of which a round asks `fraction`.

    Raises SelectionError for an unknown name, and for a D below the cohort's size or above `devices`.
    """
    count = cohort_size(devices, fraction)
    match text.strip():
        case "random":
            return RandomFraction(count, seed)
        case "round_robin":
            return RoundRobin(count)
        case "fastest":
            return Fastest(count)
    if match := _POWER_OF_CHOICE.fullmatch(text.strip()):
        if int(match[1]) > devices:
            raise SelectionError(f"{text} draws more devices than there are ({devices})")
        return PowerOfChoice(count, int(match[1]), seed)
    raise SelectionError(f"unknown selection '{text}': {POLICIES}")
