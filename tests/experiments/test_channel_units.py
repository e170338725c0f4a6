"""Units of the radio: distances, speeds, frequencies, powers, decibels."""

from __future__ import annotations

import pytest

from experiments import units


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (units.distance, "1.5km", 1500.0),
        (units.distance, 0, 0.0),
        (units.speed, "36 km/h", 10.0),
        (units.speed, "3m/s", 3.0),
        (units.frequency, "3.5GHz", 3.5e9),
        (units.frequency, "180kHz", 180e3),
        (units.power, "-10dBm", -10.0),
        (units.power, "0dBm", 0.0),
        (units.decibel, "9dB", 9.0),
    ],
)
def test_quantities_become_si(read, text, value) -> None:
    assert read(text) == pytest.approx(value)


@pytest.mark.parametrize(
    ("read", "text", "says"),
    [
        (units.distance, "-1m", "negative"),
        (units.distance, "1m/h", "no unit here"),
        (units.speed, "3m", "no unit here"),
        (units.speed, "3", "has no unit"),
        (units.power, "0", "has no unit"),  # 0 dBm is a milliwatt, not nothing.
        (units.power, "23dB", "no unit here"),
        (units.decibel, "9", "has no unit"),
        (units.frequency, "20m", "no unit here"),
    ],
)
def test_what_is_no_quantity_is_told(read, text, says) -> None:
    with pytest.raises(ValueError, match=says):
        read(text)
