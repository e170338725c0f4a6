"""A channel's traces are links' traces."""

from __future__ import annotations

from pathlib import Path

import pytest

from emulation.link_budget import ChannelError
from experiments.channel_traces import write_traces
from experiments.config_channel import Channel
from experiments.config_network import Direction


def test_a_link_takes_the_files(tmp_path: Path) -> None:
    section = Channel.model_validate({"fading": {"model": "none"}})
    paths = write_traces(section, ["dev0", "dev1"], 3.0, tmp_path / "traces")
    names = ["dev0-down.trace", "dev0-up.trace", "dev1-down.trace", "dev1-up.trace"]
    assert [path.name for path in paths] == names
    state = section.build(["dev0", "dev1"]).state(0.0)
    spec = Direction.model_validate({"trace": str(paths[0])}).spec()
    assert spec.rate_bps == pytest.approx(state.rate_bps[0, 0], rel=0.01)  # Nothing moves.


def test_no_reception_no_trace(tmp_path: Path) -> None:
    silent = Channel.model_validate({"up": {"power": "-100dBm"}})
    with pytest.raises(ChannelError, match="dev0-up: not one frame gets through in 3 s"):
        write_traces(silent, ["dev0"], 3.0, tmp_path)
