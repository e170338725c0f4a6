"""Training data as they are sent: every image and caption in them, and the same examples at the other end."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from client.diffusion import data
from client.diffusion.data import DataError, Examples, load_imagefolder, load_training
from client.diffusion.raw import archive, read_collected
from client.diffusion.trainer import DiffusionTrainer
from tests.client.test_diffusion_data import write_folder


def arrive(folder: Path, name: str, examples: Examples, spec: str) -> bytes:
    """What the server has of a device afterwards."""
    folder.mkdir(exist_ok=True)
    payload = b"".join(archive(examples, spec).pieces())
    (folder / f"{name}.data").write_bytes(payload)
    return payload


def some_emoji(first: int, count: int) -> Examples:
    return load_training("emoji", 64).select(np.arange(first, first + count))


def test_emoji_arrive_pixel_by_pixel_with_their_captions_in_the_devices_order(tmp_path: Path) -> None:
    shares = {"dev0": some_emoji(0, 3), "dev2": some_emoji(900, 2), "dev10": some_emoji(5, 1)}
    payloads = {name: arrive(tmp_path / "c", name, shares[name], "emoji") for name in reversed(shares)}
    for sent, got in zip(shares.values(), read_collected(tmp_path / "c", 64), strict=True):
        np.testing.assert_array_equal(got.images, sent.images)
        for key in ("captions", "styles", "groups"):
            assert getattr(got, key).tolist() == getattr(sent, key).tolist()
    assert shares["dev0"].captions[0].encode() in payloads["dev0"]
    assert payloads["dev0"].count(b"\x89PNG\r\n") == 3


def test_an_imagefolder_s_files_are_sent_byte_by_byte(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    write_folder(folder)
    examples = load_imagefolder(folder, 64)
    payload = arrive(tmp_path / "c", "dev0", examples, str(folder))
    for name, text in zip(examples.names, examples.captions, strict=True):
        assert (folder / name).read_bytes() in payload and text.encode() in payload
    [got] = read_collected(tmp_path / "c", 64)
    np.testing.assert_array_equal(got.images, examples.images)


def test_the_same_data_are_the_same_bytes_and_can_be_had_from_any_on() -> None:
    first, second = (archive(some_emoji(0, 4), "emoji") for _ in range(2))
    whole = b"".join(first.pieces())
    assert whole == b"".join(second.pieces()) and len(whole) == first.payload_bytes
    assert b"".join(first.pieces(1000)) == whole[1000:]


def test_what_is_no_archive_of_ours_is_refused_in_a_line(tmp_path: Path) -> None:
    file = tmp_path / "dev0.data"
    file.write_bytes(b"not a zip archive")
    with pytest.raises(DataError, match=r"dev0.data is no archive of images"):
        read_collected(tmp_path, 64)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("metadata.jsonl", "0" * 10**6)
    with pytest.raises(DataError, match=r"dev0.data holds compressed members"):
        read_collected(tmp_path, 64)
    file.unlink()
    with pytest.raises(ValueError, match=r"holds no device's training data"):
        read_collected(tmp_path, 64)


def test_the_server_s_trainer_sees_all_of_it_and_makes_everybody_s_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It needs no data set: what it trains on is what has come."""
    for index in range(2):
        arrive(tmp_path, f"dev{index}", some_emoji(10 * index, 3), "emoji")
    task = {"base": "bundled", "data": "emoji", "partition": "iid", "rank": 2, "seed": 3}
    task |= {"steps": 1, "batch_size": 2, "learning_rate": 1e-3, "raw": True, "device_count": 2}
    monkeypatch.setattr(data, "emoji_folder", lambda: tmp_path / "nowhere")
    trainers = [DiffusionTrainer(**task, device_index=2, collected=tmp_path) for _ in range(2)]
    results = [trainer.train(trainer.initial(), round_number=1) for trainer in trainers]
    assert [(result.steps, trainer.examples) for result, trainer in zip(results, trainers, strict=True)] == [
        (2, 6)
    ] * 2
    np.testing.assert_array_equal(results[0].vector, results[1].vector)
    assert not np.array_equal(results[0].vector, trainers[0].initial())


def test_an_image_of_any_size_is_what_it_was(tmp_path: Path) -> None:
    """A JPEG goes up as it is, and is scaled where it is trained on."""
    folder = tmp_path / "photos"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    Image.fromarray(noise).save(folder / "a.jpg")
    (folder / "metadata.jsonl").write_text('{"file_name": "a.jpg", "text": "noise, ünlike"}\n')
    examples = load_imagefolder(folder, 64)
    payload = arrive(tmp_path / "c", "dev0", examples, str(folder))
    assert (folder / "a.jpg").read_bytes() in payload and "noise, ünlike".encode() in payload
