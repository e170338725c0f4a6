"""What others take of the processors: counted, and waited out for a while."""

from __future__ import annotations

import itertools

import pytest

from emulation import hypervisor
from emulation.hypervisor import Theft, wait_for_calm


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hypervisor, "_BUSY_S", 0.02)
    monkeypatch.setattr(hypervisor, "_PAUSE_S", 0.01)


def stolen(monkeypatch: pytest.MonkeyPatch, *readings_s: float) -> None:
    readings = itertools.chain(readings_s, itertools.repeat(readings_s[-1]))
    monkeypatch.setattr(hypervisor, "stolen_s", lambda: next(readings))


def test_a_calm_machine_is_waited_for_no_longer_than_it_takes_to_see_that(monkeypatch) -> None:
    stolen(monkeypatch, 7.0)
    assert 0.02 <= wait_for_calm(60) < 1


def test_it_waits_until_nothing_was_stolen_from_a_busy_processor(monkeypatch) -> None:
    stolen(monkeypatch, 1.0, 1.1, 1.1, 1.2, 1.2)
    assert wait_for_calm(60) >= 3 * 0.02 + 2 * 0.01


def test_a_machine_that_is_never_calm_is_waited_for_no_longer_than_asked(monkeypatch) -> None:
    counter = itertools.count()
    monkeypatch.setattr(hypervisor, "stolen_s", lambda: float(next(counter)))
    assert wait_for_calm(0.1) <= 0.1 + 0.05


def test_the_share_is_that_of_all_processors(monkeypatch) -> None:
    monkeypatch.setattr(hypervisor.os, "cpu_count", lambda: 2)
    monkeypatch.setattr(hypervisor.time, "monotonic", iter([10.0, 14.0]).__next__)
    stolen(monkeypatch, 3.0, 3.4)
    assert Theft().share() == pytest.approx(0.4 / 8)
