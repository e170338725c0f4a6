"""Memory: the server needs that of one model, however many devices send, and whatever they send."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from raw_device import TIMEOUT_S, Device, Server, pieces

from proto import federation_pb2 as pb
from proto.adapter import AdapterLayout
from proto.payload import CHUNK_BYTES

MODULES = {f"m{n}.lora_A.weight": (16, 2**13) for n in range(64)}
MODULES |= {f"m{n}.lora_B.weight": (2**13, 16) for n in range(64)}
BIG = AdapterLayout.of(MODULES)  # 67 MB in fp32
NAMES = ("dev0", "dev1", "dev2", "dev3")


def peak_bytes(server: Server) -> int:
    """The most memory that the server's process has ever had."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def test_a_server_needs_less_than_four_models_beside_its_interpreter(start: Callable[..., Server]) -> None:
    """Four devices at once, gRPC's buffers included. Their updates in memory would be four models alone.

    One is poisoned in its last value, when all the rest has been added: it is withdrawn to the last bit.
    """
    idle = start("dev0", folder="idle")
    with Device(idle, "dev0") as device:
        device.enter()
        device.next_round()
        interpreter = peak_bytes(idle)
    server = start(",".join(NAMES), "--rounds", "2", layout=BIG)
    good = np.random.default_rng(0).standard_normal(BIG.size, np.float32)
    poisoned = np.full(BIG.size, 0.5, np.float32)
    poisoned[-1] = np.nan

    def take_part(name: str) -> pb.Status:
        with Device(server, name) as device:
            device.enter(digest=BIG.digest)
            device.next_round()
            reply = device.send([device.header(good.nbytes), *(parts[name == "dev0"])])
            assert device.next_round()[0].round == 2  # Round 1 is summed up, and written.
            peaks.append(peak_bytes(server))
            return reply.status

    parts = [pieces(update.tobytes(), piece_bytes=CHUNK_BYTES) for update in (good, poisoned)]
    peaks: list[int] = []
    with ThreadPoolExecutor(len(NAMES)) as pool:
        statuses = list(pool.map(take_part, NAMES, timeout=2 * TIMEOUT_S))
    assert statuses == [pb.STATUS_CORRUPT, *3 * [pb.STATUS_OK]]
    assert max(peaks) - interpreter < 4 * good.nbytes
    np.testing.assert_allclose(server.checkpoint(1), good, rtol=1e-7, atol=1e-10)
