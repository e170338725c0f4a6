"""Codecs: what a vector becomes on the wire, one file each; in numpy, entropy coders from libraries.

`parse("topk(0.1)|int4|zstd")` gives the codec of that name. Nothing here knows of rounds, clients or links.
"""

from proto.codecs.codec import Codec, CodecError
from proto.codecs.grammar import parse

__all__ = ["Codec", "CodecError", "parse"]
