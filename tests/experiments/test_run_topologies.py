"""Whole runs and prompts in networks beyond a cell, with traffic beside them; and as an ordinary user."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import CONFIGS, NOISE, REPOSITORY, fedcell, fedcell_json, valid_run
from tests.nobody import as_nobody

SMOKE, MULTICELL, MESH = (CONFIGS / f"{name}.yaml" for name in ("smoke", "multicell", "mesh"))
DUMBBELL = "experiments/topologies/dumbbell.py"


@pytest.mark.parametrize(
    ("file", "overrides", "least_ms"),
    [
        (MULTICELL, [], {"dev0": 26, "dev3": 50}),
        (MESH, [], {"dev0": 10, "dev2": 22}),
        (MESH, ["network.routing=hops"], {"dev0": 10, "dev2": 34}),
        (SMOKE, [f"network.topology={DUMBBELL}:dumbbell,2", "network.devices=[{count: 2}]"], {"dev1": 20}),
    ],
    ids=["multicell", "mesh", "mesh by hops", "a user's file"],
)
def test_the_prompt_finds_the_server_from_every_device(
    file: Path, overrides: list[str], least_ms: dict[str, float]
) -> None:
    """RTTs are twice the configured delays on the way, and a frame's time at each hop."""
    lines = [part for device in least_ms for part in ("-c", f"{device} ping -c 3 -i 0.1 server")]
    answers = fedcell_json("shell", file, *overrides, *lines)["lines"]
    for answer, expected in zip(answers, least_ms.values(), strict=True):
        assert answer["output"].count("bytes from") == 3
        measured = float(answer["output"].split("rtt ")[1].split("= ")[1].split("/")[0])
        assert expected - 0.1 <= measured <= expected + 3


def test_a_switch_cannot_be_pinged_by_mistake() -> None:
    done = fedcell("shell", MESH, "-c", "dev0 ping -c 1 ap2")
    assert done.returncode == 2 and "ap2 only forwards, it has no address" in done.stderr


def test_a_mesh_run_with_traffic_beside_it(tmp_path: Path) -> None:
    beside = [
        "network.background=[{from: dev1, to: server, protocol: udp, rate: 1mbit}]",
        "network.capture=[dev0-eth0, ap0-eth1]",
    ]
    document = valid_run(MESH, f"output={tmp_path}", "rounds=1", *beside)
    run_dir = Path(document["run_dir"])
    manifest = json.loads((run_dir / "manifest.json").read_text())
    # Every link is calibrated, those between access points too.
    calibrated = {check["link"] for check in manifest["calibration"]}
    assert calibrated == {"dev0", "dev1", "dev2", "ap1-ap0", "ap2-ap1", "ap3-ap2", "ap3-ap0"}
    assert manifest["topology"]["ways"]["dev2"]["up"] == ["dev2", "ap3", "ap2", "ap1", "ap0", "server"]
    # Each hop carries what comes from behind it; the slow side of the ring nothing at all.
    links = pd.read_csv(run_dir / "links.csv").set_index(["link", "direction"])["delivered_bytes"]
    assert links["ap3-ap0", "up"] == links["ap3-ap0", "down"] == 0
    for direction in ("up", "down"):
        assert links["ap3-ap2", direction] >= 0.99 * links["dev2", direction]
        assert links["ap1-ap0", direction] >= 0.99 * sum(links[f"dev{n}", direction] for n in range(3))
    # A bound knows the whole way: dev2's five delays of 3 + 3 + 3 + 2 ms.
    clients = pd.read_csv(run_dir / "clients.csv").set_index("client")
    payload = clients.loc["dev2", "payload_up_bytes"]
    bound_s = payload * 8 / 10e6 * 1514 / 1448 + 0.011
    assert clients.loc["dev2", "bound_upload_s"] == pytest.approx(bound_s, abs=1e-5)
    (flow,) = manifest["background"]
    assert 0.8e6 <= flow["offered_bps"] <= 1.2e6 and flow["received_bytes"] > 0
    assert flow["seconds"] >= document["rounds"][0]["latency_s"]
    assert any("dev1 include their background traffic" in warning for warning in document["warnings"])
    captures = manifest["captures"]["interfaces"]
    assert set(captures) == {"dev0-eth0", "ap0-eth1"}
    for capture in captures.values():
        assert capture["frames"] > 1000
        assert (run_dir / capture["file"]).stat().st_size > 16 * capture["frames"]
    assert captures["ap0-eth1"]["frames"] > captures["dev0-eth0"]["frames"]


def test_a_user_s_topology_runs_and_is_kept_with_the_run(tmp_path: Path) -> None:
    """Two devices share one link of 20 Mbit/s: both have to come down it, and the last of them goes up."""
    topology = [f"network.topology={DUMBBELL}:dumbbell,2", "network.devices=[{count: 2}]", "rounds=1"]
    document = valid_run(SMOKE, f"output={tmp_path}", *topology)
    run_dir = Path(document["run_dir"])
    (row,) = document["rounds"]
    assert row["latency_s"] >= (row["payload_down_bytes"] + row["payload_up_bytes"] / 2) * 8 / 20e6
    assert (run_dir / "topology.py").read_text() == (REPOSITORY / DUMBBELL).read_text()
    manifest = json.loads((run_dir / "manifest.json").read_text())
    assert {check["link"] for check in manifest["calibration"]} == {"s1-s2"}
    assert set(pd.read_csv(run_dir / "links.csv")["link"]) == {"s1-s2"}


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["network.topology=experiments/topologies/dumbbell.py:bell"], "its topos have no 'bell'"),
        (["network.capture=dev9-eth0"], "no interface dev9-eth0 to capture; there are cell-eth1"),
    ],
)
def test_what_is_wrong_is_one_line_and_status_2(tmp_path: Path, overrides: list[str], says: str) -> None:
    devices = ["network.devices=[{count: 2}]"] if "topology" in overrides[0] else []
    done = fedcell("run", SMOKE, f"output={tmp_path}", *overrides, *devices)
    assert done.returncode == 2 and says in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="root is needed to play an ordinary user")
def test_an_ordinary_user_runs_the_smoke_run() -> None:
    """Valid, or invalid for nothing but the real-time rank that an ordinary user's relay does not get."""
    beside = ["network.background=[{from: server, to: dev0, rate: 1mbit}]", "network.capture=[dev1-eth0]"]
    with tempfile.TemporaryDirectory() as home:  # pytest's own folders are root's alone
        Path(home).chmod(0o777)
        command = [*as_nobody(), "env", f"HOME={home}", sys.executable, "-m", "experiments.cli", "run"]
        done = subprocess.run(
            [*command, str(SMOKE), f"output={home}/runs", *beside, "--json"],
            capture_output=True,
            text=True,
            timeout=200,
            cwd=REPOSITORY,
        )
        assert done.returncode in (0, 1), done.stderr[-3000:]
        document = json.loads(done.stdout)
        manifest = json.loads((Path(document["run_dir"]) / "manifest.json").read_text())
    assert [row["clients_finished"] for row in document["rounds"]] == [2, 2]
    assert all(NOISE.search(reason) for reason in document["invalid_reasons"])
    late = [reason for reason in document["invalid_reasons"] if "the relay was late" in reason]
    assert all("it has no real-time rank here" in reason for reason in late)
    assert manifest["background"][0]["received_bytes"] > 0
    assert manifest["captures"]["interfaces"]["dev1-eth0"]["frames"] > 1000
