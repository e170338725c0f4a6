"""A run's captures searched: raw images are found one and all, updates give nothing away, and an answer that
does not count says why."""

from __future__ import annotations

import io
import json
import random
import shlex
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from experiments import ownership
from experiments.cli import app
from experiments.leaks import LeakError, RunLeaks, search_run
from experiments.ownership import owned
from experiments.preflight import EvaluationError
from proto import federation_pb2 as pb
from tests.experiments.captured import PORT, connection, grpc, http2, upload, write_pcap

IMAGES, SIZE = 24, 64
TASK = json.dumps({"trainer": "diffusion", "steps": 3, "seed": 1, "rank": 4, "partition": "iid"})
UPDATE = np.random.default_rng(0).normal(0, 1e-3, 50_000).astype(np.float16).tobytes()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawings on white, as an imagefolder; a caption has a quotation mark."""
    made = tmp_path_factory.mktemp("images")
    rows = []
    for number in range(IMAGES):
        image = np.full((SIZE, SIZE, 3), 255, np.uint8)
        image[16:48, 16:48] = np.random.default_rng(number).integers(0, 256, (32, 32, 3))
        Image.fromarray(image).save(made / f"{number}.png")
        rows.append({"file_name": f"{number}.png", "text": f'drawing "{number:03d}", plain style'})
    (made / "metadata.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return made


@pytest.fixture(autouse=True)
def _no_base(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its images' size is all that is wanted of it."""
    monkeypatch.setattr(ownership, "image_size", lambda config: SIZE)


def make_run(
    run: Path, data: Path, payload: bytes, *, devices: int = 2, task: str = TASK, **capture: Any
) -> Path:
    """A run in which dev0 sends `payload` in round 1 and its capture is as given."""
    config = {
        "seed": 3,
        "base": "bundled",
        "training": {"trainer": "diffusion", "data": str(data), "partition": "iid"},
        "network": {"devices": [{"count": devices}]},
        "federation": {"port": PORT},
    }
    ids = {"client_id": "dev0", "session": "5" * 32}
    register = pb.RegisterRequest(**ids, run_id="cell-20261123-1")
    up = {
        1: grpc(pb.JoinRequest(**ids).SerializeToString()),
        3: grpc(register.SerializeToString()),
        5: upload(payload),
    }
    reply = pb.JoinReply(status=pb.STATUS_OK, run_id="cell-20261123-1", task_json=task)
    down = {1: grpc(reply.SerializeToString())}
    frames = connection(http2(up, preface=True), http2(down, preface=False))
    (run / "captures").mkdir(parents=True)
    (run / "events").mkdir()
    write_pcap(run / "captures" / "dev0-eth0.pcap", frames)
    counts = {"file": "captures/dev0-eth0.pcap", "frames": len(frames), "dropped": 0} | capture
    manifest = {"run": "cell-20261123-1", "config": config, "captures": {"interfaces": {"dev0-eth0": counts}}}
    (run / "manifest.json").write_text(json.dumps(manifest))
    command = shlex.join(["python", "-m", "server", "--task", TASK, "--rounds", "1"])
    event = {"t": 1.0, "process": "runner", "event": "server_command", "command": command}
    (run / "events" / "runner.jsonl").write_text(json.dumps(event) + "\n")
    rows = [{"round": 1, "client": "dev0", "received_up_bytes": len(payload)}]
    pd.DataFrame(rows).to_csv(run / "clients.csv", index=False)
    return run


def archive(run_config: dict[str, Any]) -> bytes:
    """dev0's drawings as PNG files and its captions, as a device of central training sends them."""
    mine = owned(run_config)[0]
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as zipped:
        lines = [json.dumps({"text": str(text)}) for text in mine.captions]
        zipped.writestr("metadata.jsonl", "\n".join(lines))
        for number, image in enumerate(mine.images):
            png = io.BytesIO()
            Image.fromarray(image).save(png, "PNG", compress_level=1)
            zipped.writestr(f"{number}.png", png.getvalue())
    return file.getvalue()


def config_of(data: Path) -> dict[str, Any]:
    return {
        "seed": 3,
        "base": "bundled",
        "training": {"data": str(data), "partition": "iid"},
        "network": {"devices": [{"count": 2}]},
    }


def only(result: RunLeaks):  # type: ignore[no-untyped-def]
    (device,) = result.devices
    return device


