"""Named access links: what `network.profile` and `network.devices[].profile` stand for.

A profile gives a device's link whatever the device does not say of it. Rates count at layer 2 like every rate
here, though their sources measured what applications got. Loss is what is left after the air interface's own
retransmissions (HARQ and RLC, Wi-Fi's acknowledgements): 3GPP asks for 1e-6 (TS 23.203, QCI 9), which no run
would notice, so it is none; for a lossy link write `loss` beside the profile. Queues are assumptions:
cellular networks queue deeply (Jiang et al., "Understanding bufferbloat in cellular networks", CellNet 2012,
saw seconds), so 300 ms where rates are in Mbit/s, and some ten packets where one takes half a second.

- `nbiot`: NB-IoT, category NB1 of Release 13, multi-tone up, the best that a device can have. TS 36.306: one
  transport block of 680 bits down, of 1,000 up, at a time; with what scheduling it takes, one each 25 ms and
  16 ms: 27.2 and 62.5 kbit/s. 100 ms each way is an assumption.
- `nbiot2`: category NB2 of Release 14 with two HARQ processes: 127 and 159 kbit/s. Delay as above.
- `ltem`: LTE-M, category M1 of Release 13, full duplex: 1 Mbit/s each way (TS 36.306: 1,000 bits each ms).
  50 ms each way is an assumption.
- `lte_edge`: a device at the edge of an urban LTE cell of 20 MHz: 0.06 bit/s/Hz down and 0.03 up (Report
  ITU-R M.2134, cell-edge user spectral efficiency, base coverage urban). 30 ms each way is an assumption.
- `lte`: the mean mobile user of Ookla's Speedtest Global Index of September 2020, when few had 5G:
  35.96 Mbit/s down, 11.22 up, 40 ms there and back.
- `5g`: 100 Mbit/s down, the user experienced data rate that Report ITU-R M.2410 asks of IMT-2020, and the
  most at which links are gated here; the median 5G user of Ookla's third quarter of 2021 had 166 down, and
  21 up, which is taken. 28 ms there and back, the index's mobile median of November 2022.
- `wifi`: Firefox's network throttling profile "Wi-Fi": 30 Mbit/s down, 15 up, 2 ms there and back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator

from experiments import units

_WAYS = ("up", "down")


def _link(down: str, up: str, delay: str, queue: str) -> dict[str, dict[str, str]]:
    """Both directions, as a configuration writes them."""
    rest = {"delay": delay, "loss": "0%", "queue": queue}
    return {"down": {"rate": down, **rest}, "up": {"rate": up, **rest}}


PROFILES: dict[str, dict[str, dict[str, str]]] = {
    "nbiot": _link("27.2kbit", "62.5kbit", "100ms", "16kB"),
    "nbiot2": _link("127kbit", "159kbit", "100ms", "16kB"),
    "ltem": _link("1mbit", "1mbit", "50ms", "300ms"),
    "lte_edge": _link("1.2mbit", "0.6mbit", "30ms", "300ms"),
    "lte": _link("36mbit", "11.2mbit", "20ms", "300ms"),
    "5g": _link("100mbit", "21mbit", "14ms", "300ms"),
    "wifi": _link("30mbit", "15mbit", "1ms", "100ms"),
}
"""Name -> direction -> key of a device's link -> value."""


def _known(name: str) -> str:
    if name not in PROFILES:
        raise ValueError(f"unknown profile '{name}': one of {', '.join(PROFILES)}")
    return name


ProfileName = Annotated[str, AfterValidator(_known)]


def fill(device: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A device as it was written, with what it does not say of its link taken from the profile.

    One with a delivery trace keeps it in place of the profile's rate. What is no mapping is left for its own
    check.
    """
    filled = dict(device)
    for way in _WAYS:
        own = device.get(way)
        if own is None:
            own = {}
        if isinstance(own, Mapping):
            default = PROFILES[name][way]
            if own.get("trace") is not None:
                default = {key: value for key, value in default.items() if key != "rate"}
            filled[way] = {**default, **own}
    return filled


def follows(name: str, rates_bps: Mapping[str, float | None]) -> bool:
    """Whether a link with these rates, by direction, has one of the profile's."""
    return any(rates_bps[way] == units.rate(PROFILES[name][way]["rate"]) for way in _WAYS)
