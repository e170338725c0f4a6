"""The channel's figure draws what its tables say."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure

from experiments.figures import channel as channel_figure
from experiments.figures import style

ROUNDS = pd.DataFrame(
    [{"round": 1, "start_s": 0.0, "latency_s": 4.0}, {"round": 2, "start_s": 5.0, "latency_s": 3.0}]
)
PHASES = {
    "download_s": 1.0,
    "gate_s": 0.1,
    "compute_s": 0.4,
    "encode_s": 0.1,
    "upload_s": 1.5,
    "wait_s": 0.6,
    "aggregate_s": 0.2,
}
CLIENTS = pd.DataFrame(
    [
        {"round": 1, "client": "dev0", **PHASES},
        {"round": 2, "client": "dev0", **PHASES, "upload_s": None, "wait_s": None},
    ]
)


def channel_table(devices: int) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "t_s": step * 0.1,
                "device": f"dev{number}",
                "direction": way,
                "cell": int(step > 5),
                "snr_db": 20 - step,
                "rate_bps": 1e6 * (10 - step),
            }
            for step in range(10)
            for number in range(devices)
            for way in ("down", "up")
        ]
    )


def test_transfers_are_placed_by_the_tables() -> None:
    moved = channel_figure.transfers(ROUNDS, CLIENTS).to_dict("records")
    upload, download, unfinished = moved
    assert upload["direction"] == "up"
    assert (upload["start_s"], upload["end_s"]) == pytest.approx((4.0 - 0.8 - 1.5, 4.0 - 0.8))
    assert (download["start_s"], download["end_s"]) == pytest.approx(
        (4 - 0.8 - 1.5 - 1.6, 4 - 0.8 - 1.5 - 0.6)
    )
    assert (unfinished["start_s"], unfinished["end_s"]) == (5.0, 6.0)


def test_every_device_has_a_column_and_its_own_lines() -> None:
    figure = channel_figure.draw(channel_table(2), ROUNDS, CLIENTS)
    assert len(figure.axes) == 3 * 2
    snr, rate = figure.axes[0], figure.axes[2]
    assert [axes.get_title() for axes in figure.axes[:2]] == ["dev0", "dev1"]
    assert list(snr.lines[0].get_ydata()) == [20 - step for step in range(10)]
    assert list(rate.lines[0].get_ydata()) == pytest.approx([10 - step for step in range(10)])
    assert list(snr.lines[2].get_xdata()) == pytest.approx([0.6, 0.6])  # the handover
    used = figure.axes[4]
    assert [len(bars.get_paths()) for bars in used.collections] == [2, 1]


def test_only_the_first_six_and_it_says_so() -> None:
    figure = channel_figure.draw(channel_table(8), ROUNDS, CLIENTS)
    assert len(figure.axes) == 3 * 6
    assert figure.get_suptitle() == "the first 6 of 8 devices"


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.texts]


def test_an_invalid_run_is_marked(tmp_path: Path) -> None:
    figure = channel_figure.draw(channel_table(1), ROUNDS, CLIENTS)
    style.save(figure, tmp_path / "valid", valid=True)
    assert style.INVALID_NOTE not in texts(figure)
    paths = style.save(figure, tmp_path / "channel", valid=False)
    assert style.INVALID_NOTE in texts(figure)
    assert all(path.stat().st_size > 5000 for path in paths)
