"""A channel's rates as Mahimahi traces in a folder, one file a device and direction."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from emulation.trace import write_mahimahi
from emulation.trace_generator import generate
from experiments.config_channel import Channel


def write_traces(section: Channel, devices: Sequence[str], duration_s: float, folder: Path) -> list[Path]:
    """`folder`/dev0-down.trace and so on, of the channel's first `duration_s`: for mm-link or a `trace`.

    Raises ChannelError where nothing would be delivered.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for trace in generate(section.build(devices), devices, duration_s).values():
        paths.append(folder / f"{trace.name}.trace")
        write_mahimahi(paths[-1], trace)
    return paths
