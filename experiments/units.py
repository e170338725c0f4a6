"""Quantities with units, as tc and Mininet write them: `20mbit`, `25ms`, `1%`, `3.2MB`.

Inside the code they are plain floats in bit/s, seconds, fractions and bytes. A number without a unit is
refused (except 0, which has none): 10 what?
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer

_BITS_PER_SECOND = {"bit": 1.0, "kbit": 1e3, "mbit": 1e6, "gbit": 1e9}
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0}
_BYTES = {"b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 2.0**10, "mib": 2.0**20, "gib": 2.0**30}
_FRACTIONS = {"%": 0.01}
_PACKETS = {"packets": 1.0, "packet": 1.0}
_METRES = {"m": 1.0, "km": 1e3}
_METRES_PER_SECOND = {"m/s": 1.0, "km/h": 1 / 3.6}
_HERTZ = {"hz": 1.0, "khz": 1e3, "mhz": 1e6, "ghz": 1e9}
_DBM = {"dbm": 1.0}
_DB = {"db": 1.0}
_WATTS = {"w": 1.0, "mw": 1e-3}

_QUANTITY = re.compile(r"\s*([-+]?[0-9]*\.?[0-9]+(?:e[-+]?[0-9]+)?)\s*([a-z%/]*)\s*", re.IGNORECASE)


def _read(text: object, units: Mapping[str, float], example: str, *, logarithmic: bool = False) -> float:
    """Number times unit; a logarithmic one may be negative, and its 0 is not nothing.

    Raises ValueError saying how to write it.
    """
    match = _QUANTITY.fullmatch(str(text))
    if isinstance(text, bool) or match is None:
        raise ValueError(f"'{text}' is not a quantity; write for example {example}")
    number, unit = float(match[1]), match[2].lower()
    if unit not in units:
        unit = unit.removesuffix("/s")
    if not unit and number == 0 and not logarithmic:
        return 0.0
    if not unit:
        raise ValueError(f"'{text}' has no unit; write for example {example}")
    if unit not in units:
        raise ValueError(f"'{match[2]}' is no unit here ({', '.join(units)}); write for example {example}")
    if number < 0 and not logarithmic:
        raise ValueError(f"'{text}' is negative")
    return number * units[unit]


def rate(text: object) -> float:
    """`20mbit` -> 2e7 bit/s."""
    return _read(text, _BITS_PER_SECOND, "20mbit")


def duration(text: object) -> float:
    """`25ms` -> 0.025 s."""
    return _read(text, _SECONDS, "25ms")


def size(text: object) -> float:
    """`3.2MB` -> 3.2e6 bytes."""
    return _read(text, _BYTES, "64kB")


def fraction(text: object) -> float:
    """`1%` -> 0.01. Raises ValueError above 100 %."""
    value = _read(text, _FRACTIONS, "1%")
    if value > 1:
        raise ValueError(f"'{text}' is more than 100%")
    return value


def distance(text: object) -> float:
    """`1.5km` -> 1500 m."""
    return _read(text, _METRES, "500m")


def speed(text: object) -> float:
    """`3km/h` -> 0.8333 m/s."""
    return _read(text, _METRES_PER_SECOND, "3km/h")


def frequency(text: object) -> float:
    """`3.5GHz` -> 3.5e9 Hz."""
    return _read(text, _HERTZ, "20MHz")


def power(text: object) -> float:
    """`23dBm` -> 23.0 dBm."""
    return _read(text, _DBM, "23dBm", logarithmic=True)


def decibel(text: object) -> float:
    """`9dB` -> 9.0 dB."""
    return _read(text, _DB, "9dB", logarithmic=True)


def watts(text: object) -> float:
    """`250mW` or `23dBm` -> watts."""
    if str(text).strip().lower().endswith("dbm"):
        return float(10 ** ((power(text) - 30) / 10))
    return _read(text, _WATTS, "5W, 250mW or 23dBm")


@dataclass(frozen=True)
class Queue:
    """How much may wait for a link: a time at its rate, bytes, or full packets."""

    value: float
    unit: str
    """`s`, `B` or `packets`."""

    def bytes_at(self, rate_bps: float, packet_bytes: int) -> int:
        """The queue's length in bytes; e.g. 100 ms at 8 Mbit/s is 100,000 bytes."""
        if self.unit == "s":
            return round(self.value * rate_bps / 8)
        return round(self.value * (packet_bytes if self.unit == "packets" else 1))


def queue(text: object) -> Queue:
    """`100ms`, `64kB` or `50packets`."""
    if isinstance(text, Queue):
        return text
    for units, unit in ((_SECONDS, "s"), (_BYTES, "B"), (_PACKETS, "packets")):
        match = _QUANTITY.fullmatch(str(text))
        if match and match[2].lower() in units:
            return Queue(_read(text, units, "100ms"), unit)
    raise ValueError(f"'{text}' is no queue length; write for example 100ms, 64kB or 50packets")


def _written(unit: str, scale: float = 1.0) -> PlainSerializer:
    """Back to text that reads as the same value: as many digits as that takes, 12 where they do."""

    def write(value: float) -> str:
        number = value * scale
        short = f"{number:.12g}"
        return f"{short if float(short) / scale == value else repr(number)}{unit}"

    return PlainSerializer(write, when_used="json")


Rate = Annotated[float, BeforeValidator(rate), _written("bit")]
Duration = Annotated[float, BeforeValidator(duration), _written("s")]
Fraction = Annotated[float, BeforeValidator(fraction), _written("%", 100)]
Distance = Annotated[float, BeforeValidator(distance), _written("m")]
Speed = Annotated[float, BeforeValidator(speed), _written("m/s")]
Frequency = Annotated[float, BeforeValidator(frequency), _written("Hz")]
Power = Annotated[float, BeforeValidator(power), _written("dBm")]
Decibel = Annotated[float, BeforeValidator(decibel), _written("dB")]
Watts = Annotated[float, BeforeValidator(watts), _written("W")]
QueueLength = Annotated[
    Queue,
    BeforeValidator(queue),
    PlainSerializer(lambda value: f"{value.value:.12g}{value.unit}", when_used="json"),
]
