"""The grammar: what a codec may be called, and one clear line for everything else."""

from __future__ import annotations

import pytest

from proto import codecs
from proto.codecs import CodecError

KNOWN = (
    "sparsifiers are topk, randk; quantisers fp32, fp16, bf16, int8, int4, int2, nf4, qsgd, eden, sign, ecq; "
    "lossless stages zstd, ans"
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
        (f"fp32({'9' * 5000})", "is neither a number nor a word"),
    ],
)
def test_a_text_that_names_no_codec_is_one_clear_line(text: str, complaint: str) -> None:
    with pytest.raises(CodecError) as caught:
        codecs.parse(text)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)
