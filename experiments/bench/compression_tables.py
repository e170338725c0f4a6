"""What `fedcell bench compression` writes: JSON, CSV, tables to read, and the Pareto figure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from experiments import retrieval
from experiments.bench import compression_rows as rows
from experiments.bench.compression import CompressionBench
from experiments.bench.compression_curves import to_table
from experiments.bench.compression_settings import BASELINE, PACKET_LOSS
from experiments.bench.links import machine
from experiments.bench.links_tables import markdown_table
from experiments.figures import pareto, style
from experiments.record import json_rows, write_table

_EXPLANATION = """\
{devices} devices train the bundled base ({steps} steps of {batch_size} a round, rank {rank} where not
said otherwise) for {rounds} rounds over links of {up:g} Mbit/s up and {down:g} Mbit/s down, {delay:g} ms
each way. Bytes are those of the mean device's interface, both directions, headers and retransmissions in
it, while a transfer lasts. Times are emulated, from a round's start to the new global adapter. Losses are
on drawings that nobody trained on. ± halves a 95 % interval (Student's t over {seeds} seeds); ratios are
taken between trials of one seed."""

_PROTOCOLS = """\
*Cost to target*: the first round after which the loss is where {baseline} has made {progress:.0%} of all
its progress, seed by seed; its time and bytes (up and down) include all rounds before. *Quality under
budget*: the loss that {budget:.0%} of the bytes buys which {baseline} spends on all its rounds.
*Robustness*: the first seed again, some rounds or all, with {loss:.0%} of all packets lost both ways. TCP
sends again what is lost, so that the training should be the same bit by bit, and its price is time."""

_RETRIEVAL = """\
Emoji drawn by the last round's adapters, all seeds together, in the three styles that devices own, and
looked for among the real drawings of such names in four styles, by the frozen dual encoder
(client/diffusion/dual-encoder). *Style*: the nearest is in the right style. *Known* names the base has
learned to draw in its own style; *unseen* ones nobody has trained on. *Ceiling*: the real drawings after
the base's autoencoder."""


def to_json(bench: CompressionBench) -> dict[str, Any]:
    """The `bench compression` document of the command line."""
    return {
        "preset": bench.preset.name,
        "valid": bench.holds,
        "claim": {
            "loss_within": rows.LOSS_WITHIN,
            "up_at_least": rows.UP_TARGET,
            "speed_at_least": rows.SPEED_TARGET,
            "holds": any(claim.holds for claim in bench.claims),
            "settings": [asdict(claim) for claim in bench.claims],
        },
        "bad": bench.bad,
        "repeated": bench.repeated,
        "trials": bench.trials,
        "took_s": bench.took_s,
        "machine": machine(),
        "configuration": bench.configuration | {"seeds": list(bench.preset.seeds)},
        "settings": {one.name: list(one.overrides) for one in bench.preset.settings},
        "rows": [asdict(row) for row in bench.rows],
        "retrieval": json_rows(bench.retrieval),
        "curves": [asdict(curve) for curve in bench.curves],
    }


def write(bench: CompressionBench, folder: Path) -> list[Path]:
    """compression.json, .md and .csv and the figure, in `folder`; their paths."""
    document = to_json(bench)
    (folder / "compression.json").write_text(json.dumps(document, indent=1) + "\n")
    (folder / "compression.md").write_text(markdown(document))
    write_table(to_table(bench.curves), folder / "compression.csv")
    written = [folder / f"compression.{kind}" for kind in ("json", "md", "csv")]
    names = [setting.name for setting in bench.preset.settings]
    # What is not valid is not in the figure: its settings have fewer seeds, or none.
    return written + style.save(pareto.draw(bench.curves, names), folder / "pareto", valid=True)


def markdown(document: dict[str, Any]) -> str:
    """The whole file, from the JSON document."""
    shared, machine = document["configuration"], document["machine"]
    explained = _EXPLANATION.format(
        **(shared | {"seeds": len(shared["seeds"])}),
        up=shared["up_bps"] / 1e6,
        down=shared["down_bps"] / 1e6,
        delay=shared["one_way_delay_s"] * 1e3,
    )
    protocols = _PROTOCOLS.format(
        baseline=BASELINE, progress=rows.PROGRESS, budget=rows.BUDGET, loss=PACKET_LOSS
    )
    parts = [
        f"# Compression ({document['preset']})",
        explained,
        f"{machine['cores']} cores ({machine['cpu']}), Linux {machine['kernel']}, {machine['date']}; "
        f"{document['trials']} trials, {document['took_s'] / 60:.0f} minutes.",
        "\n".join(verdict(document)),
        "## A round, and what training came to\n\n" + _rounds(document["rows"]),
        f"## Three protocols\n\n{protocols}\n\n" + _by_protocol(document["rows"]),
        f"## Style retrieval\n\n{_RETRIEVAL}\n\n" + _found(document["retrieval"]),
        *_troubles(document),
    ]
    return "\n\n".join(parts) + "\n"


def verdict(document: dict[str, Any]) -> Iterable[str]:
    """Whether the claim holds, by which setting, and how surely."""
    claim = document["claim"]
    wanted = (
        f"{BASELINE}'s final loss within {claim['loss_within']:.0%}, at least {claim['up_at_least']:g} times "
        f"fewer bytes up, rounds at least {claim['speed_at_least']:g} times faster"
    )
    by_name = {row["setting"]: row for row in document["rows"]}
    holding = [one for one in claim["settings"] if one["holds"]]
    yield f"**{'Holds' if holding else 'DOES NOT HOLD'}**: {wanted}."
    for one in holding:
        row = by_name[one["setting"]]
        ratio = row["loss_ratio"]["mean"] - 1
        surely = (
            "the ends of the intervals too" if one["surely"] else "by the means, an interval reaches beyond"
        )
        yield (
            f"- {one['setting']}: loss {ratio:+.2%}, {row['up_ratio']['mean']:.1f} times fewer bytes up, "
            f"{row['speedup']['mean']:.1f} times faster ({surely})"
        )


def _rounds(table: Sequence[dict[str, Any]]) -> str:
    lines = []
    for row in table:
        lines.append(
            [
                _name(row),
                _text(row["up_bytes"], 1e3, 1),
                _text(row["down_bytes"], 1e3, 1),
                _text(row["up_ratio"], 1, 1),
                _text(row["latency_s"], 1, 3),
                _text(row["speedup"], 1, 2),
                _text(row["final_loss"], 1, 4),
                _percent(row["loss_ratio"]),
            ]
        )
    head = ["setting", "up, kB", "down, kB", "fewer up", "round, s", "faster", "final loss"]
    return markdown_table([*head, f"against {BASELINE}"], lines)


def _by_protocol(table: Sequence[dict[str, Any]]) -> str:
    lines = []
    for row in table:
        lossy = row["lossy"]
        robust = ["–", "–"]
        if lossy:
            same = "the same" if lossy["identical"] else f"{lossy['clean_loss']:.4f} WITHOUT"
            robust = [
                f"{lossy['loss']:.4f} after {lossy['rounds']} ({same})",
                f"{lossy['latency_s']:.2f} s ({lossy['slowdown']:.2f}x)",
            ]
        reached = f"{row['reached']} of {len(row['seeds'])}"
        lines.append(
            [
                _name(row),
                reached,
                _text(row["target_rounds"], 1, 1),
                _text(row["target_time_s"], 1, 1),
                _text(row["target_bytes"], 1e6, 2),
                _text(row["budget_rounds"], 1, 1),
                _text(row["budget_loss"], 1, 4),
                *robust,
            ]
        )
    head = [
        "setting",
        "seeds at target",
        "rounds to it",
        "time, s",
        "MB",
        "rounds in budget",
        "loss in budget",
    ]
    return markdown_table([*head, "loss with packet loss", "round with it"], lines)


def _found(table: Sequence[dict[str, Any]]) -> str:
    by_setting: dict[str, dict[str, dict[str, Any]]] = {}
    for row in table:
        by_setting.setdefault(row["source"], {})[row["names"]] = row
    splits = list(dict.fromkeys(row["names"] for row in table))
    lines = []
    for source, found in by_setting.items():
        cells = [_escaped(source)]
        for split in splits:
            cells += [_share(found.get(split), name) for name in retrieval.SHARES]
        lines.append(cells)
    titles = [f"{split}: {title}" for split in splits for title in ("R@1", "R@5", "style")]
    return markdown_table(["setting", *titles], lines)


def _troubles(document: dict[str, Any]) -> Iterable[str]:
    if document["bad"]:
        yield "## Not valid, and in no number above\n\n" + "\n".join(f"- {line}" for line in document["bad"])
    if document["repeated"]:
        yield "## Run again\n\nInvalid at first:\n\n" + "\n".join(
            f"- {line}" for line in document["repeated"]
        )


def _name(row: dict[str, Any]) -> str:
    if not row["missing"]:
        return _escaped(row["setting"])
    tried = len(row["seeds"]) + len(row["missing"])
    return f"{_escaped(row['setting'])} (INVALID: {len(row['missing'])} of {tried} seeds)"


def _escaped(name: str) -> str:
    """A pipe in a cell would begin the next."""
    return name.replace("|", "\\|")


def _text(estimate: dict[str, Any] | None, unit: float, digits: int) -> str:
    if estimate is None:
        return "–"
    text = f"{estimate['mean'] / unit:.{digits}f}"
    return text if estimate["half"] is None else f"{text} ± {estimate['half'] / unit:.{digits}f}"


def _percent(ratio: dict[str, Any] | None) -> str:
    if ratio is None:
        return "–"
    text = f"{ratio['mean'] - 1:+.2%}"
    return text if ratio["half"] is None else f"{text} ± {ratio['half']:.2%}"


def _share(row: dict[str, Any] | None, name: str) -> str:
    if row is None:
        return "–"
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return f"{row[name]:.1%}" if low is None else f"{row[name]:.0%} ({low:.0%}–{high:.0%})"
