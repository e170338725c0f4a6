"""The names that codecs go by: `topk(0.1)|int4|zstd`.

    codec     = [sparsifier "|"] [quantiser] ["|" lossless], one of them at least
    stage     = name ["(" argument {"," argument} ")"]
    argument  = number or word

A sparsifier chooses which values travel, a quantiser makes bytes of them, a lossless stage makes those
fewer. After a sparsifier the quantiser may be left out and is fp16; before a lossless stage alone it is fp32.

A new codec is a file and a line here. Its class is called with the arguments, that of a sparsifier or a
lossless stage with the codec inside before them: `topk(0.1)|int4|zstd` is TopK(Zstd(Int4()), 0.1). So a
lossless stage works on the values only; their indices are coded by the sparsifier.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from importlib import import_module

from proto.codecs.codec import Codec, CodecError

# name -> module:class; a module is imported when its codec is first named.
_SPARSIFIERS = {
    "topk": "proto.codecs.topk:TopK",
    "randk": "proto.codecs.randk:RandK",
}
_QUANTISERS = {
    "fp32": "proto.codecs.fp32:Fp32",
    "fp16": "proto.codecs.fp16:Fp16",
    "bf16": "proto.codecs.bf16:Bf16",
    "int8": "proto.codecs.absmax:Int8",
    "int4": "proto.codecs.absmax:Int4",
    "int2": "proto.codecs.absmax:Int2",
    "nf4": "proto.codecs.nf4:Nf4",
    "qsgd": "proto.codecs.qsgd:Qsgd",
    "eden": "proto.codecs.eden:Eden",
    "sign": "proto.codecs.sign:Sign",
    "ecq": "proto.codecs.ecq:Ecq",
    "ring": "proto.codecs.ring:Ring",
}
_LOSSLESS = {
    "zstd": "proto.codecs.zstd:Zstd",
    "ans": "proto.codecs.ans:Ans",
}
_ALL = _SPARSIFIERS | _QUANTISERS | _LOSSLESS

_STAGE = re.compile(r"([a-z0-9]+)\s*(?:\((.*)\))?")
_NUMBER = re.compile(r"[0-9]{0,9}\.?[0-9]{1,17}(e-?[0-9]{1,2})?")
_WORD = re.compile(r"[a-z]+")

Argument = int | float | str


@dataclass(frozen=True)
class _Stage:
    name: str
    arguments: tuple[Argument, ...] = ()


def parse(text: str) -> Codec:
    """The codec written `text`. Raises CodecError naming the stage that is wrong and what is known."""
    stages = [_read(stage.strip(), text) for stage in text.split("|")]
    waiting = list(stages)
    sparsifier = _next(waiting, _SPARSIFIERS)
    quantiser = _next(waiting, _QUANTISERS) or _Stage("fp16" if sparsifier else "fp32")
    lossless = _next(waiting, _LOSSLESS)
    if waiting:
        raise CodecError(
            f"codec '{text}': no place for {waiting[0].name} as stage {len(stages) - len(waiting) + 1}: "
            "one sparsifier, one quantiser, one lossless stage, in this order; " + _known()
        )
    codec = _make(quantiser)
    for stage in (lossless, sparsifier):
        codec = _make(stage, codec) if stage else codec
    return codec


def _next(waiting: list[_Stage], kind: dict[str, str]) -> _Stage | None:
    return waiting.pop(0) if waiting and waiting[0].name in kind else None


def _read(stage: str, text: str) -> _Stage:
    match = _STAGE.fullmatch(stage)
    name = match[1] if match else stage
    if name not in _ALL:
        of = f" in '{text}'" if stage != text.strip() else ""
        raise CodecError(f"unknown codec '{name}'{of}: {_known()}")
    assert match
    if match[2] is None:
        return _Stage(name)
    return _Stage(name, tuple(_argument(argument.strip(), stage) for argument in match[2].split(",")))


def _argument(text: str, stage: str) -> Argument:
    if _WORD.fullmatch(text):
        return text
    if not _NUMBER.fullmatch(text):
        raise CodecError(f"codec stage '{stage}': '{text}' is neither a number nor a word")
    return int(text) if text.isdigit() else float(text)


def _make(stage: _Stage, *inner: Codec) -> Codec:
    module, _, name = _ALL[stage.name].partition(":")
    try:
        make = getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        raise CodecError(f"codec {stage.name} needs {error.name}, which is not installed") from error
    signature = inspect.signature(make)
    try:
        signature.bind(*inner, *stage.arguments)
    except TypeError:
        wanted = ", ".join(list(signature.parameters)[len(inner) :])
        given = ", ".join(map(str, stage.arguments)) or "nothing"
        usage = f"{stage.name}({wanted})" if wanted else f"{stage.name} alone"
        raise CodecError(f"codec stage {stage.name}: write {usage}, not with {given}") from None
    codec: Codec = make(*inner, *stage.arguments)
    return codec


def _known() -> str:
    return (
        f"sparsifiers are {', '.join(_SPARSIFIERS)}; quantisers {', '.join(_QUANTISERS)}; "
        f"lossless stages {', '.join(_LOSSLESS)}"
    )
