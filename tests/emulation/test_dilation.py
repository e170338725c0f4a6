"""What a dilated link is: the same bytes in the same order, on a slower clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulation.dilation import dilate
from emulation.link import FRAME_BYTES, AccessLink, LinkError, LinkSpec, Outages, Trace
from tests.emulation import virtual

CLEAN = LinkSpec(rate_bps=10e6, delay_s=0.025, jitter_s=0.002, queue_bytes=50_000)


def test_rates_are_divided_and_times_multiplied() -> None:
    up = dilate(AccessLink("dev0", CLEAN, CLEAN), 4).up
    assert (up.rate_bps, up.delay_s, up.jitter_s, up.queue_bytes) == (2.5e6, 0.1, 0.008, 50_000)
    assert dilate(AccessLink("dev0", CLEAN, CLEAN), 1).up is CLEAN


def test_outages_and_traces_follow() -> None:
    spec = LinkSpec(10e6, outages=Outages(10, 1), trace=Trace("t", (1, 1, 3)))
    down = dilate(AccessLink("dev0", spec, spec), 2).down
    assert down.outages == Outages(20, 2)
    assert down.trace == Trace("t", (2, 2, 6))


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        (LinkSpec(10e6, aqm="codel"), "dev0 up: CoDel"),
        (LinkSpec(10e6, trace=Trace("lte", (1, 3))), "dev0 up: a dilation of 0.5 leaves lte"),
    ],
)
def test_what_cannot_be_dilated_is_refused(spec: LinkSpec, why: str) -> None:
    with pytest.raises(LinkError, match=why):
        dilate(AccessLink("dev0", spec, CLEAN), 0.5)


@given(
    st.sampled_from([0.25, 0.5, 2.0, 4.0]),
    st.lists(st.tuples(st.integers(0, 5_000_000), st.integers(60, FRAME_BYTES)), min_size=1, max_size=60),
)
def test_a_dilated_link_is_the_same_link_in_slow_motion(
    dilation: float, frames: list[tuple[int, int]]
) -> None:
    link = AccessLink("dev0", LinkSpec(10e6, 0.005, loss=0.1, queue_bytes=10 * FRAME_BYTES), CLEAN)
    real, slow = outcomes(link, frames, 1.0), outcomes(dilate(link, dilation), frames, dilation)
    assert [fate for _, fate in real] == [fate for _, fate in slow]
    for (when, _), (dilated, _) in zip(real, slow, strict=True):
        assert dilated == pytest.approx(when * dilation, abs=2 * max(1, dilation))


def outcomes(link: AccessLink, frames: list[tuple[int, int]], dilation: float) -> list[tuple[int, str]]:
    """When and how each frame ends that is offered so long after the one before."""
    spec, now = link.up, 0
    server = virtual.path(
        spec.rate_bps, delay_s=spec.delay_s, loss=spec.loss, queue_bytes=spec.queue_bytes, seed=5
    )
    offers = []
    for gap, length in frames:
        now += 4 * gap  # so that every dilation leaves whole nanoseconds
        offers.append((int(now * dilation), length))
    return [(when, fate) for when, _, _, fate, _ in virtual.carried(server, offers)]
