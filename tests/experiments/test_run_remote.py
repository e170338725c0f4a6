"""A device on another machine joins a run: two network namespaces and a wire stand for the two machines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from experiments import config, record, remote
from experiments.timeline import build
from tests.conftest import CONFIGS, NOISE
from tests.emulation.sandboxed import report

SMOKE = CONFIGS / "smoke.yaml"
_LOCAL = "{up: {rate: 20mbit, delay: 5ms}, down: {rate: 20mbit, delay: 5ms}}"
_AT = "federation.remote_listen=192.168.77.1:50061"


def test_a_command_line_for_each_remote_device() -> None:
    devices = (
        f"network.devices=[{_LOCAL}, {{remote: true, count: 2}}, {{remote: true, seconds_per_step: 2s}}]"
    )
    experiment = config.load(SMOKE, [devices, _AT])
    told = "python -m client --server 192.168.77.1:50061 --id"
    assert remote.commands(experiment) == {
        "dev1": f"{told} dev1",
        "dev2": f"{told} dev2",
        "dev3": f"{told} dev3 --seconds-per-step 2",
    }
    assert [link.device for link in experiment.links()] == ["dev0"]
    assert experiment.network.graph.devices == ("dev0",)


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        ([f"network.devices=[{_LOCAL}, {{remote: true}}]"], "federation.remote_listen"),
        ([f"network.devices=[{_LOCAL}]", _AT], "federation.remote_listen"),
        ([f"network.devices=[{_LOCAL}, {{remote: true}}]", _AT, "dilation=2"], "dilation"),
        (["network.devices=[{remote: true}]", _AT], "devices: one at least"),
        (["network.devices.1.remote=true", _AT], "devices.1.up: a remote device's link is not emulated"),
        ([f"network.devices=[{_LOCAL}]", "federation.remote_listen=here"], "federation.remote_listen"),
    ],
)
def test_what_cannot_be_is_refused_by_key(overrides: list[str], key: str) -> None:
    with pytest.raises(config.ConfigError, match=key):
        config.load(SMOKE, overrides)


def test_a_remote_device_has_the_server_s_view_and_nothing_else() -> None:
    events: list[dict[str, Any]] = [
        {"t": 1.0, "event": "round_start", "round": 1, "cohort": ["dev1"]},
        {"t": 1.1, "event": "download_start", "round": 1, "client": "dev1", "payload_bytes": 100},
        {"t": 4.1, "event": "upload_received", "round": 1, "client": "dev1", "payload_bytes": 50},
        {"t": 4.2, "event": "aggregate_start", "round": 1},
        {"t": 4.3, "event": "round_end", "round": 1, "outcomes": {"dev1": "finished"}},
    ]
    rounds = build(event | {"process": "server"} for event in events)
    clients = record.clients_table(rounds, {})
    row = clients.to_dict("records")[0]
    assert (row["remote"], row["turnaround_s"], row["payload_down_bytes"]) == (True, pytest.approx(3), 100)
    unknown = ["download_s", "compute_s", "upload_s", "wire_up_bytes", "wire_down_bytes", "bound_s"]
    assert clients[unknown].isna().all(axis=None)
    assert record.contradictions(clients, {}) == []
    table = record.rounds_table(rounds, clients)
    assert table["remote"].tolist() == [1] and table["bound_s"].isna().all()


def test_a_device_on_another_machine_takes_part(tmp_path: Path) -> None:
    local, arguments = repr(_LOCAL), f"{str(SMOKE)!r}, {_AT!r}, 'rounds=1', 'output={tmp_path}'"
    status, out, errors, client, carried = report(
        f"""
        other = subprocess.Popen(["unshare", "--net", "sleep", "120"])
        namespace = f"/proc/{{other.pid}}/ns/net"
        while os.readlink(namespace) == os.readlink("/proc/self/ns/net"):
            time.sleep(0.01)
        there = ["mnexec", "-a", str(other.pid)]
        for command in (
            ["ip", "link", "add", "lan0", "type", "veth", "peer", "name", "lan1", "netns", str(other.pid)],
            ["ip", "addr", "add", "192.168.77.1/24", "dev", "lan0"],
            ["ip", "link", "set", "lan0", "up"],
            [*there, "ip", "addr", "add", "192.168.77.2/24", "dev", "lan1"],
            [*there, "ip", "link", "set", "lan1", "up"],
        ):
            subprocess.run(command, check=True)
        environment = {{key: value for key, value in os.environ.items() if key != "FEDCELL_SANDBOX"}}
        devices = "network.devices=[" + {local} + ", {{remote: true}}]"
        fedcell = [sys.executable, "-m", "experiments.cli", "run", {arguments}, devices, "--json"]
        pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        run = subprocess.Popen(fedcell, env=environment, **pipes)
        device = [sys.executable, "-m", "client", "--server", "192.168.77.1:50061", "--id", "dev1"]
        client = subprocess.Popen([*there, *device], env=environment, **pipes)
        out, errors = run.communicate(timeout=80)
        client_errors = client.communicate(timeout=20)[1]
        carried = [line.split() for line in open(f"/proc/{{other.pid}}/net/dev") if "lan1:" in line][0]
        other.kill()
        document = json.loads(out) if out else None
        print(json.dumps([run.returncode, document, errors, [client.returncode, client_errors], carried]))
        """
    )
    assert client[0] == 0, client
    assert out is not None, errors
    assert status == 0 or all(NOISE.search(reason) for reason in out["invalid_reasons"]), out
    command = "python -m client --server 192.168.77.1:50061 --id dev1"
    assert f"dev1 is remote; start it with: {command}" in errors
    assert [row["clients_finished"] for row in out["rounds"]] == [2]
    assert any(warning.startswith("dev1 is remote") for warning in out["warnings"])
    clients = pd.read_csv(Path(out["run_dir"]) / "clients.csv").set_index("client")
    assert clients["remote"].to_dict() == {"dev0": False, "dev1": True}
    assert clients["wire_up_bytes"].isna().to_dict() == {"dev0": False, "dev1": True}
    assert clients["payload_up_bytes"].nunique() == 1
    assert 0 < clients.loc["dev1", "turnaround_s"] < clients.loc["dev0", "turnaround_s"]
    received, sent = int(carried[1]), int(carried[9])
    assert received > clients.loc["dev1", "payload_down_bytes"]
    assert sent > clients.loc["dev1", "payload_up_bytes"]
    assert set(pd.read_csv(Path(out["run_dir"]) / "links.csv")["link"]) == {"dev0"}
