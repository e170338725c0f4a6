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

if TYPE_CHECKING:
    from experiments.config import Experiment


def with_energy(clients: pd.DataFrame, experiment: Experiment) -> pd.DataFrame:
    """clients.csv with `energy_compute_j`, `energy_radio_j`, and `feasible`: whether training fits.

    All three are of who trains or sends; the server's own trainer has no radio.
    """
    powers_w, fits = computing.powers_w(experiment), computing.feasible(experiment)
    network = experiment.network
    send_w, receive_w = network.power.transmit_w(network.channel), network.power.receive
    rows = clients.to_dict("records")
    return clients.assign(
        energy_compute_j=[_energy_j(powers_w.get(row["client"]), row["compute_s"]) for row in rows],
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
