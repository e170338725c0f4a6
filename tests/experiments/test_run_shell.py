"""The prompt inside the network, and calibration, agree with the configuration."""

from __future__ import annotations

import json
import re

from experiments import config
from tests.conftest import CONFIGS, fedcell, fedcell_json

CELL = CONFIGS / "cell.yaml"


def test_ping_and_iperf3_agree_with_the_configuration() -> None:
    """RTT within +0.5/-0.1 ms plus serialisation, TCP goodput within 5 % of rate * 1448/1514."""
    link = config.load(CELL).links()[0]
    lines = [
        "dev0 ping -c 1 server",  # the first may wait for address resolution
        "dev0 ping -c 20 -i 0.1 server",
        "server iperf3 -s -D",
        "dev0 iperf3 -c server -t 4 -O 1 -J",
        "dev0 iperf3 -c server -t 4 -O 1 -J -R",
    ]
    answers = fedcell_json("shell", CELL, *(part for line in lines for part in ("-c", line)))["lines"]
    outputs = [answer["output"] for answer in answers]
    least_ms = float(re.search(r"= ([\d.]+)/", outputs[1])[1])  # type: ignore[index]
    serialisation_s = link.up.frame_time_s(98) + link.down.frame_time_s(98)
    expected_ms = 1e3 * (link.up.delay_s + link.down.delay_s + serialisation_s)
    assert expected_ms - 0.1 <= least_ms <= expected_ms + 0.5
    for output, spec in ((outputs[3], link.up), (outputs[4], link.down)):
        goodput = json.loads(output)["end"]["sum_received"]["bits_per_second"]
        assert 0.95 * spec.tcp_goodput_bps <= goodput <= 1.005 * spec.tcp_goodput_bps


def test_lines_print_as_at_the_prompt() -> None:
    done = fedcell("shell", CONFIGS / "smoke.yaml", "-c", "nodes", "-c", "dev1 echo hello")
    assert done.returncode == 0, done.stderr
    assert "mininet> nodes" in done.stdout and "dev0 dev1" in done.stdout
    assert done.stdout.endswith("mininet> dev1 echo hello\nhello\n")


def test_calibrate_prints_configured_against_measured() -> None:
    done = fedcell("calibrate", CONFIGS / "smoke.yaml", "--quick", "--json")
    document = json.loads(done.stdout)
    rates = [check for check in document["checks"] if check["metric"] == "rate"]
    assert {(check["link"], check["direction"]) for check in rates} == {
        (device, way) for device in ("dev0", "dev1") for way in ("up", "down")
    }
    for check in rates:
        assert abs(check["measured"] / check["configured"] - 1) < 0.02
    assert document["valid"] == (done.returncode == 0)
