"""Central training in the tables: what devices have sent and got, and what the server's own trainer did.

In a round a device may send its data, may get the adapter, or both; a row holds the sums. The trainer has a
row too. What it shares with the server crosses no network: no bytes, and no time but its gate and compute.
`wait` is, for both, the rest of the round.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from emulation.link import AccessLink
from experiments.counting import WIRE, bound_s, counted
from experiments.timeline import PHASES, ClientRound, Round
from proto.exchange import TRAINER

Row = dict[str, Any]


def row(usual: Row, client: ClientRound, one: Round, link: AccessLink | None) -> Row:
    """A row of clients.csv from what it is by the usual marks."""
    changed = _trainer(usual) if client.client == TRAINER else _device(usual, client, link)
    if one.latency_s is not None and client.outcome == "finished":
        parts = [changed[f"{phase}_s"] for phase in PHASES if phase != "wait"]
        changed["wait_s"] = one.latency_s - (_sum(*parts) or 0.0)
    return changed


def _trainer(usual: Row) -> Row:
    counts = [key for key in usual if key.endswith("_bytes") or key == "retransmitted_segments"]
    phases = ("download", "encode", "upload", "aggregate", "turnaround", "bound_download", "bound_upload")
    nothing = ("downlink_kind", "encode_cpu_s", "upload_attempts", "upload_status")
    return {
        **usual,
        **dict.fromkeys(counts, 0),
        **{f"{phase}_s": None for phase in phases},
        **dict.fromkeys(nothing),
        "remote": False,
        "bound_s": usual["compute_s"],
    }


def _device(usual: Row, client: ClientRound, link: AccessLink | None) -> Row:
    """The adapter that was brought adds to what came down, and its receipt to what went up."""
    brought, receipt = client.marks.get("delivery_end"), client.marks.get("accepted")
    sent = client.marks.get("upload_end")
    payload = client.value("delivery_end", "payload_bytes")
    bound_delivery_s = None if payload is None or link is None else bound_s(payload, link.down)
    changed = {
        **usual,
        "download_s": _sum(usual["download_s"], client.phase_s("delivery")),
        "payload_down_bytes": _sum(usual["payload_down_bytes"], payload),
        "message_down_bytes": _sum(
            usual["message_down_bytes"], client.value("delivery_end", "message_bytes")
        ),
        "wire_down_bytes": _sum(usual["wire_down_bytes"], counted(WIRE, sent or client.before, brought)),
        "payload_up_bytes": _sum(usual["payload_up_bytes"], 0 if receipt else None),
        "message_up_bytes": _sum(usual["message_up_bytes"], client.value("delivered", "message_bytes")),
        "wire_up_bytes": _sum(usual["wire_up_bytes"], counted(WIRE, brought, receipt)),
        "retransmitted_segments": counted(
            ("retransmitted_segments",), client.before, receipt or sent or client.exit
        ),
        "downlink_kind": client.value("delivery_start", "kind") or usual["downlink_kind"],
        "bound_download_s": _sum(usual["bound_download_s"], bound_delivery_s),
    }
    return changed | {"bound_s": _sum(changed["bound_download_s"], usual["bound_upload_s"])}


def failures(clients: pd.DataFrame) -> list[str]:
    """Rounds in which nobody trained: each makes the run invalid."""
    trainer = clients[(clients["client"] == TRAINER) & (clients["outcome"] != "finished")]
    ended = zip(trainer["round"], trainer["outcome"], strict=True)
    return [f"round {number}: the server's trainer: {outcome}" for number, outcome in ended]


def _sum(*values: float | None) -> Any:
    """Of what there is; None of nothing."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None
