"""What is looked for, and the search: windows of images, and whole texts, anywhere in any bytes.

Windows are hashed, and so is every place of what is searched, a machine word at a time: how long it takes
does not depend on how many there are. Every hit is compared byte by byte.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

WINDOW_BYTES = 32
STRIDE_BYTES = 16
"""A window begins at every 16th byte of an item: any 47 of its bytes in a row hold one."""
LEAST_VALUES = 8
"""Different bytes in a window: fewer are a plain area, which says nothing about whose it is."""
LEAST_BYTES = 8

_TABLE_BITS = 24
_FACTORS = np.random.default_rng(0x1EA5).integers(1 << 62, 1 << 63, 4, dtype=np.uint64) | np.uint64(1)
_PART = 1 << 22

Hits = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Places in what was searched, and which needle each is."""


class _Index:
    """Byte strings of one length, a multiple of 8, all different: uint8 [N, length]."""

    def __init__(self, strings: NDArray[np.uint8]) -> None:
        self._words = strings.shape[1] // 8
        hashes = _hash(_words(strings))
        self._order = np.argsort(hashes, kind="stable")
        self._hashes, self._strings = hashes[self._order], strings
        self._table = np.zeros(1 << _TABLE_BITS, bool)
        self._table[hashes >> np.uint64(64 - _TABLE_BITS)] = True

    def find(self, data: bytes) -> Iterator[Hits]:
        """Every place of every string."""
        length = 8 * self._words
        if not len(self._hashes):
            return
        for start in range(0, len(data) - length + 1, _PART):
            part = np.frombuffer(data, np.uint8)[start : start + _PART + length - 1]
            for shift in range(8):
                aligned = part[shift:]
                words = aligned[: len(aligned) // 8 * 8].view("<u8")
                count = len(words) - self._words + 1
                if count < 1:
                    continue
                hashes = _hash([words[word : word + count] for word in range(self._words)])
                likely = np.flatnonzero(self._table[hashes >> np.uint64(64 - _TABLE_BITS)])
                which = np.searchsorted(self._hashes, hashes[likely])
                which[which == len(self._hashes)] = 0
                same = self._hashes[which] == hashes[likely]
                places, found = 8 * likely[same] + shift, self._order[which[same]]
                real = (part[places[:, None] + np.arange(length)] == self._strings[found]).all(axis=1)
                yield places[real] + start, found[real]


def _words(strings: NDArray[np.uint8]) -> list[NDArray[np.uint64]]:
    """[N, 8 W] as W arrays [N] of machine words."""
    return list(np.ascontiguousarray(strings).view("<u8").T)


def _hash(words: Sequence[NDArray[np.uint64]]) -> NDArray[np.uint64]:
    """Multilinear; equal strings have equal hashes."""
    total = words[0] * _FACTORS[0]
    for word, factor in zip(words[1:], _FACTORS[1:], strict=False):
        total = total + word * factor
    return (total ^ (total >> np.uint64(32))) * _FACTORS[0]


class Wholes:
    """Byte strings, texts say, to be found whole; those shorter than LEAST_BYTES are not looked for.

    One counts only where it is not part of a longer one that was found there: "cat, flat style" is not told
    by "black cat, flat style". What was found gathers over calls of `search`.
    """

    def __init__(self, items: Sequence[bytes]) -> None:
        known: dict[bytes, int] = {}
        self._own = np.array([known.setdefault(item, len(known)) for item in items], np.int64)
        self._items = list(known)
        self._seen = np.zeros(len(known), bool)
        anchored: dict[bytes, list[tuple[int, int]]] = {}
        for index, item in enumerate(self._items):
            if (offset := _most_varied(item)) is not None:
                anchored.setdefault(item[offset : offset + LEAST_BYTES], []).append((index, offset))
        self._groups = list(anchored.values())
        self._sought = np.zeros(len(known), bool)
        self._sought[[index for group in self._groups for index, _ in group]] = True
        anchors = np.array([list(anchor) for anchor in anchored], np.uint8).reshape(-1, LEAST_BYTES)
        self._index = _Index(anchors)

    def search(self, data: bytes) -> None:
        """Look for all of them."""
        hits: list[tuple[int, int, int]] = []
        for places, which in self._index.find(data):
            for place, group in zip(places.tolist(), which.tolist(), strict=True):
                for index, offset in self._groups[group]:
                    item, begin = self._items[index], place - offset
                    if begin >= 0 and data.startswith(item, begin):
                        hits.append((begin, -len(item), index))
        reached = 0
        for begin, minus_length, index in sorted(hits):
            if begin - minus_length > reached:
                self._seen[index] = True
                reached = begin - minus_length

    @property
    def strings(self) -> list[bytes]:
        """Those that are looked for."""
        return [item for item, sought in zip(self._items, self._sought, strict=True) if sought]

    def searchable(self) -> NDArray[np.int64]:
        """Bytes of each item, [items]: 0 where it is too short or too plain."""
        lengths = np.array([len(item) for item in self._items], np.int64)
        return (lengths * self._sought)[self._own]

    def found(self) -> NDArray[np.int64]:
        """Those of them that were found so far, [items]."""
        return self.searchable() * self._seen[self._own]


def _most_varied(item: bytes) -> int | None:
    """Where the first LEAST_BYTES of the most different values begin; None: nowhere are there three."""
    if len(item) < LEAST_BYTES:
        return None
    values = np.lib.stride_tricks.sliding_window_view(np.frombuffer(item, np.uint8), LEAST_BYTES)
    different = _different_values(values)
    best = int(different.argmax())
    return best if different[best] >= 3 else None


class Windows:
    """Items (an image's pixels, a file) of which any part is to be found.

    Only windows that one item alone has are looked for, so that none is found for another's sake; items
    that are equal count as one. An item without a window of its own is looked for whole. What was found
    gathers over calls of `search`.
    """

    def __init__(self, items: Sequence[bytes]) -> None:
        known: dict[bytes, int] = {}
        self._own = np.array([known.setdefault(item, len(known)) for item in items], np.int64)
        strings, owners, places = _cut(list(known))
        telling = _different_values(strings) >= LEAST_VALUES
        strings, owners, places = strings[telling], owners[telling], places[telling]
        # The same window may come twice in an item.
        _, first, same = np.unique(_hash(_words(strings)), return_index=True, return_inverse=True)
        least, most = np.full(len(first), len(known)), np.full(len(first), -1)
        np.minimum.at(least, same, owners)
        np.maximum.at(most, same, owners)
        alone = (least == most)[same]
        self._owners, self._places = owners[alone], places[alone]
        kept, self._same = np.unique(same[alone], return_inverse=True)
        self._strings = strings[first[kept]]
        self._seen = np.zeros(len(self._strings), bool)
        self._index = _Index(self._strings)
        self._lengths = [len(item) for item in known]
        self._plain = np.flatnonzero(self._covered(np.ones(len(self._owners), bool)) == 0)
        names = list(known)
        self._wholes = Wholes([names[index] for index in self._plain])

    def search(self, data: bytes) -> None:
        """Look for all of them."""
        for _, which in self._index.find(data):
            self._seen[which] = True
        self._wholes.search(data)

    @property
    def strings(self) -> NDArray[np.uint8]:
        """The windows that are looked for, [N, WINDOW_BYTES]."""
        return self._strings

    def searchable(self) -> NDArray[np.int64]:
        """Bytes of each item by which it can be found, [items]: 0 where it is too short or too plain."""
        counts = self._covered(np.ones(len(self._owners), bool))
        counts[self._plain] = self._wholes.searchable()
        return counts[self._own]

    def found(self) -> NDArray[np.int64]:
        """How many of them were found so far, [items]."""
        counts = self._covered(self._seen[self._same])
        counts[self._plain] = self._wholes.found()
        return counts[self._own]

    def _covered(self, which: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Bytes of each different item under the windows `which`."""
        counts = np.zeros(len(self._lengths), np.int64)
        owners, places = self._owners[which], self._places[which]
        if not len(owners):
            return counts
        order = np.lexsort((places, owners))
        owners, places = owners[order], places[order]
        # Up to the next window of the same item, or all of the window.
        step = np.full(len(places), WINDOW_BYTES)
        next_one = np.where(owners[1:] == owners[:-1], places[1:] - places[:-1], WINDOW_BYTES)
        step[:-1] = np.minimum(next_one, WINDOW_BYTES)
        np.add.at(counts, owners, step)
        return counts


def _cut(items: Sequence[bytes]) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    """Windows of all items, [N, WINDOW_BYTES]; whose each is, and where it begins."""
    strings, owners, places = [np.zeros((0, WINDOW_BYTES), np.uint8)], [], []
    for owner, item in enumerate(items):
        if len(item) < WINDOW_BYTES:
            continue
        values = np.frombuffer(item, np.uint8)
        windows = np.lib.stride_tricks.sliding_window_view(values, WINDOW_BYTES)
        begins = np.unique(np.append(np.arange(0, len(windows), STRIDE_BYTES), len(windows) - 1))
        strings.append(windows[begins])
        owners.append(np.full(len(begins), owner))
        places.append(begins)
    return (
        np.concatenate(strings),
        np.concatenate([np.zeros(0, np.int64), *owners]),
        np.concatenate([np.zeros(0, np.int64), *places]),
    )


def _different_values(strings: NDArray[np.uint8]) -> NDArray[np.int64]:
    """How many different bytes each window has."""
    ordered = np.sort(strings, axis=1)
    found: NDArray[np.int64] = 1 + (ordered[:, 1:] != ordered[:, :-1]).sum(axis=1)
    return found


def expected_by_chance(strings: Sequence[bytes] | NDArray[np.uint8], histogram: NDArray[np.int64]) -> float:
    """How many hits to expect in as many bytes of these frequencies, int64 [256], drawn independently.

    The union bound: places times the sum of all needles' probabilities.
    """
    total = histogram.sum()
    if not total or not len(strings):
        return 0.0
    with np.errstate(divide="ignore"):
        bits = np.log2(histogram / total)
    if isinstance(strings, np.ndarray):
        parts = np.array_split(strings, 1 + len(strings) // 65536)
        each = np.concatenate([bits[part].sum(axis=1) for part in parts])
    else:
        each = np.array([bits[np.frombuffer(text, np.uint8)].sum() for text in strings])
    return float(total * np.exp2(each).sum())