def test_an_update_gives_nothing_away(tmp_path: Path, folder: Path) -> None:
    result = search_run(make_run(tmp_path / "run", folder, UPDATE))
    device = only(result)
    assert result.valid and device.invalid_reasons == [] and result.not_captured == ["dev1"]
    mine = len(owned(config_of(folder))[0])
    assert device.images_owned == device.images_searched == device.captions_searched == mine
    assert (device.images_found, device.captions_found, device.leaked_bytes) == (0, 0, 0)
    assert device.controls_found == device.controls == 3
    assert device.update_bytes == device.update_bytes_seen == len(UPDATE)
    assert device.up_bytes > len(UPDATE) and device.searched_bytes > 2 * len(UPDATE)
    assert device.expected_by_chance < 1e-9


def test_what_is_sent_raw_is_found_whole(tmp_path: Path, folder: Path) -> None:
    """As PNG files of another compression than the data set's own, and captions with escaped marks."""
    device = only(search_run(make_run(tmp_path / "run", folder, archive(config_of(folder)))))
    assert device.valid
    assert device.images_found == device.captions_found == device.images_owned
    assert device.leaked_bytes == device.owned_bytes


def test_a_part_of_one_image_among_an_update_is_found(tmp_path: Path, folder: Path) -> None:
    image = owned(config_of(folder))[0].images[3]
    part = image[20:22].tobytes()
    payload = UPDATE[: 65536 - 40] + part + UPDATE[65536:]  # A chunk ends within it.
    device = only(search_run(make_run(tmp_path / "run", folder, payload)))
    assert device.valid and (device.images_found, device.captions_found) == (1, 0)
    assert 32 <= device.leaked_bytes <= 2 * len(part)


def test_another_device_s_images_are_not_this_one_s(tmp_path: Path, folder: Path) -> None:
    other = b"".join(image.tobytes() for image in owned(config_of(folder))[1].images)
    assert only(search_run(make_run(tmp_path / "run", folder, other))).images_found == 0


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"dropped": 3}, "3 frames were not captured"),
        ({"frames": 9}, "frames, and 9 were written"),
        (
            {"task": "another task than the server was told to give"},
            "of 3 things that must be on the link, 2",
        ),
    ],
)
def test_an_answer_that_does_not_count_says_why(
    tmp_path: Path, folder: Path, changes: dict[str, Any], says: str
) -> None:
    result = search_run(make_run(tmp_path / "run", folder, UPDATE, **changes))
    assert not result.valid and any(says in reason for reason in only(result).invalid_reasons)
    table = pd.read_csv(tmp_path / "run" / "leaks.csv")
    assert not table["valid"].any() and says in table["invalid_reasons"][0]


def test_an_update_that_is_not_all_in_the_capture_makes_it_invalid(tmp_path: Path, folder: Path) -> None:
    run = make_run(tmp_path / "run", folder, UPDATE)
    clients = pd.read_csv(run / "clients.csv").assign(received_up_bytes=len(UPDATE) + 1)
    clients.to_csv(run / "clients.csv", index=False)
    reasons = only(search_run(run)).invalid_reasons
    assert reasons == [
        f"of {len(UPDATE) + 1} bytes of updates that the server has, {len(UPDATE)} are in the capture"
    ]


def test_the_device_of_another_run_is_not_taken_for_it(tmp_path: Path, folder: Path) -> None:
    run = make_run(tmp_path / "run", folder, UPDATE)
    manifest = json.loads((run / "manifest.json").read_text()) | {"run": "cell-20261123-2"}
    (run / "manifest.json").write_text(json.dumps(manifest))
    assert not search_run(run).valid


def test_a_run_without_a_capture_is_told_the_fix(tmp_path: Path, folder: Path) -> None:
    run = make_run(tmp_path / "run", folder, UPDATE)
    manifest = json.loads((run / "manifest.json").read_text())
    del manifest["captures"]
    (run / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(LeakError, match=r"network\.capture=\[dev0-eth0\] network\.snaplen=64kB"):
        search_run(run)
    with pytest.raises(EvaluationError, match="is not a run"):
        search_run(tmp_path)


def test_the_command_s_document_and_status(tmp_path: Path, folder: Path) -> None:
    run = make_run(tmp_path / "run", folder, random.Random(0).randbytes(3000))
    done = CliRunner().invoke(app, ["leaks", str(run), "--json"])
    document = json.loads(done.stdout)
    assert done.exit_code == 0 and document["valid"] and document["devices"][0]["images_found"] == 0
    done = CliRunner().invoke(app, ["leaks", str(make_run(tmp_path / "bad", folder, UPDATE, dropped=1))])
    assert done.exit_code == 1 and "INVALID: dev0: 1 frames were not captured" in done.stdout
