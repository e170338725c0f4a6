"""A wireless channel in a run: drives its links while it lasts, and judges them after it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pandas as pd

from emulation.channel_driver import Changeable, ChannelDriver
from emulation.link import AccessLink, Air, LinkSpec
from emulation.link_budget import Floats
from experiments import channel_record, record
from experiments.channel_record import ChannelLog, Commanded
from experiments.config_channel import Channel
from experiments.timeline import Round

_LOG = Path("events") / "channel.csv"


@contextmanager
def driven(
    section: Channel | None,
    network: Changeable,
    devices: Sequence[str],
    run_dir: Path,
    dilation: float,
    airs: Sequence[Air] = (),
    bands_hz: Floats | None = None,
) -> Iterator[list[str]]:
    """The network's links follow the channel within the block; nothing happens without one.

    For `airs` see ChannelDriver, for `bands_hz` ChannelModel.
    The list that it gives holds, after the block, why the run is invalid.
    """
    violations: list[str] = []
    if section is None:
        yield violations
        return
    log = ChannelLog(run_dir / _LOG, devices, dilation)
    driver = ChannelDriver(
        section.build(devices, bands_hz), network, devices, log, airs=airs, dilation=dilation
    )
    try:
        with driver:
            yield violations
    finally:
        log.close()
        violations += driver.violations()


def conclude(
    run_dir: Path,
    dilation: float,
    rounds: Sequence[Round],
    clients: pd.DataFrame,
    links: Mapping[str, AccessLink],
) -> tuple[pd.DataFrame, list[str], dict[str, AccessLink]]:
    """Writes channel.csv. Gives clients with bounds by what was commanded, contradictions of it, and links
    without a rate, for whatever else judges by constant rates.
    """
    log = channel_record.read_log(run_dir / _LOG, dilation)
    commanded = Commanded(log)
    start_s = rounds[0].start if rounds else float(log["t"].min())
    record.write_table(channel_record.table(log, start_s), run_dir / "channel.csv")
    return (
        channel_record.with_bounds(clients, rounds, commanded, links),
        channel_record.contradictions(rounds, commanded),
        {
            name: replace(link, up=_without_rate(link.up), down=_without_rate(link.down))
            for name, link in links.items()
        },
    )


def _without_rate(spec: LinkSpec) -> LinkSpec:
    return replace(spec, rate_bps=float("inf"))
