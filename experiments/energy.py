"""The energy of each device in each round, as two columns of clients.csv (DESIGN.md, section 7).

    energy_compute_j = P T_cmp                 P its compute profile's power (kappa f^3 for a processor)
    energy_radio_j   = p_tx T_up + p_rx T_dl   for as long as its transfers last

Times are the measured phases, in emulated seconds. A device without a profile has no power, so no energy of
computing; a remote one has no radio here. In an air that is shared by need a radio also rests while a
transfer lasts, so there the second is the most that it can be.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pandas as pd

from experiments import analytic, computing
from proto.exchange import TRAINER

if TYPE_CHECKING:
    from experiments.config import Experiment


def with_energy(clients: pd.DataFrame, experiment: Experiment) -> pd.DataFrame:
    """clients.csv with `energy_compute_j`, `energy_radio_j`, and `feasible`: whether training fits memory."""
    devices = experiment.expanded_devices()
    profiles = {name: computing.profile_of(experiment, device) for name, device in devices}
    fits = computing.feasible(experiment)
    network = experiment.network
    send_w, receive_w = network.power.transmit_w(network.channel), network.power.receive
    rows = clients.to_dict("records")
    if (server := experiment.compute.server_profile) is not None:
        profiles[TRAINER] = experiment.compute.find("compute.server_profile", server)
    powers = [profile.power_w if (profile := profiles.get(row["client"])) else None for row in rows]
    return clients.assign(
        energy_compute_j=[_energy_j(p, row["compute_s"]) for p, row in zip(powers, rows, strict=True)],
        energy_radio_j=[
            _energy_j(None if row["remote"] else send_w, row["upload_s"])
            + _energy_j(receive_w, row["download_s"] if receive_w else 0.0)
            for row in rows
        ],
        feasible=pd.Series([fits.get(row["client"]) for row in rows], index=clients.index, dtype=object),
    )


def _energy_j(power_w: float | None, seconds: float | None) -> float:
    """NaN where either is missing."""
    return math.nan if power_w is None or seconds is None else analytic.energy_j(power_w, seconds)
