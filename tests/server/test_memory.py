"""Memory: the server needs that of one model, however many devices send, and whatever they send."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from raw_device import TIMEOUT_S, Device, Server, pieces

from proto import federation_pb2 as pb
from proto.adapter import AdapterLayout, Vector
from proto.payload import CHUNK_BYTES

BIG = AdapterLayout.of({"a": (16, 2**20)})  # 67 MB in fp32
DEVICES = 4


def peak_bytes(server: Server) -> int:
    """The most memory that the server's process has ever had."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


@pytest.mark.parametrize("poison", [None, np.nan])
def test_a_server_needs_less_than_four_models_beside_its_interpreter(
    start: Callable[..., Server], poison: float | None
) -> None:
    """Four devices at once, gRPC's buffers included. Their updates in memory would be four models alone.

    A poisoned update is found out by its last value, when all the rest has been added: it is withdrawn.
    """
    names = [f"dev{n}" for n in range(DEVICES)]
    idle = start("dev0", folder="idle")
    with Device(idle, "dev0") as device:
        device.enter()
        device.next_round()
    server = start(",".join(names), "--rounds", "2", layout=BIG)
    update = np.full(BIG.size, 0.5, np.float32)
    update[-1] = update[-1] if poison is None else poison

    def take_part(name: str) -> pb.Status:
        with Device(server, name) as device:
            device.enter(digest=BIG.digest)
            device.next_round()
            reply = device.send([device.header(update.nbytes), *parts])
            assert device.next_round()[0].round == 2  # Round 1 is summed up, and written.
            peaks.append(peak_bytes(server))
            return reply.status

    parts = pieces(update.tobytes(), piece_bytes=CHUNK_BYTES)
    peaks: list[int] = []
    with ThreadPoolExecutor(DEVICES) as pool:
        statuses = set(pool.map(take_part, names, timeout=2 * TIMEOUT_S))
    assert statuses == {pb.STATUS_OK if poison is None else pb.STATUS_CORRUPT}
    assert max(peaks) - peak_bytes(idle) < 4 * update.nbytes
    expected: Vector = np.zeros(BIG.size, np.float32) if poison else update
    np.testing.assert_array_equal(server.checkpoint(1), expected)
