"""Quantities carry units; a bare number is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments import units


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (units.rate, "20mbit", 20e6),
        (units.rate, "64 kbit/s", 64e3),
        (units.rate, "1Gbit", 1e9),
        (units.duration, "25ms", 0.025),
        (units.duration, "2min", 120.0),
        (units.duration, 0, 0.0),
        (units.fraction, "1%", 0.01),
        (units.fraction, "0", 0.0),
        (units.size, "3.2MB", 3.2e6),
        (units.size, "64KiB", 65536.0),
    ],
)
def test_quantities_become_si(read, text, value) -> None:
    assert read(text) == pytest.approx(value)


@pytest.mark.parametrize(
    ("read", "text", "says"),
    [
        (units.rate, "10", "has no unit"),
        (units.rate, 10, "has no unit"),
        (units.rate, "20mbps", "no unit here"),  # megabytes in tc, megabits elsewhere
        (units.rate, "20ms", "no unit here"),
        (units.rate, "-5mbit", "negative"),
        (units.rate, "fast", "not a quantity"),
        (units.rate, True, "not a quantity"),
        (units.fraction, "120%", "more than 100%"),
        (units.fraction, "0.01", "has no unit"),
        (units.queue, "100", "no queue length"),
    ],
)
def test_what_is_no_quantity_is_told(read, text, says) -> None:
    with pytest.raises(ValueError, match=says):
        read(text)


def test_a_queue_is_a_time_bytes_or_packets() -> None:
    assert units.queue("100ms").bytes_at(8e6, 1514) == 100_000
    assert units.queue("64kB").bytes_at(8e6, 1514) == 64_000
    assert units.queue("32packets").bytes_at(8e6, 1514) == 32 * 1514


@given(st.floats(1, 1e10))
def test_what_is_written_reads_the_same(rate_bps: float) -> None:
    assert units.rate(f"{rate_bps:.12g}bit") == pytest.approx(rate_bps, rel=1e-11)
