"""The analytic model's latency for a run's rounds, from its configuration alone, beside what was measured.

Rates are the links' own. A channel's are Shannon's bound at the mean gain (path loss and shadowing) of where
devices begin; fading, moving and modulation are among what the model leaves out. Links behind a cell
(backhauls, radios of a mesh) count as the slowest on the way, as if nobody else used them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from emulation.link import AccessLink
from experiments import analytic, computing, round_needs
from experiments.config_cell import WAYS, DeviceNeeds, Way
from experiments.model_shapes import ShapeError
from experiments.timeline import Round

if TYPE_CHECKING:
    from experiments.config import Experiment

Rates = Mapping[Way, Mapping[str, float]]
"""bit/s of every emulated device, while it has its air to itself."""


def latencies_s(experiment: Experiment, rounds: Iterable[Round]) -> list[float | None]:
    """Of each round: when the last of those that finished it is done.

    None where the configuration does not tell: training is measured, the model's shapes are not known before
    it is loaded, a device is remote, or nobody finished. Central training has a model of its own.
    """
    if experiment.training.scheme == "central":
        return [_central_s(experiment, one) for one in rounds]
    links = {link.device: link for link in experiment.links()}
    rates = rates_bps(experiment)
    found: list[float | None] = []
    for one in rounds:
        try:
            needs = round_needs.needs(experiment, one.number)
        except ShapeError:
            needs = None
        cohort = list(one.clients)
        finished = {name for name, client in one.clients.items() if client.outcome == "finished"}
        if needs is None or not finished or not set(cohort) <= set(links):
            found.append(None)
            continue
        done = done_s([links[name] for name in cohort], rates, needs)
        found.append(analytic.round_s(done[name] for name in finished))
    return found


def _central_s(experiment: Experiment, one: Round) -> float | None:
    """Round 1 brings the data up, each trains, and the last brings the adapter down.

    T = max_k D_k / r_k + E C D / f + max_k S / r_k: the server trains on all data, once they are there.
    """
    links, central, training = experiment.links(), experiment.central, experiment.training
    step_s = computing.server_seconds_per_step(experiment)
    if training.trainer != "synthetic" or any(c.outcome != "finished" for c in one.clients.values()):
        return None  # What real data weigh is not known before they are packed.
    rates, at_once = rates_bps(experiment), [0.0] * len(links)
    done = (step_s or 0.0) * training.steps * len(links)
    if one.number == 1:
        data = [float(central.images * central.image_bytes)] * len(links)
        done += max(transferred(links, "up", rates["up"], data, at_once))
    if one.number == experiment.rounds and central.deliver:
        adapter = [round_needs.adapter_bytes(experiment)] * len(links)
        done += max(transferred(links, "down", rates["down"], adapter, at_once))
    return done


def done_s(links: Sequence[AccessLink], rates: Rates, needs: Mapping[str, DeviceNeeds]) -> dict[str, float]:
    """Device -> T_dl + T_cmp + T_up in a round of these devices."""
    names = [link.device for link in links]
    downloaded = transferred(
        links, "down", rates["down"], [needs[name].down_bytes for name in names], [0.0] * len(names)
    )
    trained = [end + needs[name].compute_s for name, end in zip(names, downloaded, strict=True)]
    uploaded = transferred(links, "up", rates["up"], [needs[name].up_bytes for name in names], trained)
    return dict(zip(names, uploaded, strict=True))


def transferred(
    links: Sequence[AccessLink],
    way: Way,
    rates: Mapping[str, float],
    sizes: Sequence[float],
    starts_s: Sequence[float],
) -> list[float]:
    """When each transfer has arrived; those that share an air by need get it evenly while they are there."""
    alone = [analytic.transfer_s(size, rates[link.device]) for link, size in zip(links, sizes, strict=True)]
    ends = [start + took for start, took in zip(starts_s, alone, strict=True)]
    airs = {link.air for link in links if link.air is not None and link.air.scheduler != "fixed"}
    for air in airs:
        members = [number for number, link in enumerate(links) if link.air == air]
        shared = analytic.shared_air([starts_s[n] for n in members], [alone[n] for n in members])
        for number, end in zip(members, shared, strict=True):
            ends[number] = end
    return [end + getattr(link, way).delay_s for end, link in zip(ends, links, strict=True)]


def rates_bps(experiment: Experiment) -> Rates:
    """Of every emulated device; where airtime is divided for good and evenly, its share of it."""
    network, links = experiment.network, experiment.links()
    if network.channel is None:
        rates = {way: {link.device: getattr(link, way).rate_bps for link in links} for way in WAYS}
    else:
        bands = network.bands_hz
        rates = {}
        for side, way in enumerate(WAYS):
            whole, snr_hz = network.channel.spectrum(way, [link.device for link in links])
            own = np.full(len(links), whole) if bands is None else bands[:, side]
            rates[way] = {
                link.device: analytic.shannon_rate_bps(float(band), float(snr))
                for link, band, snr in zip(links, own, snr_hz, strict=True)
            }
    sharers = {link.air: sum(other.air == link.air for other in links) for link in links}
    return {
        way: {
            link.device: rates[way][link.device]
            / (sharers[link.air] if link.air is not None and link.air.scheduler == "fixed" else 1)
            for link in links
        }
        for way in WAYS
    }
