"""From what was measured to one table a figure: means over seeds, SI units, emulated seconds.

Latencies are a round's, from its start to the new model, or a device's own (`own_s`): from the first byte
down until the last byte of its update is at the server, without waits for other devices. Bytes are the
wire's, of the mean device, headers, ACKs and retransmissions in them.
"""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from experiments.paper.measured import HEAD, Measured
from experiments.paper.over_seeds import over_seeds
from experiments.timeline import PHASES
from proto.exchange import TRAINER

OWN_PHASES = ("download", "gate", "compute", "encode", "upload")
"""A device's own; what follows it spends waiting for others."""
_BOTH = ["family", "scheme"]


def cost(measured: Measured) -> pd.DataFrame:
    """A row a family and scheme: bytes up and down of the mean round, and of all rounds that ran."""
    rounds = with_bytes(_part(measured.rounds, "schemes", "learning"))
    last = rounds[rounds["round"] == rounds.groupby("trial")["round"].transform("max")]
    per_round = over_seeds(rounds, _BOTH, ["up_bytes", "down_bytes", "both_bytes"])
    totals = over_seeds(last.assign(rounds=last["round"]), _BOTH, ["total_bytes", "rounds"])
    return per_round.merge(totals[[*_BOTH, "total_bytes", "total_bytes_half", "rounds"]], on=_BOTH)


def cost_by_round(measured: Measured) -> pd.DataFrame:
    """A row a family, scheme and round: bytes so far."""
    rounds = with_bytes(_part(measured.rounds, "schemes", "learning"))
    return over_seeds(rounds, [*_BOTH, "round"], ["up_bytes", "down_bytes", "total_bytes"])


def latency(measured: Measured) -> pd.DataFrame:
    """A row a family and scheme: the mean round's latency, and its phases on the device that was last.

    `server_s` is what the server trains, where it does; `other_s` what no phase covers: before the first byte
    goes down, and between two phases.
    """
    devices = _part(measured.devices, "schemes", "learning")
    rounds = _part(measured.rounds, "schemes", "learning")
    phases = [f"{phase}_s" for phase in PHASES]
    slowest = devices.loc[devices.groupby(["trial", "round"])["own_s"].idxmax().dropna()]
    stacked = rounds.merge(slowest[["trial", "round", *phases]], on=["trial", "round"], how="left")
    stacked[phases] = stacked[phases].fillna(0.0)
    # To a device the server's training is a wait.
    stacked["wait_s"] = (stacked["wait_s"] - stacked["server_s"]).clip(lower=0)
    phases.append("server_s")
    stacked["other_s"] = (stacked["latency_s"] - stacked[phases].sum(axis=1)).clip(lower=0)
    return over_seeds(stacked, _BOTH, ["latency_s", *phases, "other_s", "bound_s", "analytic_s"])


def bandwidth(measured: Measured) -> pd.DataFrame:
    """A row a scheme and rate: the device's own latency."""
    devices = _part(measured.devices, "bandwidth")
    return over_seeds(devices, ["scheme", "rate_up_bps"], ["own_s", "compute_s", "bound_s"])


def cells(measured: Measured) -> pd.DataFrame:
    """A row a scheme and number of devices in the cell: the round's latency."""
    rounds = _part(measured.rounds, "devices")
    return over_seeds(rounds, ["scheme", "devices"], ["latency_s", "analytic_s"])


def paths(measured: Measured) -> pd.DataFrame:
    """A row a congestion control, round-trip time and loss: the device's own latency."""
    devices = _part(measured.devices, "paths")
    by = ["congestion_control", "rtt_s", "packet_loss"]
    return over_seeds(devices, by, ["own_s", "compute_s", "bound_s", "retransmitted_segments"])


def energy(measured: Measured) -> pd.DataFrame:
    """A row a scheme and device profile: own latency and energy of a round, mean over all rounds of a run.

    `feasible`: whether the device has the memory that training takes at least. What a server spends is no
    part of it.
    """
    devices, rounds = _part(measured.devices, "schemes"), _part(measured.rounds, "schemes")
    values = ["own_s", "energy_compute_j", "energy_radio_j"]
    by = [*HEAD, "client", "profile", "feasible"]
    sums = devices.groupby(by, sort=False, dropna=False)
    spent = sums[values].sum(min_count=1).join(sums["extrapolated"].any()).reset_index()
    ran = spent["trial"].map(rounds.groupby("trial")["round"].nunique())
    spent[values] = spent[values].div(ran, axis=0)
    spent["energy_j"] = spent[["energy_compute_j", "energy_radio_j"]].sum(axis=1, min_count=1)
    return over_seeds(spent, ["scheme", "profile", "feasible"], [*values, "energy_j"])


