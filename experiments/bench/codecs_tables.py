"""codecs.md: the bench's rows as a table to read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from experiments.bench.links_tables import markdown_table

if TYPE_CHECKING:
    from experiments.bench.codecs import Row

_EXPLANATION = """\
Bits a parameter of the bytes made, side information included, and the error's power as a share of the
values' (NMSE): of 797,184 values of N(0, 1), and of the first updates of three devices (LoRA of rank 4 on the
bundled base, 20 steps; recorded as float16, so that `fp16` carries them exactly).
*Gap*: bits beyond Shannon's bound for Gaussian values, NMSE = 2^(-2R); updates may
cost less, for their tensors differ in size. *Own gap*: bits beyond the bound of an error that does not depend
on the values, NMSE = 1 / (2^(2R) - 1), for codecs that promise to be unbiased. *Gain*: slope of decoded on
original updates, over 16 encodings; z: how many standard errors it is from 1. Times: processor time of one
thread in numpy, the best of five."""

_HEAD = [
    *("codec", "bits", "NMSE", "gap", "own gap", "bits, updates", "NMSE, updates", "gap, updates"),
    *("gain", "z", "ns encode", "ns decode"),
]


def markdown(document: dict[str, Any], rows: Sequence[Row]) -> str:
    """The whole file."""
    where = document["machine"]
    parts = [
        "# Codecs: bits, error and time",
        _EXPLANATION,
        f"{where['cores']} cores ({where['cpu']}), Linux {where['kernel']}, {where['date']}. "
        f"To copy a float32 took {document['copy_ns']:.2f} ns.",
        table(rows),
        "## Targets\n\n" + "\n".join(_verdicts(document)),
    ]
    return "\n\n".join(parts) + "\n"


def table(rows: Sequence[Row]) -> str:
    """A line a codec."""
    return markdown_table(_HEAD, [_cells(row) for row in rows])


def _cells(row: Row) -> list[str]:
    return [
        f"`{row.codec}`".replace("|", "\\|"),
        f"{row.bits_per_parameter:.3f}",
        f"{row.nmse_gaussian:.3g}",
        _optional(row.gap_bits, ".3f"),
        _optional(row.gap_unbiased_bits, ".3f"),
        f"{row.bits_real:.3f}",
        f"{row.nmse_real:.3g}",
        _optional(row.gap_real_bits, ".3f"),
        f"{row.gain:.4f}",
        _optional(row.bias_z, ".1f"),
        f"{row.ns_encode:.1f}",
        f"{row.ns_decode:.1f}",
    ]


def _optional(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _verdicts(document: dict[str, Any]) -> Iterable[str]:
    for one in document["targets"]:
        digits = ".1f" if one["what"] == "ns" else ".3f"
        yield (
            f"- `{one['codec']}`: {one['what']} {one['measured']:{digits}} (at most {one['target']:g}): "
            f"{'met' if one['met'] else 'MISSED'}"
        )
