"""Memory of a device: twice its update, beside the interpreter's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from running import TASK, Federation, Running

from client.sd15 import sd15_lora_layout

RANK = 96
LAYOUT = sd15_lora_layout(RANK)  # 76.5 MB in fp32


def peak_bytes(running: Running) -> int:
    """The most memory that the process has had so far."""
    status = Path(f"/proc/{running.process.pid}/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def test_a_device_needs_twice_its_update_to_download_train_and_upload(
    federation: Callable[..., Federation],
) -> None:
    """The adapter that came down and the one that was trained; no encoded copy of either."""
    run = federation("dev0,dev1", task=TASK | {"rank": RANK}, layout=LAYOUT)
    client = run.client("dev0")
    client.wait_for("connected")
    before = peak_bytes(client)
    run.client("dev1", "--seconds-per-step", 20)  # The round begins, and stays open.
    client.wait_for("upload_end")
    assert [end["status"] for end in client.events("upload_end")] == ["STATUS_OK"]
    assert peak_bytes(client) - before < 2.2 * 4 * LAYOUT.size
