"""What goes wrong is told: a killed device, an interrupted network, wrong input, a machine without TUN."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from experiments.timeline import read_events
from tests.conftest import CONFIGS, REPOSITORY, fedcell, traces

SMOKE, CELL = CONFIGS / "smoke.yaml", CONFIGS / "cell.yaml"


def wait_for(folder: Path, event: str, timeout_s: float = 60, **fields: object) -> None:
    """Until a process of the run has logged `event` with these fields."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        for entry in read_events(folder) if folder.exists() else []:
            if entry["event"] == event and all(entry.get(k) == v for k, v in fields.items()):
                return
        time.sleep(0.05)
    raise AssertionError(f"no {event} {fields} within {timeout_s} s")


def pid_of(marker: str) -> int:
    """The process here whose open log names `marker`: sandboxed PIDs are not ours to know."""
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and str((entry / "fd" / "1").readlink()).endswith(marker):
                return int(entry.name)
        except OSError:
            continue
    raise AssertionError(f"no process logs to {marker}")


def test_a_device_killed_while_uploading_is_told_and_the_run_goes_on(tmp_path: Path) -> None:
    slow = ["network.devices.0.up.rate=1mbit", "federation.reconnect_grace=1s", "rounds=2"]
    command = [sys.executable, "-m", "experiments.cli", "run", str(SMOKE), f"output={tmp_path}", *slow]
    process = subprocess.Popen(
        [*command, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY
    )
    try:
        wait_for(tmp_path / "latest" / "events", "upload_progress", process="dev0", round=1)
        time.sleep(1.5)  # of the 6.6 s that this upload takes
        os.kill(pid_of(f"{(tmp_path / 'latest').resolve().name}/logs/dev0.log"), signal.SIGKILL)
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    document = json.loads(output)
    assert [row["clients_finished"] for row in document["rounds"]] == [1, 1]
    assert any("round 1: dev0 lost" in warning for warning in document["warnings"])
    clients = pd.read_csv(Path(document["run_dir"]) / "clients.csv").set_index(["round", "client"])
    dead, alive = clients.loc[(1, "dev0")], clients.loc[(1, "dev1")]
    assert dead["outcome"] == "lost" and dead["exit_status"] == -signal.SIGKILL
    assert 0 < dead["received_up_bytes"] < dead["payload_up_bytes"]
    assert dead["wire_up_bytes"] >= dead["received_up_bytes"]  # what it did send is a cost all the same
    assert alive["outcome"] == "finished"
    assert clients.loc[(2, "dev0")]["outcome"] == "lost"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", CELL, "netwrok=1"], "netwrok: unknown key; did you mean 'network'?"),
        (["run", CELL, "network.devices.0.up.rate=10"], "network.devices.0.up.rate: '10' has no unit"),
        (["run", CELL, "network.devices.0.up.loss=120%"], "'120%' is more than 100%"),
        (["run", "no/such/file.yaml"], "no/such/file.yaml: No such file"),
        (["run", CELL, "training.data=no/such/folder"], "no/such/folder"),
        (["run", CELL, "model=experiments"], "experiments is no Stable Diffusion checkpoint"),
        (["run", CELL, "model=./nowhere"], "there is no folder"),
        (["run", CELL, "training.partition=fair"], "unknown partition 'fair'"),
        (["run", SMOKE, "network.congestion_control=swift"], "swift"),
        (["calibrate", CELL, "emulation.backend=wires"], "emulation.backend"),
        (["shell", SMOKE, "-c", "dev7 ls"], "dev7"),
        (["evaluate", "tests"], "tests is not a run"),
        (["figures", "tests"], "tests is not a finished run"),
    ],
    ids=lambda value: " ".join(map(str, value))[-40:] if isinstance(value, list) else "",
)
def test_wrong_input_is_one_line_and_exit_2(tmp_path: Path, arguments: list[str | Path], says: str) -> None:
    before = traces()
    if arguments[0] == "run":
        arguments = [*arguments, f"output={tmp_path}"]
    done = fedcell(*arguments)
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 2, done.stderr
    assert says in lines[-1] and lines[-1].startswith("fedcell: ")
    assert "Traceback" not in done.stderr and done.stdout in ("", "mininet> dev7 ls\n")
    assert traces() == before


@pytest.mark.parametrize("command", ["evaluate", "figures"])
def test_a_manifest_that_is_not_one_is_one_line_and_exit_2(tmp_path: Path, command: str) -> None:
    (tmp_path / "manifest.json").write_text('{"config": 5}')
    done = fedcell(command, tmp_path)
    assert done.returncode == 2
    assert str(tmp_path) in done.stderr and done.stderr.count("\n") == 1


def test_a_missing_data_set_is_told_before_anything_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDCELL_CACHE", str(tmp_path))
    done = fedcell("run", CELL, f"output={tmp_path / 'runs'}")
    assert done.returncode == 2
    assert "emoji" in done.stderr and "make setup" in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="hides /dev/net/tun in a mount namespace, as root")
def test_no_tun_device_is_one_line_and_exit_2(tmp_path: Path) -> None:
    """The relay asked for, and no /dev/net/tun to make TAP devices with."""
    command = f"mount -t tmpfs none /dev/net && exec {sys.executable} -m experiments.cli run {SMOKE}"
    command += f" emulation.backend=relay output={tmp_path}"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", command], capture_output=True, text=True, cwd=REPOSITORY
    )
    assert done.returncode == 2
    assert "/dev/net/tun" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_damaged_configuration_never_opens_a_sandbox(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_bytes(b"\x89PNG\r\n\x1a\n\x00")
    done = fedcell("run", tmp_path / "bad.yaml")
    assert done.returncode == 2 and done.stderr.startswith("fedcell: ") and done.stderr.count("\n") == 1
