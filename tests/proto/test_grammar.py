"""The grammar: what a codec may be called, and one clear line for everything else."""

from __future__ import annotations

import pytest

from proto import codecs
from proto.codecs import CodecError

KNOWN = (
    "sparsifiers are topk, randk; quantisers fp32, fp16, bf16, int8, int4, int2, nf4, qsgd, eden, sign, ecq, "
    "ring; lossless stages zstd, ans"
)
ORDER = f"one sparsifier, one quantiser, one lossless stage, in this order; {KNOWN}"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("fp64", f"unknown codec 'fp64': {KNOWN}"),
        ("", f"unknown codec '': {KNOWN}"),
        ("INT8", f"unknown codec 'INT8': {KNOWN}"),
        ("fp16|nonsense", f"unknown codec 'nonsense' in 'fp16|nonsense': {KNOWN}"),
        ("fp16||zstd", f"unknown codec '' in 'fp16||zstd': {KNOWN}"),
        ("fp16(", f"unknown codec 'fp16(': {KNOWN}"),
        ("fp16|topk(0.1)", f"codec 'fp16|topk(0.1)': no place for topk as stage 2: {ORDER}"),
        ("fp16|int8", f"codec 'fp16|int8': no place for int8 as stage 2: {ORDER}"),
        ("zstd|fp16", f"codec 'zstd|fp16': no place for fp16 as stage 2: {ORDER}"),
        ("fp32(1)", "codec stage fp32: write fp32 alone, not with 1"),
        ("fp32()", "codec stage 'fp32()': '' is neither a number nor a word"),
        ("fp32(-1)", "codec stage 'fp32(-1)': '-1' is neither a number nor a word"),
        ("fp32(1, a2)", "codec stage 'fp32(1, a2)': 'a2' is neither a number nor a word"),
        ("qsgd", "codec stage qsgd: write qsgd(bits), not with nothing"),
        ("topk", "codec stage topk: write topk(fraction), not with nothing"),
        ("eden(2,3)", "codec stage eden: write eden(bits), not with 2, 3"),
        ("zstd(3)", "codec stage zstd: write zstd alone, not with 3"),
        ("eden(9)", "codec eden: bits must be a whole number, 1 to 4, not 9"),
        ("eden(2.0)", "codec eden: bits must be a whole number, 1 to 4, not 2.0"),
        ("qsgd(1)", "codec qsgd: bits must be a whole number, 2 to 8, not 1"),
        ("int4(down)", "codec int4: rounding is nearest or stochastic, not down"),
        ("topk(0)", "codec topk: fraction must be above 0 and at most 1, not 0"),
        ("randk(1.5)", "codec randk: fraction must be above 0 and at most 1, not 1.5"),
        ("ring(8)", "codec stage ring: write ring(bits, range), not with 8"),
        ("ring(1,0.1)", "codec ring: bits must be a whole number, 2 to 16, not 1"),
        ("ring(8,0)", "codec ring: range must be above 0 and at most 128, not 0"),
        ("topk(half)", "codec topk: fraction must be above 0 and at most 1, not half"),
        (f"fp32({'9' * 5000})", "is neither a number nor a word"),
    ],
)
def test_a_text_that_names_no_codec_is_one_clear_line(text: str, complaint: str) -> None:
    with pytest.raises(CodecError) as caught:
        codecs.parse(text)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("fp16", "fp16"),
        (" int8 ", "int8"),
        ("int8(nearest)", "int8"),
        ("int4( stochastic )", "int4(stochastic)"),
        ("topk(0.1)", "topk(0.1)|fp16"),
        ("topk(.10)", "topk(0.1)|fp16"),
        ("topk(1)", "topk(1.0)|fp16"),
        ("topk(1e-3)", "topk(0.001)|fp16"),
        ("randk(0.00001)", "randk(1e-05)|fp16"),
        ("zstd", "fp32|zstd"),
        ("ans", "fp32|ans"),
        ("qsgd (4)|ans", "qsgd(4)|ans"),
        ("topk(0.1)|zstd", "topk(0.1)|fp16|zstd"),
        ("topk(0.1) | int4 | zstd", "topk(0.1)|int4|zstd"),
        ("topk(0.1)|int4|ans", "topk(0.1)|int4|ans"),
    ],
)
def test_a_codec_has_one_name_however_it_is_written(text: str, name: str) -> None:
    """The server compares names: what a client writes in its header must be what the round asked for."""
    assert codecs.parse(text).name == name
    assert codecs.parse(name).name == name
