"""From a preset to trials: which experiment stands at which point of which part of the suite."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from experiments.config import ConfigError
from experiments.paper.presets import CONGESTION_CONTROLS, SHARED, Preset
from experiments.paper.schemes import BEST, FAMILIES, FULL, SCHEMES, FamilyName
from experiments.sweep import Trial, trial

LABELS = ("part", "family", "setting", "point")
"""What every trial is labelled with, and its seed: `setting` is its scheme (runs' own tables have a column of
that name), `point` says in words what of its part it is."""

CLIP_NORM = 3.0
"""To which devices clip updates before they add noise: a little above the norm of updates of rank 16 (2.2 to
2.7), so that what a private run loses, it loses to noise."""


@dataclass(frozen=True)
class Point:
    """One experiment for each seed."""

    part: str
    family: FamilyName
    scheme: str
    text: str
    overrides: tuple[str, ...] = ()


def trials_of(preset: Preset) -> dict[FamilyName, list[Trial]]:
    """All trials, those of one family together, first seeds first. Raises ConfigError, naming the point."""
    found: dict[FamilyName, list[Trial]] = {family: [] for family in FAMILIES}
    for seed in preset.seeds:
        for point in points(preset):
            family = FAMILIES[point.family]
            changes = [*SCHEMES[point.scheme].overrides_for(point.family), *point.overrides, f"seed={seed}"]
            labels: dict[str, str | int | float] = {
                **dict(zip(LABELS, (point.part, point.family, point.scheme, point.text), strict=True)),
                "seed": seed,
            }
            try:
                found[point.family].append(trial(family.config, changes, labels))
            except ConfigError as error:
                raise ConfigError(f"{point.part}, {point.scheme} {point.text}: {error}") from error
    return found


def points(preset: Preset) -> Iterator[Point]:
    """Every part's, in the order in which they run."""
    rounds = f"rounds={preset.rounds}"
    for scheme in preset.schemes:
        yield Point("schemes", "sd15", scheme, "the cell", (rounds,))
    for masks in (False, True):
        changes = (rounds, "uplink.codec=ring(8,0.01)", f"privacy.secure_aggregation={masks}".lower())
        yield Point("secure", "sd15", "lora-4", "masked" if masks else "the same codec, unmasked", changes)
    yield from _links(preset)
    yield from _cells(preset)
    yield from _paths(preset)
    yield from _policies(preset)
    yield from _learning(preset)


def _links(preset: Preset) -> Iterator[Point]:
    """Latency against bandwidth."""
    for links in preset.links:
        devices = _devices(f"{_link(rate)}" for rate in links.rates_mbit)
        text = f"{min(links.rates_mbit):g} to {max(links.rates_mbit):g} Mbit/s"
        for scheme in preset.link_schemes:
            part = (f"adapter.emulated_time={links.emulated_s}s",) if scheme == FULL else ()
            changes = (*part, f"dilation={links.dilation}", f"rounds={links.rounds}", *_OWN_LINKS)
            yield Point("bandwidth", "sd15", scheme, text, (*changes, devices))


def _cells(preset: Preset) -> Iterator[Point]:
    """Ever more devices alike in the one cell."""
    for scheme, sizes in preset.cell_sizes:
        for size in sizes:
            # Calibration takes most of the time of a large cell: its devices are measured one by one.
            changes = ("rounds=1", _ALIKE, _devices([f"count: {size}, {_CELL_LINK}"]))
            yield Point("devices", "sd15", scheme, f"{size} devices", changes)


def _paths(preset: Preset) -> Iterator[Point]:
    """Delay and loss, with the clock of real life: TCP's timers are not all dilated."""
    links = (_link(10, rtt_ms / 2, loss) for rtt_ms, loss in preset.paths)
    devices = _devices(f"count: {preset.path_devices}, {link}" for link in links)
    for control in CONGESTION_CONTROLS:
        changes = ("dilation=1", f"rounds={preset.path_rounds}", *_OWN_LINKS)
        control_set = f"network.congestion_control={control}"
        yield Point("paths", "sd15", "lora-4", control, (*changes, control_set, devices))


def _policies(preset: Preset) -> Iterator[Point]:
    """Who gets how much of the cell: by need, or a part for good."""
    for policy in preset.policies:
        divided = ("network.sharing=fixed", f"network.cell.allocation={policy}")
        changes = (f"rounds={preset.rounds}", *_UNLIKE_PLACES, *(() if policy == SHARED else divided))
        yield Point("allocation", "sd15", "lora-4", policy, changes)


def _learning(preset: Preset) -> Iterator[Point]:
    """The bundled base, really trained; and with ever more noise, for privacy."""
    rounds = f"rounds={preset.learning_rounds}"
    for scheme in preset.schemes:
        yield Point("learning", "bundled", scheme, "the cell", (rounds,))
    for noise in preset.noise_multipliers:
        private = (f"privacy.clip_norm={CLIP_NORM}", f"privacy.noise_multiplier={noise}", *_UNIFORM)
        yield Point("privacy", "bundled", BEST, f"noise {noise:g}", (rounds, *private))


_UNIFORM = ("aggregation.mean=uniform",)
"""What differential privacy asks for: how many examples a device has is its own affair."""
_CELL_LINK = "up: {rate: 10mbit, delay: 20ms}, down: {rate: 20mbit, delay: 20ms}"
"""That of configs/paper.yaml."""
_ALIKE = "compute.profile=laptop_gpu"
"""Where links are what differs."""
_UNLIKE_PLACES = tuple(
    f"network.devices.{device}.{way}.rate={rate}mbit"
    for device, rates in enumerate(((4, 8), (8, 16), (8, 16), (10, 20)))
    for way, rate in zip(("up", "down"), rates, strict=True)
)
"""The phone at the edge of the cell, the desktop near its antenna."""
_OWN_LINKS = (_ALIKE, "network.sharing=none")


def _link(rate_mbit: float, delay_ms: float = 20, loss_percent: float = 0) -> str:
    way = f"{{rate: {rate_mbit:g}mbit, delay: {delay_ms:g}ms, loss: {loss_percent:g}%}}"
    return f"up: {way}, down: {way}"


def _devices(each: Iterator[str] | list[str]) -> str:
    return f"network.devices=[{', '.join(f'{{{one}}}' for one in each)}]"
