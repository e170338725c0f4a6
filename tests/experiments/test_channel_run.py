"""A channel in a run: driven while it lasts, its table and bounds after it."""

from __future__ import annotations

import time
from pathlib import Path

import pandas as pd
import pytest

from emulation.link import AccessLink, LinkChange, LinkError, LinkSpec
from experiments import channel_run
from experiments.config_channel import Channel
from experiments.timeline import ClientRound, Round

NAMES = ["dev0", "dev1"]
SECTION = Channel.model_validate({"interval": "10ms"})


class Links:
    """A network that remembers how often it was changed."""

    changes = 0

    def change(self, device: str, direction: str, change: LinkChange) -> None:
        self.changes += 1


class Broken:
    def change(self, device: str, direction: str, change: LinkChange) -> None:
        raise LinkError(f"{device} {direction}: stuck")


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    (tmp_path / "events").mkdir()
    return tmp_path


def wait_for(ready) -> None:
    deadline = time.monotonic() + 20
    while not ready() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert ready()


def test_without_a_channel_nothing_happens(run_dir: Path) -> None:
    with channel_run.driven(None, Broken(), NAMES, run_dir, 1.0) as violations:
        pass
    assert violations == [] and list((run_dir / "events").iterdir()) == []


def test_links_that_cannot_follow_make_the_run_invalid(run_dir: Path) -> None:
    with channel_run.driven(SECTION, Broken(), NAMES, run_dir, 1.0) as violations:
        time.sleep(0.2)
    assert any("dev0 down: stuck" in violation for violation in violations)
    clients, found, _ = channel_run.conclude(run_dir, 1.0, [], pd.DataFrame(), {})
    assert found == [] and clients.empty


def test_the_log_closes_when_the_run_fails(run_dir: Path) -> None:
    links = Links()
    with pytest.raises(KeyboardInterrupt), channel_run.driven(SECTION, links, NAMES, run_dir, 1.0):
        wait_for(lambda: links.changes >= 4)
        raise KeyboardInterrupt
    assert "dev1,up" in (run_dir / "events" / "channel.csv").read_text()


def test_tables_bounds_and_contradictions_in_emulated_time(run_dir: Path) -> None:
    """With a dilation of 2: the log is stamped in real seconds, the rounds' events are in emulated ones."""
    links = Links()
    with channel_run.driven(SECTION, links, NAMES, run_dir, 2.0):
        wait_for(lambda: links.changes >= 4)
        begun_s = time.monotonic()
        time.sleep(0.2)
    start_s = begun_s / 2
    client = ClientRound(1, "dev0", outcome="finished")
    client.marks = {
        "download_start": {"t": start_s},
        "download_end": {"t": start_s + 1e-6, "payload_bytes": 1_000_000},
    }
    rounds = [Round(1, start_s, end=start_s + 1, clients={"dev0": client})]
    columns = {"bound_download_s": 0.0, "compute_s": 0.5, "bound_upload_s": 0.0, "bound_s": 0.0}
    clients = pd.DataFrame([{"round": 1, "client": "dev0", **columns}])
    ways = {"dev0": AccessLink("dev0", up=LinkSpec(1e6), down=LinkSpec(1e6, 0.01))}
    bounded, found, unlimited = channel_run.conclude(run_dir, 2.0, rounds, clients, ways)
    table = pd.read_csv(run_dir / "channel.csv")
    first, last = table["t_s"].min(), table["t_s"].max()
    assert -10 < first <= 0 < last < 10  # Emulated seconds since the first round.
    fastest_bps = table[(table["device"] == "dev0") & (table["direction"] == "down")]["rate_bps"].max()
    assert bounded["bound_download_s"][0] >= 8e6 / fastest_bps + 0.01
    assert bounded["bound_s"][0] == pytest.approx(bounded["bound_download_s"][0] + 0.5)
    (contradiction,) = found
    assert contradiction.startswith("round 1, dev0: download of 0.000 s is faster than")
    assert unlimited["dev0"].down.rate_bps == float("inf") and unlimited["dev0"].down.delay_s == 0.01
