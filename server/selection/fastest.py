"""The fastest links, by what the server has measured of them."""

from __future__ import annotations

from collections.abc import Sequence

from server.selection.selector import Candidate, in_order, reachable


class Fastest:
    """The `count` connected devices whose last update came at the highest rate; ties by the devices' order.

    A device that was never asked comes first, so that each is measured once. From then on its rate is that of
    the last round in which it took part: the payload's bits over the time from the update's first byte at the
    server to its last, cuts and retries in it, and 0 when no update came before the round closed. Who ranks
    too low is not asked and so not measured again.

    It is FedCS (Nishio and Yonetani, arXiv 1804.08333) in spirit only: that asks random devices for their
    resources anew in each round, estimates compute as well as transfer, and takes as many as fit a deadline.

    Cohorts follow measured times: the same seed need not give the same cohorts.
    """

    def __init__(self, count: int) -> None:
        self._count = count

    def select(self, candidates: Sequence[Candidate], round_number: int) -> list[str]:
        """As Selector.select."""
        fastest_first = sorted(reachable(candidates), key=_rate_bps, reverse=True)
        return in_order(candidates, fastest_first[: self._count])


def _rate_bps(candidate: Candidate) -> float:
    return float("inf") if candidate.uplink_bps is None else candidate.uplink_bps
