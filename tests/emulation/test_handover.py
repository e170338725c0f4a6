"""Event A3: hysteresis, time to trigger, and the outage while it lasts."""

from __future__ import annotations

import numpy as np

from emulation.handover import Handover, HandoverRule

RULE = HandoverRule(hysteresis_db=3.0, time_to_trigger_s=0.2, interruption_s=0.15)


def serving_over_time(*neighbour_db: float, rule: HandoverRule = RULE) -> list[tuple[int, bool]]:
    """(serving cell, interrupted) every 100 ms; cell 0 is received at 0 dBm, cell 1 as given."""
    handover = Handover(rule, np.array([[0.0, neighbour_db[0]]]))
    seen = []
    for step, level in enumerate(neighbour_db):
        interrupted = handover.step(step * 0.1, np.array([[0.0, level]]))
        seen.append((int(handover.serving[0]), bool(interrupted[0])))
    return seen


def test_the_best_cell_serves_first() -> None:
    assert serving_over_time(-1.0)[0] == (0, False)
    assert serving_over_time(1.0)[0] == (1, False)


def test_a_neighbour_must_be_better_by_the_hysteresis_for_the_time_to_trigger() -> None:
    assert serving_over_time(-1, 4, 4, 4, 4, 4, 4) == [
        *((0, False), (0, False), (0, False)),  # better at 100 ms, for 100 ms
        *((1, True), (1, True), (1, False), (1, False)),  # for 200 ms: 150 ms without a link
    ]
    assert all(cell == 0 for cell, _ in serving_over_time(-1, 2.9, 2.9, 2.9, 2.9, 2.9))


def test_a_dip_starts_the_time_to_trigger_again() -> None:
    assert [cell for cell, _ in serving_over_time(-1, 4, 4, 0, 4, 4, 4)] == [0, 0, 0, 0, 0, 0, 1]


def test_the_way_back_needs_the_hysteresis_too() -> None:
    rule = HandoverRule(3.0, 0.0, 0.0)
    assert [cell for cell, _ in serving_over_time(-1, 4, -2.9, -3.1, rule=rule)] == [0, 1, 1, 0]


def test_the_strongest_of_several_due_neighbours_is_chosen_for_each_device_apart() -> None:
    handover = Handover(HandoverRule(3.0, 0.0, 0.1), np.array([[0.0, -9, -9], [0.0, -9, -9]]))
    interrupted = handover.step(0.1, np.array([[0.0, 4, 5], [0.0, 2, -9]]))
    assert handover.serving.tolist() == [2, 0]
    assert interrupted.tolist() == [True, False]
