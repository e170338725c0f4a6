"""`fedcell bench transport`: targets, causes, tables and figure, and one small bench made for real."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, cast

import pytest
from typer.testing import CliRunner

from experiments import cli
from experiments.bench import transport, transport_peers
from experiments.bench.transport import TransportBench, cases_of, judge, parse_link
from experiments.bench.transport_frames import Transfer
from experiments.bench.transport_peers import PeerError
from experiments.bench.transport_rows import GROUPS, Case, Row, causes, least_window
from experiments.bench.transport_tables import markdown
from experiments.config import ConfigError
from experiments.live import EventTail
from experiments.timeline import PHASES, build
from tests.conftest import NOISE, fedcell

TEN = (10e6, 0.025)
CAUSES = dict.fromkeys((cause for group in GROUPS.values() for cause in group), 0.001)


def row(number: int = 1, ratio: float = 1.0, *, wire: float = 1.07, **changes: Any) -> Row:
    values: dict[str, Any] = {"system": "fedcell", "tensors": 256, "initial_window": None, "round": number}
    values |= {"rate_bps": TEN[0], "one_way_delay_s": TEN[1], "bound_s": 5.0, "payload_bytes": 1000}
    values |= {"latency_s": 5.0 * ratio, "ratio": ratio, "valid": True, "run_dir": "runs/x"}
    values |= {"wire_up_bytes": int(1000 * wire), "wire_down_bytes": 1060, "causes": CAUSES}
    values |= {"retransmitted_up_segments": 0, "retransmitted_down_segments": 3}
    return Row(**values | {"phases": dict.fromkeys(PHASES, 0.5)} | changes)


@pytest.mark.parametrize(
    ("rows", "met"),
    [
        ([row(1, 1.03), row(2, 1.01), row(3, 1.0)], True),
        ([row(1, 1.031), row(2, 1.0)], False),
        ([row(1, 1.0), row(2, 1.0), row(3, 1.011)], False),
        ([row(1, 1.0, wire=1.081)], False),
        ([row(1, 1.0, wire_down_bytes=1081)], False),
        ([row(1, 1.0, valid=False)], False),
    ],
)
def test_a_target_is_for_every_round_and_for_the_wire(rows: list[Row], met: bool) -> None:
    assert judge(rows, transport.TARGETS[TEN])["met"] is met


def test_the_bench_holds_where_one_setting_meets_a_links_target_and_nothing_failed() -> None:
    slow, window = [row(1, 1.2), row(2, 1.0)], [row(1, 1.02, initial_window=43)]
    assert not TransportBench(slow).holds
    assert TransportBench(slow + window).holds
    assert not TransportBench(slow + window, failures=["Flower: crashed"]).holds
    assert not TransportBench([*slow, *window, row(valid=False, system="Flower gRPC")]).holds
    text = markdown(TransportBench(slow + window).to_json(), slow + window)
    assert "kernel's initial window: first round 1.200 (at most 1.03)" in text and "MISSED" in text
    assert "initial window 43: first round 1.020 (at most 1.03), wire 1.070 (at most 1.08): met" in text


def test_a_link_without_a_target_and_a_peer_are_not_judged() -> None:
    others = [row(1, 3.0, rate_bps=100e6), row(1, 12.0, system="Flower SuperLink")]
    assert TransportBench(others).verdicts() == []
    assert TransportBench(others).holds


def test_a_window_is_tried_only_where_the_kernels_is_short_of_the_link() -> None:
    assert cases_of(parse_link("1mbit/25ms")) == [Case(1e6, 0.025)]
    assert cases_of(parse_link("10mbit/25ms")) == [Case(*TEN), Case(*TEN, 42)]
    assert least_window(Case(*TEN)) * 1514 * 8 >= 10e6 * 0.05


@pytest.mark.parametrize("text", ["10mbit", "10/25ms", "0mbit/25ms", "10mbit/25", ""])
def test_a_link_that_cannot_be_is_one_line(text: str) -> None:
    with pytest.raises(ConfigError, match=f"link '{text}': "):
        parse_link(text)


def test_every_second_beyond_the_bound_has_a_cause() -> None:
    times = {"download_start": 1.01, "download_end": 4.0, "compute_start": 4.1, "compute_end": 4.3}
    times |= {"encode_end": 4.4, "upload_start": 4.45, "upload_received": 7.0}
    events: list[dict[str, Any]] = [{"t": 1.0, "event": "round_start", "round": 1, "cohort": ["dev0"]}]
    events += [{"t": t, "event": mark, "round": 1, "client": "dev0"} for mark, t in times.items()]
    events += [{"t": 7.2, "event": "aggregate_start", "round": 1}]
    events += [{"t": 7.5, "event": "round_end", "round": 1, "outcomes": {"dev0": "finished"}}]
    (one,) = build([{"process": "server", **event} for event in events])
    down = Transfer(0.02, 2.5, 0.07, 0.2, 0.1, 0.1, retransmitted=0)
    up = Transfer(0.01, 2.3, 0.05, 0.1, 0.05, 0.04, retransmitted=0)
    found = causes(one, {"down": down, "up": up})
    assert one.latency_s is not None
    assert sum(found.values()) == pytest.approx(one.latency_s - down.payload - up.payload)
    assert sorted(found) == sorted(cause for group in GROUPS.values() for cause in group)
    assert (found["prepare"], found["decode"]) == (pytest.approx(0.01), pytest.approx(0.2))


def test_the_tables_name_every_system_every_round_and_what_failed() -> None:
    unknown = row(2, 1.5, system="Flower gRPC", tensors=1, causes=None, retransmitted_up_segments=None)
    bench = TransportBench([row(1, 1.02), unknown], failures=["Flower SuperLink, 1 tensor: timeout"])
    text = markdown(bench.to_json(), bench.rows)
    assert (
        "| fedcell | 256 | 10 Mbit/s, 25 ms | kernel's | 5.000 s | 5.100 s (1.020) | – | 1.060 | 1.070 |"
        in text
    )
    assert "| Flower gRPC | 1 | 10 Mbit/s, 25 ms | kernel's | 5.000 s | – | 7.500 s (1.500) |" in text
    assert "- Flower SuperLink, 1 tensor: timeout" in text
    assert "INVALID" not in text
    invalid = TransportBench([row(valid=False)], repeated=["fedcell: the relay was late; and why; at length"])
    text = markdown(invalid.to_json(), invalid.rows)
    assert "1.000 (at most 1.03), wire 1.070 (at most 1.08): INVALID run" in text
    assert "- fedcell: the relay was late\n" in text


def test_what_is_written_can_be_read_again(tmp_path: Path) -> None:
    bench = TransportBench([row(1, 1.02), row(2), row(1, 1.4, system="Flower gRPC", tensors=1)])
    written = transport.write(bench, tmp_path)
    assert [path.name for path in written] == [f"transport.{kind}" for kind in ("json", "md", "png", "pdf")]
    assert all(path.stat().st_size > 500 for path in written)
    document = json.loads(written[0].read_text())
    assert document == bench.to_json()
    promised = {"system", "tensors", "rate_bps", "one_way_delay_s", "round", "latency_s", "bound_s", "ratio"}
    promised |= {"payload_bytes", "wire_up_bytes", "wire_down_bytes"}
    assert promised <= document["rows"][0].keys()


@pytest.mark.parametrize(("ratio", "status"), [(1.0, 0), (1.2, 1)])
def test_the_command_prints_its_document_and_exits_1_on_a_miss(
    ratio: float, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "_enter_sandbox", lambda: None)
    monkeypatch.setattr(transport, "run", lambda output, **asked: TransportBench([row(1, ratio)]))
    done = CliRunner().invoke(cli.app, ["bench", "transport", "--json", "--output", str(tmp_path)])
    assert done.exit_code == status, done.output
    assert json.loads(done.stdout)["targets"][0]["met"] is not status


def test_a_small_bench_measures_its_rounds(tmp_path: Path) -> None:
    """A quarter of the adapter on a fast link: latency lies above the bound, every second is explained."""
    arguments = ["--link", "20mbit/2ms", "--rounds", "2", "adapter.rank=1", "--output", tmp_path, "--json"]
    done = fedcell("bench", "transport", *arguments)
    document = json.loads(done.stdout)
    noise = [line for line in document["failures"] if NOISE.search(line)]
    assert (done.returncode, document["failures"]) == (1 if noise else 0, noise), done.stderr
    assert [one["round"] for one in document["rows"]] == [1, 2]
    for one in document["rows"]:
        assert one["payload_bytes"] == 4 * 199_296
        assert one["bound_s"] == pytest.approx(2 * (199_296 * 32 / 20e6 * 1514 / 1448 + 0.002))
        assert one["ratio"] == one["latency_s"] / one["bound_s"] > 1
        assert one["payload_bytes"] * 1514 / 1448 < min(one["wire_up_bytes"], one["wire_down_bytes"])
        assert sum(one["causes"].values()) == pytest.approx(one["latency_s"] - one["bound_s"], abs=1e-6)
        assert sum(one["phases"].values()) <= one["latency_s"] + 1e-3


def test_a_dilated_bench_is_refused(tmp_path: Path) -> None:
    done = fedcell("bench", "transport", "--link", "20mbit/2ms", "dilation=0.5", "--output", tmp_path)
    assert done.returncode == 2 and "dilation" in done.stderr.splitlines()[-1]


def test_peers_that_are_not_installed_are_one_line_and_exit_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport_peers, "HOME", tmp_path)
    monkeypatch.setattr("sys.argv", ["fedcell", "bench", "transport", "--peers"])
    with pytest.raises(SystemExit) as exited:
        cli.main()
    assert exited.value.code == 2


def test_the_pinned_flower_is_the_one_that_was_measured() -> None:
    assert transport_peers.pinned_version() == "1.41.0"


def test_a_peer_that_dies_or_never_speaks_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its processes are shell commands here; what they wrote before they died still counts."""

    class Here:
        def pid(self, host: str) -> int:
            return os.getpid()

    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sh").symlink_to("/bin/sh")
    (tmp_path / "bin" / "mnexec").write_text('#!/bin/sh\nshift 2; exec "$@"\n')
    (tmp_path / "bin" / "mnexec").chmod(0o755)
    monkeypatch.setattr(transport_peers, "HOME", tmp_path)
    monkeypatch.setattr(transport_peers, "_READY_S", 0.3)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    for name in ("events", "logs"):
        (tmp_path / name).mkdir()
    ended = {"t": 1.0, "event": "round_end", "round": 1, "outcomes": {"dev0": "finished"}}
    (tmp_path / "events" / "server.jsonl").write_text(json.dumps(ended) + "\n")
    with transport_peers._Processes(cast(Any, Here()), tmp_path) as processes:
        processes.start("talker", "server", ["sh", "-c", "echo hello; sleep 60"])
        processes.await_line("talker", "hello")
        with pytest.raises(PeerError, match="talker did not say 'ready'"):
            processes.await_line("talker", "ready")
        processes.start("crasher", "dev0", ["sh", "-c", "echo no memory; exit 3"])
        with pytest.raises(PeerError, match="crasher ended with status 3: no memory"):
            processes.await_rounds(2, timeout_s=20)
        left = [process.pid for process in processes._running.values()]
    processes._tail = EventTail(tmp_path / "events", dilation=1.0)
    processes.await_rounds(1, timeout_s=0)
    assert not any(Path(f"/proc/{pid}").exists() for pid in left)
