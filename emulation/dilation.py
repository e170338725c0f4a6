"""Time dilation (Gupta et al., "To infinity and beyond: time-warped network emulation", NSDI 2006).

With a dilation of 4 one emulated second lasts four real ones: rates are divided by it and times
multiplied, so that the same bytes meet the same network in slow motion and this machine's own time, the
processor's above all, weighs a quarter. Below 1 an experiment that only the network bounds runs
faster than real time, and this machine's time weighs more.
"""

from __future__ import annotations

from dataclasses import replace

from emulation.link import AccessLink, LinkError, LinkSpec, Outages, Trace

RTO_MIN_S = 0.2
"""Linux's least retransmission timeout (TCP_RTO_MIN), which has to be dilated with everything else."""


def dilate(link: AccessLink, dilation: float) -> AccessLink:
    """The link in real time that is `link` in emulated time.

    E.g. 10 Mbit/s and 25 ms at a dilation of 4 are 2.5 Mbit/s and 100 ms; what a queue of bytes holds in
    seconds follows by itself. Raises LinkError, naming the link, for what cannot be dilated.
    """
    if dilation == 1:
        return link
    up, down = (
        _dilate(spec, dilation, f"{link.device} {direction}")
        for direction, spec in (("up", link.up), ("down", link.down))
    )
    return replace(link, up=up, down=down)


def _dilate(spec: LinkSpec, dilation: float, where: str) -> LinkSpec:
    if spec.aqm == "codel":
        raise LinkError(f"{where}: CoDel's 5 ms and 100 ms are real ones: not with a dilation")
    outages = spec.outages and Outages(spec.outages.mean_up_s * dilation, spec.outages.mean_down_s * dilation)
    return replace(
        spec,
        rate_bps=spec.rate_bps / dilation,
        delay_s=spec.delay_s * dilation,
        jitter_s=spec.jitter_s * dilation,
        outages=outages,
        trace=spec.trace and _dilate_trace(spec.trace, dilation, where),
    )


def _dilate_trace(trace: Trace, dilation: float, where: str) -> Trace:
    deliveries = tuple(delivery * dilation for delivery in trace.deliveries_ms)
    whole = tuple(round(delivery) for delivery in deliveries)
    if any(abs(delivery - near) > 1e-9 for delivery, near in zip(deliveries, whole, strict=True)):
        raise LinkError(
            f"{where}: a dilation of {dilation:g} leaves {trace.name} without whole milliseconds; "
            "use a whole number"
        )
    return Trace(trace.name, whole)
