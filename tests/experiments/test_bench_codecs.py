"""The codec bench: what its numbers mean, what misses a target, names on the figure, a small real bench."""

from __future__ import annotations

import json
import math
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from typer.testing import CliRunner

from experiments import cli
from experiments.bench import codecs, codecs_record
from experiments.bench.codecs import CodecBench, Row
from experiments.bench.codecs_tables import markdown
from experiments.figures import codecs as figure
from proto.codecs import parse


def row(codec: str = "ecq(2)", **changes: Any) -> Row:
    values: dict[str, Any] = {"codec": codec, "unbiased": "unbiased" in codec, "gain": 0.95, "bias_z": None}
    values |= {"bits_per_parameter": 2.0, "bits_real": 2.0, "nmse_gaussian": 0.07, "nmse_real": 0.06}
    values |= {"gap_bits": 0.09, "gap_real_bits": -0.1, "gap_unbiased_bits": None}
    return Row(**values | {"ns_encode": 60.0, "ns_decode": 30.0} | changes)


@pytest.mark.parametrize(
    ("one", "missed"),
    [
        (row(), []),
        (row(gap_bits=0.101), ["gap_bits"]),
        (row(gap_real_bits=0.101), ["gap_real_bits"]),
        (row(ns_decode=41.0), ["ns"]),
        (row("ecq(2,unbiased)", gap_bits=0.3, gap_unbiased_bits=0.09), []),
        (row("ecq(2,unbiased)", gap_bits=0.3, gap_unbiased_bits=0.11), ["gap_unbiased_bits"]),
        (row("int8", gap_bits=0.9, ns_encode=5.0, ns_decode=4.0), []),
        (row("int8", gap_bits=0.9, ns_encode=7.0, ns_decode=4.0), ["ns"]),
        (row("nf4", gap_bits=0.9, ns_encode=70.0, ns_decode=4.0), []),
    ],
)
def test_targets(one: Row, missed: list[str]) -> None:
    bench = CodecBench([one], copy_ns=0.3)
    assert [verdict["what"] for verdict in bench.verdicts() if not verdict["met"]] == missed
    assert bench.holds == (not missed)
    assert ("MISSED" in markdown(bench.to_json(), bench.rows)) == bool(missed)


def test_what_is_measured_of_a_codec() -> None:
    generator = np.random.default_rng(0)
    gaussian = generator.standard_normal(40_000, np.float32)
    rounded = codecs.measure(parse("int8"), gaussian, [gaussian[:3000], 5 * gaussian[3000:6000]])
    assert rounded.bits_per_parameter == pytest.approx(8.25, abs=0.01)
    assert rounded.gap_bits == pytest.approx(8.25 + 0.5 * math.log2(3.57e-5), abs=0.05)
    assert rounded.nmse_real == pytest.approx(rounded.nmse_gaussian, rel=0.1)
    assert rounded.bias_z is None and rounded.gap_unbiased_bits is None
    unbiased = codecs.measure(parse("eden(1)"), gaussian, [gaussian[:3000]])
    assert unbiased.bias_z is not None and abs(unbiased.bias_z) < 5
    assert abs(unbiased.gain - 1) < 0.05 and unbiased.gap_unbiased_bits is not None
    assert codecs.measure(parse("topk(0.1)|fp32"), gaussian, [gaussian]).gain == pytest.approx(0.44, abs=0.02)
    exact = codecs.measure(parse("fp32"), gaussian, [gaussian])
    assert exact.nmse_gaussian == 0 and exact.gap_bits is None and exact.ns > 0


def test_rounding_with_an_entropy_coder_is_as_far_from_the_bound_as_theory_says() -> None:
    """1/2 log2(2 pi e / 12) = 0.2546 bits where steps are small, less at low rates."""
    rate, error = figure.uniform_quantiser()
    gaps = rate + 0.5 * np.log2(error)
    assert gaps[rate > 3] == pytest.approx(0.2546, abs=1e-3)
    assert 0.05 < gaps[np.argmin(rate)] < 0.12


def test_names_on_the_figure_cover_no_point_and_no_other_name() -> None:
    rows = [row(f"codec{i}", bits_per_parameter=1.9 + 0.02 * i, gap_bits=0.01 * i) for i in range(12)]
    drawn = figure.draw(rows)
    canvas = FigureCanvasAgg(drawn)
    canvas.draw()
    for axes in drawn.axes:
        boxes = [text.get_window_extent(canvas.get_renderer()) for text in axes.texts]
        assert len(boxes) == 12
        assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
        points = np.concatenate([axes.transData.transform(c.get_offsets()) for c in axes.collections])
        assert not any(box.contains(*point) for box in boxes for point in points)


def test_the_recorded_updates_are_those_of_three_devices() -> None:
    updates = codecs_record.load_updates()
    assert [update.size for update in updates] == [36_352] * 3
    assert all(update.dtype == np.float32 and np.isfinite(update).all() for update in updates)
    assert codecs_record.UPDATES.stat().st_size < 300_000
    kurtosis = [float((u.astype(float) ** 4).mean() / (u.astype(float) ** 2).mean() ** 2) for u in updates]
    assert all(1 < k < 6 for k in kurtosis)


def test_a_small_bench_for_real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codecs, "GAUSSIAN_VALUES", 2**16)
    monkeypatch.setattr(codecs, "ECQ_TARGET_NS", 1e9)  # Time is not for a test to judge.
    monkeypatch.setattr(codecs, "REPEATS", 3)
    arguments = [
        "bench",
        "codecs",
        "--json",
        "--output",
        str(tmp_path),
        "--codec",
        "ecq(2)",
        "--codec",
        "nf4",
    ]
    result = CliRunner().invoke(cli.app, arguments)
    document = json.loads(result.stdout)
    assert result.exit_code == 0 and document["valid"]
    keys = {"codec", "bits_per_parameter", "nmse_gaussian", "nmse_real", "ns_encode", "ns_decode", "gap_bits"}
    assert [keys <= set(one) for one in document["rows"]] == [True, True]
    assert {path.name for path in tmp_path.iterdir()} == {
        "codecs.json",
        "codecs.md",
        "codecs.png",
        "codecs.pdf",
    }
