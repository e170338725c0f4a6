"""What is trained on, what is held out, and who owns which example."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from client.diffusion import data, emoji
from client.diffusion.data import DataError, Examples
from client.diffusion.partition import Partition


@pytest.fixture(scope="module")
def examples() -> Examples:
    return data.load_training("emoji", 64)


def test_every_style_draws_the_same_names_under_its_own_captions() -> None:
    styles = {style: data.load_emoji(style) for style in emoji.STYLES}
    names = styles["noto"].names.tolist()
    assert len(names) > 1500
    for style, drawn in styles.items():
        assert drawn.names.tolist() == names
        assert drawn.images.shape == (len(names), 64, 64, 3) and drawn.images.dtype == np.uint8
        assert drawn.captions[names.index("grinning-face")] == f"grinning face, {style} style"
        assert drawn.images.std(axis=(1, 2, 3)).min() > 0  # nothing was rendered blank
    heart = names.index("red-heart")
    assert not np.array_equal(styles["noto"].images[heart], styles["openmoji"].images[heart])


def test_held_out_families_are_in_no_training_data() -> None:
    kept = {emoji.family(name) for name in data.held_out_emoji("noto").names}
    for part in (*emoji.STYLES, emoji.EXTRA):
        trained = {emoji.family(name) for name in data.training_emoji(part).names}
        assert not trained & kept, part
    share = len(data.held_out_emoji("noto")) / len(data.load_emoji("noto"))
    assert 0.07 < share < 0.13


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("man-surfing-medium-dark-skin-tone", "person-surfing"),
        ("women-holding-hands", "person-holding-hands"),
        ("mango", "mango"),
        ("people-hugging", "person-hugging"),
    ],
)
def test_variants_share_a_family(name: str, family: str) -> None:
    assert emoji.family(name) == family


def test_devices_never_own_the_base_style_nor_a_held_out_name(examples: Examples) -> None:
    assert set(examples.styles) == set(data.DEVICE_STYLES)
    assert not any(data.held_out(name) for name in examples.names)
    assert set(data.load_held_out("emoji", 64).styles) == set(emoji.STYLES)


@pytest.mark.parametrize("text", ["style", "iid", "dirichlet(0.3)", "dirichlet(100)"])
@pytest.mark.parametrize("devices", [1, 4, 7])
def test_partitions_are_disjoint_seeded_and_leave_nobody_empty(
    examples: Examples, text: str, devices: int
) -> None:
    shares = Partition.parse(text).deal(examples, devices, seed=3)
    joined = np.concatenate(shares)
    assert len(shares) == devices and min(map(len, shares)) > 0
    assert len(np.unique(joined)) == len(joined)
    again = Partition.parse(text).deal(examples, devices, seed=3)
    other = Partition.parse(text).deal(examples, devices, seed=4)
    assert all(np.array_equal(a, b) for a, b in zip(shares, again, strict=True))
    if devices > 3:
        assert not all(np.array_equal(a, b) for a, b in zip(shares, other, strict=True))
    if text != "style" or devices >= 3:
        assert len(joined) == len(examples)


def test_style_partition_deals_styles_round_robin(examples: Examples) -> None:
    shares = Partition.parse("style").deal(examples, 5, seed=0)
    owned = [set(examples.styles[share]) for share in shares]
    assert owned == [{"twemoji"}, {"openmoji"}, {"fluent"}, {"twemoji"}, {"openmoji"}]
    assert abs(len(shares[0]) - len(shares[3])) <= 1


def test_a_small_dirichlet_alpha_skews_and_a_large_one_does_not(examples: Examples) -> None:
    def spread(text: str) -> float:
        shares = Partition.parse(text).deal(examples, 4, seed=1)
        mixes = [np.mean(examples.styles[share] == "twemoji") for share in shares]
        return float(np.std(mixes))

    assert spread("dirichlet(0.1)") > 3 * spread("dirichlet(100)")


@pytest.mark.parametrize(
    "text", ["", "styles", "dirichlet", "dirichlet(0)", "dirichlet(-1)", "dirichlet(1.2.3)"]
)
def test_unknown_partitions_are_refused_by_name(text: str) -> None:
    with pytest.raises(DataError, match=r"unknown partition '.*': style, iid or dirichlet\(ALPHA\)"):
        Partition.parse(text)


def test_more_devices_than_examples_are_refused(examples: Examples) -> None:
    with pytest.raises(DataError, match="2 examples are too few for 3 devices"):
        Partition.parse("iid").deal(examples.select(np.arange(2)), 3, seed=0)


def test_missing_emoji_say_what_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDCELL_CACHE", str(tmp_path))
    with pytest.raises(DataError, match=rf"not in {tmp_path}/emoji: run `make setup`"):
        data.load_training("emoji", 64)


def write_folder(folder: Path, count: int = 20) -> Path:
    lines = []
    for index in range(count):
        colour = (10 * index, 255 - 10 * index, 90)
        Image.new("RGB", (48, 32), colour).save(folder / f"{index}.png")
        lines.append(json.dumps({"file_name": f"{index}.png", "text": f"colour {index}"}))
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def test_an_imagefolder_is_read_scaled_and_split(tmp_path: Path) -> None:
    folder = write_folder(tmp_path)
    trained, kept = data.load_training(str(folder), 64), data.load_held_out(str(folder), 64)
    assert trained.images.shape == (18, 64, 64, 3) and len(kept) == 2
    assert not set(trained.names) & set(kept.names)
    assert trained.captions[0].startswith("colour ")
    number = int(trained.captions[0].split()[1])
    assert trained.images[0, 30, 30].tolist() == [10 * number, 255 - 10 * number, 90]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "line 1: "),
        ('{"file_name": "0.png"}', "line 1: no key 'text'"),
        ('{"file_name": "gone.png", "text": "a"}', "line 1: .*gone.png"),
        ('{"file_name": "metadata.jsonl", "text": "a"}', "line 1: cannot identify image file"),
        ("", "lists no image"),
    ],
)
def test_a_malformed_imagefolder_is_one_line(tmp_path: Path, line: str, says: str) -> None:
    (tmp_path / "metadata.jsonl").write_text(line + "\n")
    with pytest.raises(DataError, match=says) as caught:
        data.load_imagefolder(tmp_path, 64)
    assert "\n" not in str(caught.value)


def test_a_folder_without_metadata_is_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is not an image data set: .*metadata.jsonl"):
        data.load_training(str(tmp_path), 64)
