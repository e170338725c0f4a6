"""Captures: every frame in the file, cut as asked, and whatever is missing counted."""

from __future__ import annotations

from tests.emulation.sandboxed import report

_SETUP = """
    import struct, tempfile
    from pathlib import Path
    from emulation.capture import Capture
    folder = Path(tempfile.mkdtemp(prefix="capture-")) / "captures"
    links = [AccessLink(f"dev{i}", LinkSpec(50e6, 0.01), LinkSpec(50e6, 0.01)) for i in range(2)]

    def frames(path):
        # A pcap file as draft-ietf-opsawg-pcap has it: (time, bytes on the wire, bytes kept).
        data = path.read_bytes()
        assert struct.unpack("=IHHiIII", data[:24])[:3] == (0xA1B23C4D, 2, 4)
        at, found = 24, []
        while at < len(data):
            seconds, nanoseconds, kept, length = struct.unpack("=IIII", data[at : at + 16])
            found.append((seconds + nanoseconds * 1e-9, length, data[at + 16 : at + 16 + kept]))
            at += 16 + kept
        return found
"""


def test_every_frame_is_in_the_file_at_its_time() -> None:
    found = report(
        _SETUP
        + """
    with Network(links, backend="relay") as network:
        before = network.counters()
        with Capture(network.interfaces(), ["dev0-eth0", "cell-eth2", "dev1-eth0"], folder, snaplen=60) as c:
            inside(network, "dev0", "ping", "-c", "5", "-i", "0.1", "-s", "1000", network.ip("server"))
        up = network.counters()[("dev0", "up")].offered_frames - before[("dev0", "up")].offered_frames
    shots = {path.stem: frames(path) for path in folder.iterdir()}
    print(json.dumps([
        up, c.summary(), c.warnings(),
        {name: [(at, length, len(kept)) for at, length, kept in shot] for name, shot in shots.items()},
        [kept[12:14].hex() + kept[26:30].hex() for _, _, kept in shots["dev0-eth0"]],
    ]))
    """
    )
    up, summary, warnings, shots, headers = found
    device, access = shots["dev0-eth0"], shots["cell-eth2"]
    assert up == 5 and len(device) == 10 and len(access) == 10 and shots["dev1-eth0"] == []
    assert {length for _, length, _ in device} == {14 + 20 + 8 + 1000}
    assert {kept for _, _, kept in device} == {60}
    assert headers == ["08000a000002", "08000a000001"] * 5  # echoes from 10.0.0.2, answers from 10.0.0.1
    for (sent, _, _), (arrived, _, _) in zip(device[::2], access[::2], strict=True):
        assert 0.0099 <= arrived - sent <= 0.015
    assert summary["interfaces"]["dev0-eth0"] == {
        "file": "captures/dev0-eth0.pcap",
        "frames": 10,
        "dropped": 0,
    }
    assert warnings == []


def test_what_the_capture_misses_is_counted() -> None:
    """Held up for as long as its ring has room, and longer."""
    found = report(
        _SETUP
        + """
    with Network(links, backend="relay") as network:
        with Capture(network.interfaces(), list(network.interfaces()), folder) as capture:
            os.kill(capture._process.pid, signal.SIGSTOP)
            send = "[s.sendto(bytes(1400), ('10.0.0.1', 9)) for _ in range(120000)]"
            inside(network, "dev0", sys.executable, "-c", f"import socket; s = socket.socket(2, 2); {send}")
            os.kill(capture._process.pid, signal.SIGCONT)
    print(json.dumps([capture.summary(), capture.warnings()]))
    """
    )
    summary, warnings = found
    assert set(summary["interfaces"]) == {f"{n}-eth0" for n in ("server", "dev0", "dev1")} | {
        f"cell-eth{n}" for n in (1, 2, 3)
    }
    count = summary["interfaces"]["dev0-eth0"]
    assert count["dropped"] > 0
    answers = 100  # at most, that nothing listens: the kernel limits their rate
    assert 120_000 <= count["frames"] + count["dropped"] <= 120_000 + answers
    assert any(warning.startswith("capture of dev0-eth0: ") for warning in warnings)


def test_an_unknown_interface_is_one_line_with_those_there_are() -> None:
    found = report(
        _SETUP
        + """
    with Network(links[:1], backend="relay") as network:
        try:
            Capture(network.interfaces(), ["dev7-eth0"], folder)
        except LinkError as error:
            print(json.dumps(str(error)))
    """
    )
    assert (
        found == "no interface dev7-eth0 to capture; there are cell-eth1, cell-eth2, dev0-eth0, server-eth0"
    )
