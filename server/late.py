"""A late update may count in a later round, for less.

An update is the difference to the adapter its round began with, so it can be added to any later round's sum.
Its weight shrinks with its staleness, the number of rounds it is late, by FedAsync's polynomial (Xie et al.,
arXiv 1903.03934, section 5.2).

Weights are whole examples, or sums would not be exact: the product is rounded, to one example at least. A
device with a handful of examples is therefore discounted coarsely.

Which round an update falls into depends on when it arrives: with this policy, as with any round that closes
before all have finished, the same seed need not give the same adapter.
"""

from __future__ import annotations


def discounted(examples: int, staleness: int, exponent: float) -> int:
    """examples * (1 + staleness)^-exponent, in whole examples, at least 1."""
    return max(1, round(examples * (1 + staleness) ** -exponent))
