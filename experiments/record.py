"""From a timeline to the run's tables and manifest, and the verdict whether they can be trusted."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from emulation.link import AccessLink, LinkSpec
from experiments import record_central
from experiments.counting import WIRE, bound_s, counted
from experiments.timeline import PHASES, SECURE_PHASES, ClientRound, Round
from experiments.whole_file import write_whole
from proto.exchange import TRAINER


def clients_table(rounds: Iterable[Round], links: dict[str, AccessLink]) -> pd.DataFrame:
    """One row a round and client; see the README for the columns.

    A client without a link here is remote: what only it or its link could tell is missing in its row.
    """
    rows = []
    for one in rounds:
        for client in one.clients.values():
            link = links.get(client.client)
            row = _client_row(client, link)
            rows.append(record_central.row(row, client, one, link) if one.scheme == "central" else row)
    return pd.DataFrame(rows)


def _client_row(client: ClientRound, link: AccessLink | None) -> dict[str, Any]:
    payload_down = client.value("download_end" if link else "download_start", "payload_bytes")
    # Where a codec's lengths vary, only a whole update tells its own.
    whole = client.marks.get("upload_received") or client.marks.get("late_update_used") or {}
    payload_up = whole.get("payload_bytes", client.value("encode_end", "payload_bytes"))
    compute_s = client.phase_s("compute")
    # A device that was lost has no last reading of its own: the runner took one when its process ended.
    after_download = client.marks.get("download_end") or client.exit
    before_upload = client.marks.get("encode_end")
    after_upload = client.marks.get("revealed") or client.marks.get("upload_end") or client.exit
    row: dict[str, Any] = {"round": client.round, "client": client.client, "outcome": client.outcome}
    row["extrapolated"] = client.extrapolated
    row["remote"] = link is None
    row |= {f"{phase}_s": client.phase_s(phase) for phase in (*PHASES, *SECURE_PHASES)}
    row["turnaround_s"] = client.between_s("download_start", "upload_received")
    row |= {
        "downlink_kind": client.value("download_end", "kind") or client.value("download_start", "kind"),
        "payload_down_bytes": payload_down,
        "message_down_bytes": client.value("download_end", "message_bytes"),
        "wire_down_bytes": counted(WIRE, client.before, after_download),
        "payload_up_bytes": payload_up,
        "message_up_bytes": whole.get("message_bytes"),
        "wire_up_bytes": counted(WIRE, before_upload, after_upload),
        "received_up_bytes": _received(client),
        "secagg_bytes": _secure_bytes(client),
        "retransmitted_segments": counted(("retransmitted_segments",), client.before, after_upload),
        "steps": client.value("compute_end", "steps"),
        "loss": client.value("compute_end", "loss"),
        "cpu_s": client.value("compute_end", "cpu_s"),
        "encode_cpu_s": client.value("upload_end", "encode_cpu_s"),
        "update_norm": client.value(_normed(client), "update_norm"),
        "clipped": client.value("clipped", "clipped"),
        "residual_norm": client.value("error_feedback", "residual_norm"),
        "overrun_s": client.value("compute_end", "overrun_s"),
        "clipped_values": client.value("revealed", "clipped"),
        "upload_attempts": client.value("upload_end", "attempts"),
        "upload_status": client.value("upload_end", "status"),
        "used_in_round": client.value("late_update_used", "used_in"),
        "exit_status": client.exit["status"] if client.exit else None,
        "bound_download_s": None if payload_down is None or not link else bound_s(payload_down, link.down),
        "bound_upload_s": None if payload_up is None or not link else bound_s(payload_up, link.up),
    }
    parts = (row["bound_download_s"], compute_s, row["bound_upload_s"])
    row["bound_s"] = None if None in parts else sum(parts)
    return row


def _normed(client: ClientRound) -> str:
    """Which event has the norm of its update, as trained."""
    return "clipped" if "clipped" in client.marks else "error_feedback"


def _secure_bytes(client: ClientRound) -> int | None:
    """Of the messages of secure aggregation, both ways; None where there were none."""
    counts = [client.value(mark, "message_bytes") for mark in ("agreed", "revealed")]
    known = [int(count) for count in counts if count is not None]
    return sum(known) if known else None


def _received(client: ClientRound) -> int | None:
    """Payload bytes of the update that reached the server, whether it was complete or not."""
    counts = [
        client.value("upload_received", "payload_bytes"),
        client.value("late_update_used", "payload_bytes"),
        *(client.value(mark, "received") for mark in ("client_lost", "client_late", "refused")),
    ]
    return max((int(count) for count in counts if count is not None), default=None)


def rounds_table(rounds: Iterable[Round], clients: pd.DataFrame) -> pd.DataFrame:
    """One row a round: latency beside its physical bound, and bytes summed over the cohort."""
    rows = []
    started: float | None = None
    for one in rounds:
        started = one.start if started is None else started
        cohort = clients[clients["round"] == one.number]
        finished = cohort[cohort["outcome"] == "finished"]
        sums = {
            column: int(cohort[column].fillna(0).sum())
            for column in clients.columns
            if column.endswith("_bytes") or column == "retransmitted_segments"
        }
        rows.append(
            {
                "round": one.number,
                "scheme": one.scheme,
                "start_s": one.start - started,
                "latency_s": one.latency_s,
                "bound_s": _bound_s(finished),
                "cohort": len(cohort),
                "remote": int(cohort["remote"].sum()),
                "clients_finished": len(finished),
                "extrapolated": bool(cohort["extrapolated"].any()),
                "discordance": one.discordance,
                "secagg_s": one.secagg_s,
                **sums,
            }
        )
    return pd.DataFrame(rows)


def _bound_s(finished: pd.DataFrame) -> float | None:
    """Of a round, from its rows. The server's own trainer begins when all data are there, and what it makes
    goes down when it is done: its time comes on top of the devices'."""
    by_server = finished["client"] == TRAINER
    parts = [part.max() for part in (finished.loc[~by_server, "bound_s"], finished.loc[by_server, "bound_s"])]
    known = [part for part in parts if not pd.isna(part)]
    return sum(known) if known else None