def analytic(measured: Measured) -> pd.DataFrame:
    """A row a point of every part: a round's emulated and analytic latency; `error` their ratio less 1."""
    rounds = measured.rounds
    rounds = rounds[rounds["analytic_s"] > 0].copy()
    rounds["error"] = rounds["latency_s"] / rounds["analytic_s"] - 1
    return over_seeds(rounds, ["family", "part", "scheme", "point"], ["latency_s", "analytic_s", "error"])


def allocation(measured: Measured) -> pd.DataFrame:
    """A row a policy, `shared` being by need: a round's latency."""
    rounds = _part(measured.rounds, "allocation").rename(columns={"point": "policy"})
    return over_seeds(rounds, ["policy"], ["latency_s", "analytic_s"])


def allocation_by_device(measured: Measured) -> pd.DataFrame:
    """A row a policy and device: its own latency by phases."""
    devices = _part(measured.devices, "allocation").rename(columns={"point": "policy"})
    phases = [f"{phase}_s" for phase in OWN_PHASES]
    return over_seeds(devices, ["policy", "client", "profile"], ["own_s", *phases])


def secure(measured: Measured) -> pd.DataFrame:
    """A row without and with secure aggregation, of one codec: a round's latency, bytes, and what it adds."""
    rounds = with_bytes(_part(measured.rounds, "secure")).rename(columns={"point": "updates"})
    values = ["latency_s", "up_bytes", "down_bytes", "secagg_s", "secagg_bytes"]
    return over_seeds(rounds, ["scheme", "updates"], values)


TABLES: dict[str, Callable[[Measured], pd.DataFrame]] = {
    "cost": cost,
    "cost_by_round": cost_by_round,
    "latency": latency,
    "bandwidth": bandwidth,
    "devices": cells,
    "paths": paths,
    "energy": energy,
    "analytic": analytic,
    "allocation": allocation,
    "allocation_by_device": allocation_by_device,
    "secure": secure,
}


def prepared(found: Measured) -> Measured:
    """With each device's own latency, each round's training at the server, and every column that a table asks
    for: missing where no run has it."""
    rows = found.devices.copy()
    wanted = ["client", "round", *(f"{phase}_s" for phase in PHASES)]
    wanted += ["energy_compute_j", "energy_radio_j", "feasible", "extrapolated", "bound_s", "profile"]
    wanted += ["rate_up_bps", "rtt_s", "packet_loss", "congestion_control", "retransmitted_segments"]
    rows = rows.reindex(columns=[*rows.columns, *(c for c in wanted if c not in rows)])
    rows["own_s"] = rows[[f"{phase}_s" for phase in OWN_PHASES]].sum(axis=1, min_count=1)
    rows["feasible"] = ~rows["feasible"].isin([False, "False"])
    trainers, devices = rows[rows["client"] == TRAINER], rows[rows["client"] != TRAINER]
    rounds = found.rounds
    wanted = [
        "round",
        "analytic_s",
        "extrapolated",
        "secagg_s",
        "secagg_bytes",
        "epsilon",
        "latency_s",
        "bound_s",
    ]
    wanted += ["devices", "wire_up_bytes", "wire_down_bytes"]
    rounds = rounds.reindex(columns=[*rounds.columns, *(c for c in wanted if c not in rounds)])
    server = trainers[["trial", "round", "compute_s"]].rename(columns={"compute_s": "server_s"})
    rounds = rounds.merge(server, on=["trial", "round"], how="left").fillna({"server_s": 0.0})
    return Measured(found.trials, _marked(rounds), _marked(devices))


def _marked(table: pd.DataFrame) -> pd.DataFrame:
    """`extrapolated` as a truth value, also where no run has it."""
    return table.assign(extrapolated=table["extrapolated"].isin([True, "True"]))


def _part(table: pd.DataFrame, *names: str) -> pd.DataFrame:
    return table[table["part"].isin(names)]


def with_bytes(rounds: pd.DataFrame) -> pd.DataFrame:
    """`up_bytes`, `down_bytes`, `both_bytes` of the mean device, and `total_bytes` of it so far."""
    rounds = rounds.sort_values(["trial", "round"], kind="stable").copy()
    for way in ("up", "down"):
        rounds[f"{way}_bytes"] = rounds[f"wire_{way}_bytes"] / rounds["devices"]
    rounds["both_bytes"] = rounds["up_bytes"] + rounds["down_bytes"]
    rounds["total_bytes"] = rounds.groupby("trial")["both_bytes"].cumsum()
    return rounds
