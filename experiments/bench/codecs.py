"""`fedcell bench codecs`: what each codec costs in bits and time, and how far off its values are.

Every codec encodes and decodes the same vectors as a transfer does, segment by segment: N(0, 1) values, as
many as Stable Diffusion v1.5's LoRA adapter of rank 4 has, and recorded first-round updates of devices
(experiments/bench/codecs_record.py). Rates are of the bytes made, side information included. Times are this
thread's processor time, the best of a few of each segment, beside that of copying the vector.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from experiments.bench import codecs_tables
from experiments.bench.codecs_record import load_updates
from experiments.bench.links import machine
from experiments.figures import codecs as figure
from experiments.figures import style
from proto import codecs
from proto.adapter import Vector
from proto.codecs import Codec
from proto.segments import SEGMENT_VALUES, SegmentEncoder

CODECS = (
    *("fp32", "fp16", "bf16", "int8", "int4", "int2", "nf4", "sign"),
    *("int8(stochastic)", "int4(stochastic)", "qsgd(8)", "qsgd(4)", "qsgd(3)|ans", "qsgd(4)|ans"),
    *("eden(1)", "eden(2)", "eden(3)", "eden(4)", "eden(2)|ans", "eden(4)|ans"),
    *("int4|ans", "nf4|ans", "int8|zstd", "int8|ans"),
    *("topk(0.1)|fp16", "topk(0.01)|fp16", "topk(0.1)|int4|ans", "randk(0.1)|fp16"),
    *("ecq(1)", "ecq(2)", "ecq(3)", "ecq(4)", "topk(0.5)|ecq(3)"),
    *("ecq(1,unbiased)", "ecq(2,unbiased)", "ecq(3,unbiased)", "ecq(4,unbiased)"),
)
GAUSSIAN_VALUES = 797_184
"""Of Stable Diffusion v1.5's LoRA adapter at rank 4."""
REPEATS = 16
"""Of the encoding of a device's update, for its bias."""
TIMINGS = 5

GAP_TARGET_BITS = 0.1
ECQ_TARGET_NS = 100.0
COMMON_TARGET_NS = 10.0
_COMMON = ("fp32", "fp16", "bf16", "int8", "int4", "sign")


@dataclass(frozen=True)
class Row:
    """One codec. NMSE: sum of squared errors over sum of squares. Times in ns a parameter."""

    codec: str
    unbiased: bool
    """As it promises."""
    bits_per_parameter: float
    """Of Gaussian values; `bits_real` of the recorded updates, each by itself."""
    bits_real: float
    nmse_gaussian: float
    nmse_real: float
    gap_bits: float | None
    """Rate of Gaussian values beyond the least for their NMSE: R + log2(NMSE) / 2. None without error."""
    gap_real_bits: float | None
    """The same of the recorded updates: negative where they are easier than Gaussian values."""
    gap_unbiased_bits: float | None
    """R - log2(1 + 1 / NMSE) / 2, of Gaussian values: beyond what an error costs that does not depend on
    them."""
    gain: float
    """Slope of decoded on original updates: what of them arrives on average, 1 if unbiased."""
    bias_z: float | None
    """gain - 1 in standard errors over the repetitions; None where all are alike."""
    ns_encode: float
    ns_decode: float

    @property
    def ns(self) -> float:
        return self.ns_encode + self.ns_decode


@dataclass
class CodecBench:
    """What the bench came to."""

    rows: list[Row] = field(default_factory=list)
    copy_ns: float = 0.0
    """To copy a float32 in the same run."""

    @property
    def holds(self) -> bool:
        """Whether every target is met."""
        return all(verdict["met"] for verdict in self.verdicts())

    def verdicts(self) -> list[dict[str, Any]]:
        """Each target: of which codec, what was measured, at most what, and whether it is met."""
        return [
            {
                "codec": row.codec,
                "what": what,
                "measured": measured,
                "target": target,
                "met": measured <= target,
            }
            for row in self.rows
            for what, measured, target in _targets(row)
        ]

    def to_json(self) -> dict[str, Any]:
        """The `bench codecs` document of the command line."""
        return {
            "valid": self.holds,
            "targets": self.verdicts(),
            "copy_ns": self.copy_ns,
            "machine": machine(),
            "rows": [asdict(row) for row in self.rows],
        }


def _targets(row: Row) -> list[tuple[str, float, float]]:
    targets: list[tuple[str, float | None, float]] = []
    if row.codec.startswith("ecq("):
        own = "gap_unbiased_bits" if row.unbiased else "gap_bits"
        targets.append((own, getattr(row, own), GAP_TARGET_BITS))
        if not row.unbiased:  # Under dither decoding goes row by row, and takes longer than the target.
            targets.append(("gap_real_bits", row.gap_real_bits, GAP_TARGET_BITS))
            targets.append(("ns", row.ns, ECQ_TARGET_NS))
    elif row.codec in _COMMON:
        targets.append(("ns", row.ns, COMMON_TARGET_NS))
    return [(what, measured, target) for what, measured, target in targets if measured is not None]


