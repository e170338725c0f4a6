"""The event log: whole lines of strict JSON on one clock, whatever happens to the process."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proto.events import EventLog

ROOT = Path(__file__).parents[2]


def strict(line: str) -> dict[str, object]:
    """Parse as a reader in another language would: NaN and Infinity are not JSON."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    record: dict[str, object] = json.loads(line, parse_constant=refuse)
    return record


def test_one_line_an_event_stamped_with_the_machines_clock(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "dev0.jsonl", "dev0")
    before = time.monotonic()
    times = [log.write("upload_start", round=1, offset=0), log.write("upload_end", status="STATUS_OK")]
    after = time.monotonic()
    log.close()
    first, second = map(strict, (tmp_path / "dev0.jsonl").read_text().splitlines())
    assert first == {"t": times[0], "process": "dev0", "event": "upload_start", "round": 1, "offset": 0}
    assert second == {"t": times[1], "process": "dev0", "event": "upload_end", "status": "STATUS_OK"}
    assert before <= times[0] <= times[1] <= after


def test_a_value_that_does_not_exist_is_null(tmp_path: Path) -> None:
    """A device that trained nothing has no loss: NaN on the wire, null in the log."""
    log = EventLog(tmp_path / "e.jsonl", "dev0")
    log.write("compute_end", loss=float("nan"), steps=0)
    record = strict((tmp_path / "e.jsonl").read_text())
    assert record["loss"] is None
    assert record["steps"] == 0


fields = st.dictionaries(
    st.sampled_from(["reason", "round", "loss", "outcomes"]),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner.filter(lambda v: v == v), max_size=3),
    ),
)


@given(fields)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_field_is_one_line_of_strict_json(tmp_path: Path, known: dict[str, object]) -> None:
    """A reason with line breaks or quotes in it, say, from a peer that means no good."""
    path = tmp_path / "e.jsonl"
    path.unlink(missing_ok=True)
    log = EventLog(path, "dev0")
    log.write("refused", **known)
    log.close()
    content = path.read_text()
    assert content.endswith("\n")
    assert content.count("\n") == 1
    record = strict(content)
    assert {key: record[key] for key in known} == {k: None if v != v else v for k, v in known.items()}


def test_infinity_is_an_error_at_the_writer_not_at_the_reader(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "e.jsonl", "dev0")
    with pytest.raises(ValueError, match="JSON"):
        log.write("compute_end", loss=float("inf"))
    assert (tmp_path / "e.jsonl").read_text() == ""


def test_a_second_log_on_the_same_file_appends(tmp_path: Path) -> None:
    for event in ("first_life", "second_life"):
        log = EventLog(tmp_path / "e.jsonl", "dev0")
        log.write(event)
        log.close()
    lines = (tmp_path / "e.jsonl").read_text().splitlines()
    assert [strict(line)["event"] for line in lines] == ["first_life", "second_life"]


def test_a_process_without_a_log_still_gets_its_times() -> None:
    log = EventLog(None, "dev0")
    assert log.write("anything") <= log.write("anything")
    log.close()


def test_a_killed_writer_leaves_whole_lines(tmp_path: Path) -> None:
    """SIGKILL in a busy loop of writes: each event was one write(2), so the last line is whole too."""
    path = tmp_path / "e.jsonl"
    code = (
        "import sys, pathlib; from proto.events import EventLog\n"
        "log = EventLog(pathlib.Path(sys.argv[1]), 'dev0')\n"
        "while True: log.write('tick', text='x' * 2000)"
    )
    writer = subprocess.Popen([sys.executable, "-c", code, str(path)], cwd=ROOT)
    limit = time.monotonic() + 20
    while (not path.exists() or path.stat().st_size < 200_000) and time.monotonic() < limit:
        time.sleep(0.01)
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    content = path.read_text()
    assert content.endswith("\n")
    assert all(strict(line)["event"] == "tick" for line in content.splitlines())
