"""`python -m server` as a command: what it says and how it exits when it cannot do its work."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from raw_device import ROOT, Device, Server


def assert_one_line(server: Server, *words: str) -> None:
    """Its whole complaint is one line that names what is wrong."""
    [line] = server.complaint.splitlines()
    assert line.startswith("server: ")
    for word in words:
        assert word in line


def test_a_port_in_use_is_said_so(start: Callable[..., Server]) -> None:
    """Also when the other one is a server of ours: two must clash, not share the port's devices."""
    first = start("dev0", folder="first")
    with Device(first, "dev0") as device:
        device.join()  # It is up.
        second = start("dev0", folder="second", address=first.address)
        assert second.wait() == 2
    assert_one_line(second, first.address, "is the port in use?")


def test_a_port_that_another_program_holds_is_said_so(start: Callable[..., Server]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        server = start("dev0", address=f"127.0.0.1:{other.getsockname()[1]}")
        assert server.wait() == 2
    assert_one_line(server, server.address)


@pytest.mark.parametrize("content", [None, b"not an adapter"])
def test_an_initial_adapter_that_is_none_is_said_so(
    start: Callable[..., Server], tmp_path: Path, content: bytes | None
) -> None:
    broken = tmp_path / "broken.safetensors"
    if content is not None:
        broken.write_bytes(content)
    server = start("dev0", "--initial", str(broken))
    assert server.wait() == 2
    assert_one_line(server, str(broken), "is not a safetensors adapter")


@pytest.mark.parametrize("option", ["--uplink-codec", "--downlink-codec"])
def test_an_unknown_codec_is_said_so_before_any_device_joins(
    start: Callable[..., Server], option: str
) -> None:
    server = start("dev0", option, "fp7")
    assert server.wait() == 2
    assert_one_line(server, "unknown codec 'fp7'", "fp32")


def test_an_unknown_selection_is_said_so_before_any_device_joins(start: Callable[..., Server]) -> None:
    server = start("dev0", "--selection", "slowest")
    assert server.wait() == 2
    assert_one_line(server, "unknown selection 'slowest'", "round_robin")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--method", "flora", "--mean", "median"), "mean: median is of one vector, flora has none"),
        (("--method", "fedex", "--ranks", "4,2"), "method: fedex needs one rank for all devices, not 2, 4"),
        (
            ("--method", "flora", "--ranks", "8,2"),
            "--ranks 8,2: one a device, the largest that of the",
        ),
        (("--method", "rolora", "--staleness-exponent", "1"), "rolora cannot take a late update"),
    ],
)
def test_an_aggregation_that_cannot_be_is_said_so_before_any_device_joins(
    start: Callable[..., Server], options: tuple[str, ...], says: str
) -> None:
    server = start("dev0,dev1", *options)
    assert server.wait() == 2
    assert_one_line(server, says)


def test_a_trace_of_other_devices_is_said_so_before_any_device_joins(
    start: Callable[..., Server], tmp_path: Path
) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("device,from_s,until_s\nphone,0,inf\n")
    server = start("dev0", "--availability", str(trace))
    assert server.wait() == 2
    assert_one_line(server, str(trace), "line 2: there is no device 'phone' (dev0)")


def test_devices_that_never_join_are_named(start: Callable[..., Server]) -> None:
    """dev1 joins in time and dev0 and dev2 do not: exit code 1, both named, no checkpoint."""
    server = start("dev0,dev1,dev2", "--join-timeout", "2")
    with Device(server, "dev1") as device:
        device.enter()
        assert server.wait() == 1
    assert_one_line(server, "did not join within 2 s: dev0, dev2")
    assert "dev1" not in server.complaint
    assert not (server.folder / "adapters").exists()


@pytest.mark.parametrize(
    "options",
    [("--events", "{folder}/no/such/folder/e.jsonl"), ("--checkpoints", "{folder}/initial.safetensors")],
)
def test_a_place_that_cannot_be_written_is_one_line_not_a_traceback(
    start: Callable[..., Server], tmp_path: Path, options: tuple[str, str]
) -> None:
    """The second names a file where a folder must be; only the first round's checkpoint needs it."""
    option, path = options
    server = start("dev0", "--join-timeout", "20", option, path.format(folder=tmp_path / "run"))
    with Device(server, "dev0") as device:
        if option == "--checkpoints":
            device.enter()
        assert server.wait() in (1, 2)
    assert "Traceback" not in server.complaint
    assert path.format(folder=tmp_path / "run") in server.complaint


def test_help_and_a_start_need_no_torch() -> None:
    """The coordinator runs on a plain machine: neither torch nor anything that trains is imported."""
    code = (
        "import sys, server.__main__; print([m for m in sys.modules"
        " if m.split('.')[0] in ('torch', 'diffusers', 'peft', 'transformers', 'client', 'emulation')])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
