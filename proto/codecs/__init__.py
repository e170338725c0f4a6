"""Codecs: what an adapter's vector becomes on the wire, one file each, numpy only.

`parse("int8")` gives the codec of that name. Nothing here knows of rounds, clients or links.
"""

from proto.codecs.codec import Codec, CodecError
from proto.codecs.grammar import parse

__all__ = ["Codec", "CodecError", "parse"]
