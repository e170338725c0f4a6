"""Memory as the kernel accounts for it: whose it is, and who holds a core."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from client.device import Compute, make_slots
from experiments.memory import forked, slot_holders
from tests.emulation.sandboxed import report


def test_what_a_process_allocates_is_its_own_and_counts_in_the_sum() -> None:
    private, added, gone = report(
        """
        from experiments.memory import private_mb, total_pss_mb
        hold = "import sys; data = bytearray(b'x') * (64 << 20); print('ready', flush=True); sys.stdin.read()"
        before = total_pss_mb()
        with subprocess.Popen(
            [sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as held:
            held.stdout.readline()
            found = [private_mb(held.pid), total_pss_mb() - before]
        print(json.dumps([*found, private_mb(held.pid)]))
        """
    )
    assert 67 < private < 85  # 64 MiB and an interpreter
    assert 67 < added < 85
    assert gone is None


def test_who_trains_is_known_by_the_lock_it_holds(tmp_path: Path) -> None:
    slots = tmp_path / "slots"
    assert slot_holders(slots) == set()
    make_slots(slots, 2)
    with (tmp_path / "other").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)  # Somebody's lock on something else is no core.
        assert slot_holders(slots) == set()
        with Compute(slots=slots).slot():
            assert slot_holders(slots) == {os.getpid()}
    assert slot_holders(slots) == set()


def test_devices_are_known_by_their_processes(tmp_path: Path) -> None:
    (tmp_path / "events").mkdir()
    lines = ['{"event": "run_start"}', '{"event": "client_forked", "client": "dev0", "pid": 7}']
    (tmp_path / "events" / "runner.jsonl").write_text("\n".join(lines) + "\n")
    assert forked(tmp_path) == {7: "dev0"}
