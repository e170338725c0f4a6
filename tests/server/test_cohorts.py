"""Cohorts of a running server: what it learns of devices decides the next round, and so does a trace."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from raw_device import FP32_BYTES, TIMEOUT_S, Device, Server, constant, pieces

from proto import federation_pb2 as pb


def cohort_of(server: Server, number: int) -> Any:
    """Whom round `number` asks, as soon as it has begun."""
    limit = time.monotonic() + TIMEOUT_S
    while len(started := server.events("round_start")) < number:
        assert time.monotonic() < limit and server.process.poll() is None
        time.sleep(0.01)
    return started[number - 1]["cohort"]


def entered(server: Server, *names: str) -> dict[str, Device]:
    return {name: Device(server, name).enter() for name in names}


def take_part(device: Device, number: int, loss: float = float("nan")) -> None:
    assert device.next_round()[0].round == number
    assert device.upload(constant(0), round_number=number, loss=loss).status == pb.STATUS_OK


def test_power_of_choice_goes_by_the_losses_that_came_with_updates(start: Callable[..., Server]) -> None:
    """Those who have not trained come first, in some order; then whoever said 0.9, and so on."""
    losses = {"dev0": [0.2], "dev1": [0.9, 0.8, 0.1], "dev2": [0.5, 0.4]}
    options = ("--selection", "power_of_choice(3)", "--cohort", "0.3", "--rounds", "6")
    server = start("dev0,dev1,dev2", *options)
    devices = entered(server, *losses)
    asked = []
    for number in range(1, 7):
        [name] = cohort_of(server, number)
        asked.append(name)
        take_part(devices[name], number, losses[name].pop(0))
    assert server.wait() == 0
    assert sorted(asked[:3]) == ["dev0", "dev1", "dev2"]
    assert asked[3:] == ["dev1", "dev1", "dev2"]
    for device in devices.values():
        device.cut()
    assert server.events("server_ready")[0]["selection"] == "power_of_choice(3)"


def test_fastest_goes_by_the_time_that_updates_took(start: Callable[..., Server]) -> None:
    """dev0 is lost in its round and comes back, dev1's update takes a second, dev2's none to speak of."""
    options = ("--selection", "fastest", "--cohort", "0.3", "--rounds", "4", "--reconnect-grace", "0.2")
    server = start("dev0,dev1,dev2", *options)
    devices = entered(server, "dev0", "dev1", "dev2")
    assert cohort_of(server, 1) == ["dev0"]
    devices["dev0"].cut()
    assert cohort_of(server, 2) == ["dev1"]
    devices["dev0"] = Device(server, "dev0", session=devices["dev0"].session).enter()

    def slowly() -> Any:
        yield slow.header(round_number=2)
        time.sleep(1)
        yield from pieces(constant(0).tobytes())

    slow = devices["dev1"]
    slow.next_round()
    assert slow.send(slowly()).status == pb.STATUS_OK
    for number in (3, 4):
        assert cohort_of(server, number) == ["dev2"]
        take_part(devices["dev2"], number)
    for device in devices.values():
        assert device.finished()
        device.cut()
    assert server.wait() == 1  # round 1 had no update
    received = server.events("upload_received")
    assert [event["client"] for event in received] == ["dev1", "dev2", "dev2"]
    assert all(event["payload_bytes"] == FP32_BYTES for event in received)
    took_s = [float(str(event["took_s"])) for event in received]
    assert took_s[0] >= 1 > took_s[1] > 0


def test_a_round_waits_for_the_first_who_is_available(start: Callable[..., Server], tmp_path: Path) -> None:
    """dev1 comes at 6 s of the trace, which are 0.6 real ones; dev0 later than the run lasts."""
    trace = tmp_path / "trace.csv"
    trace.write_text("device,from_s,until_s\ndev0,1e6,inf\ndev1,6,inf\n")
    options = ("--availability", str(trace), "--availability-scale", "0.1", "--rounds", "2")
    server = start("dev0,dev1", *options)
    devices = entered(server, "dev0", "dev1")
    for number in (1, 2):
        assert cohort_of(server, number) == ["dev1"]
        take_part(devices["dev1"], number)
    for device in devices.values():
        assert device.finished()
        device.cut()
    assert server.wait() == 0
    [nobody] = server.events("nobody_available")
    first, second = server.events("available")
    assert nobody["round"] == first["round"] == 1
    assert nobody["trace_s"] == 0 and nobody["next_in_s"] == 6
    assert 6 <= float(str(first["trace_s"])) < float(str(second["trace_s"]))
    assert first["devices"] == ["dev1"]
    waited_s = float(str(first["t"])) - float(str(nobody["t"]))
    assert 0.59 < waited_s < 5  # not 6 real seconds


def test_rounds_that_nobody_comes_to_end_without_an_update(
    start: Callable[..., Server], tmp_path: Path
) -> None:
    """dev0 is there at the very beginning, then from 100 s on, which is beyond round 2's deadline."""
    trace = tmp_path / "trace.csv"
    trace.write_text("device,from_s,until_s\ndev0,0,0.000001\ndev0,100,101\n")
    server = start("dev0", "--availability", str(trace), "--deadline", "2", "--rounds", "2")
    with Device(server, "dev0") as device:
        device.enter()
        take_part(device, 1)
        assert device.finished()
    assert server.wait() == 1
    assert server.outcomes() == [{"dev0": "finished"}, {}]
    [nobody] = server.events("nobody_available")
    began, ended = (server.events(kind)[1] for kind in ("round_start", "round_end"))
    assert (nobody["round"], began["cohort"]) == (2, [])
    assert 1.9 < float(str(began["t"])) - float(str(nobody["t"])) < 20
    assert float(str(ended["t"])) - float(str(began["t"])) < 1.5  # not another deadline