def contradictions(clients: pd.DataFrame, links: dict[str, AccessLink], dilation: float = 1.0) -> list[str]:
    """What cannot be: each makes the run invalid, for something was counted or emulated wrongly."""
    found = []
    judged = clients[(clients["outcome"] == "finished") & ~clients["remote"]]
    for row in judged.to_dict("records"):
        where = f"round {row['round']}, {row['client']}"
        for way in ("down", "up"):
            payload, message, wire = (row[f"{level}_{way}_bytes"] for level in ("payload", "message", "wire"))
            # A message without payload may come with the reply to the last upload, and be read with that.
            if not (message >= payload and wire >= (message if payload else 0)):
                found.append(
                    f"{where}: bytes {way} contradict: wire {wire}, message {message}, payload {payload}"
                )
        link = links.get(row["client"])  # The server's own trainer has none.
        for phase, way in (("upload", "up"), ("download", "down")) if link else ():
            if row[f"payload_{way}_bytes"] == 0:
                continue
            spec: LinkSpec = getattr(link, way)
            least = spec.least_time_s(row[f"payload_{way}_bytes"])
            if not row[f"{phase}_s"] >= least:
                found.append(
                    f"{where}: {phase} of {row[f'{phase}_s']:.3f} s is faster than the link's {least:.3f} s"
                )
        if (row["overrun_s"] or 0) > 0:
            needed = dilation * row["compute_s"] / (row["compute_s"] - row["overrun_s"])
            found.append(
                f"{where}: training took {row['overrun_s']:.2f} s longer than the compute profile; "
                f"dilation={math.ceil(needed * 100 - 1e-6) / 100:g} would fit this machine"
            )
    return found


def write_table(table: pd.DataFrame, path: Path) -> None:
    """As CSV, whole or not at all; microseconds are enough for times."""
    write_whole(path, table.to_csv(index=False, float_format="%.6f"))


def write_manifest(manifest: dict[str, Any], path: Path) -> None:
    """As JSON, whole or not at all."""
    write_whole(path, json.dumps(manifest, indent=2, allow_nan=False) + "\n")


def json_rows(table: pd.DataFrame) -> list[dict[Any, Any]]:
    """A table as JSON values: what is missing, or is not finite, is null."""
    return [
        {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in row.items()
        }
        for row in table.astype(object).to_dict("records")
    ]
