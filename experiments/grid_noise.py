"""Whether noise still adds up when all noisy updates are rounded to one grid: `ring`, secure aggregation's.

Let device i send y_i = floor(x_i + d_i) of a value x_i = u_i + N(0, s^2), in steps of the grid, d_i being
its dither, known or not. That is the density of x_i + U(-1/2, 1/2), read off at points one step apart. By
Poisson's summation formula the sum of the y_i is the density of sum x_i + m such U, read off in the same
way, but for terms in which the m characteristic functions are aliased differently, each below exp(-s^2/2 sum
(t + 2 pi j_i)^2). And the density read off is what one gets of the noisy sum itself: add m - 1 such U and
round. So what goes out is post-processing of the sum with all its noise, up to a distance in total variation
of about exp(-pi^2 s^2) a value: 10^-38 where s is three steps, nothing beside any delta (compare Kairouz et
al., arXiv 2102.06387, section 4, where the noise itself is discrete).

The grid ends somewhere too, and what lies beyond is cut off, update by update: it must not come to that.
"""

from __future__ import annotations

from proto.codecs.ring import Ring

STEPS = 3.0
"""The least standard deviation of one device's noise, in steps of the grid."""
REACH = 10.0
"""So many standard deviations beyond a clipped update the grid must go: one value in 10^23 is further out."""


def misfit(grid: Ring, clip_norm: float, least_std: float, largest_std: float) -> str:
    """Why noise of these standard deviations does not add up on `grid`; empty: it does."""
    if least_std < STEPS * grid.step:
        return f"{grid.name} has steps of {grid.step:.3g}, and of this noise only {least_std / STEPS:.3g} fit"
    if (needed := clip_norm + REACH * largest_std) > grid.range:
        return f"{grid.name} cuts off what this noise may reach: RANGE of {needed:.3g} would do"
    return ""