def run(names: Sequence[str] = CODECS) -> CodecBench:
    """Measure each codec. Raises CodecError for a name that is none."""
    found = [codecs.parse(name) for name in names]
    gaussian = np.random.default_rng(0).standard_normal(GAUSSIAN_VALUES, np.float32)
    updates = load_updates()
    bench, copies = CodecBench(), []
    for codec in found:
        print(f"bench codecs: {codec.name}", file=sys.stderr, flush=True)
        copies.append(_copy_ns(gaussian))
        bench.rows.append(measure(codec, gaussian, updates))
    bench.copy_ns = float(np.median(copies)) if copies else math.nan
    return bench


def measure(codec: Codec, gaussian: Vector, updates: Sequence[Vector]) -> Row:
    """One codec on Gaussian values and on updates, shape (n,) each."""
    rate, nmse = _rate_and_nmse(codec, [gaussian])
    rate_real, nmse_real = _rate_and_nmse(codec, updates)
    gain, bias_z = _bias(codec, updates[0])
    ns_encode, ns_decode = _times_ns(codec, gaussian)
    return Row(
        codec=codec.name,
        unbiased=codec.unbiased,
        bits_per_parameter=rate,
        bits_real=rate_real,
        nmse_gaussian=nmse,
        nmse_real=nmse_real,
        gap_bits=rate + 0.5 * math.log2(nmse) if nmse else None,
        gap_real_bits=rate_real + 0.5 * math.log2(nmse_real) if nmse_real else None,
        gap_unbiased_bits=rate - 0.5 * math.log2(1 + 1 / nmse) if nmse and codec.unbiased else None,
        gain=gain,
        bias_z=bias_z,
        ns_encode=ns_encode,
        ns_decode=ns_decode,
    )


def _transfer(codec: Codec, vector: Vector, seed: int) -> tuple[int, Vector]:
    """Bytes on the way, and what arrives."""
    arrived, length = np.empty_like(vector), 0
    for piece, start, values in SegmentEncoder(codec, vector, (seed,)).echo():
        length += len(piece)
        arrived[start : start + values.size] = values
    return length, arrived


def _rate_and_nmse(codec: Codec, vectors: Sequence[Vector]) -> tuple[float, float]:
    length, error, power = 0, 0.0, 0.0
    for seed, vector in enumerate(vectors):
        made, arrived = _transfer(codec, vector, seed)
        original = vector.astype(np.float64)
        length += made
        error += float(((arrived - original) ** 2).sum())
        power += float((original**2).sum())
    return 8 * length / sum(vector.size for vector in vectors), error / power


def _bias(codec: Codec, vector: Vector) -> tuple[float, float | None]:
    """Mean slope over the repetitions; and by how many standard errors it is not 1."""
    original = vector.astype(np.float64)
    slopes = np.array(
        [float(_transfer(codec, vector, 100 + seed)[1] @ original) for seed in range(REPEATS)]
    ) / float(original @ original)
    deviation = float(slopes.std(ddof=1)) / math.sqrt(REPEATS)
    gain = float(slopes.mean())
    return gain, (gain - 1) / deviation if deviation > 1e-12 else None


def _times_ns(codec: Codec, vector: Vector) -> tuple[float, float]:
    encode_s = decode_s = 0.0
    for start in range(0, vector.size, SEGMENT_VALUES):
        segment = vector[start : start + SEGMENT_VALUES]
        payload = _encode(codec, segment, start)
        encode_s += _best_s(partial(_encode, codec, segment, start))
        decode_s += _best_s(partial(codec.decode, payload, segment.size))
    return 1e9 * encode_s / vector.size, 1e9 * decode_s / vector.size


def _encode(codec: Codec, segment: Vector, seed: int) -> bytes:
    return codec.encode(segment, np.random.default_rng(seed))


def _copy_ns(vector: Vector) -> float:
    target = np.empty_like(vector)
    return 1e9 * _best_s(lambda: np.copyto(target, vector)) / vector.size


def _best_s(work: Callable[[], object]) -> float:
    """Of a few calls: what else the machine does can only make one longer."""
    times = []
    for _ in range(TIMINGS):
        began = time.thread_time()
        work()
        times.append(time.thread_time() - began)
    return min(times)


def write(bench: CodecBench, folder: Path) -> list[Path]:
    """codecs.json, codecs.md and the figure, in `folder`; their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "codecs.json").write_text(json.dumps(bench.to_json(), indent=1) + "\n")
    (folder / "codecs.md").write_text(codecs_tables.markdown(bench.to_json(), bench.rows))
    pictures = style.save(figure.draw(bench.rows), folder / "codecs", valid=True)
    return [folder / "codecs.json", folder / "codecs.md", *pictures]
