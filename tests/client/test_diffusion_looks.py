"""The looks that give a style word its meaning: what each does to a drawing, by hand-made drawings."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from client.diffusion.looks import LOOKS, redraw

SIZE = 64
RED, WHITE, BLACK = (220, 30, 30), (255, 255, 255), (0, 0, 0)


def disc() -> np.ndarray:
    """A red disc of radius 20 in the middle of a white sheet."""
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    inside = np.hypot(x, y) < 20
    return np.where(inside[..., None], RED, WHITE).astype(np.uint8)


def drawn(word: str) -> np.ndarray:
    return redraw(disc()[None], word)[0]


@pytest.mark.parametrize("word", LOOKS)
def test_a_look_keeps_the_size_and_changes_the_drawing(word: str) -> None:
    assert drawn(word).shape == (SIZE, SIZE, 3) and drawn(word).dtype == np.uint8
    assert (drawn(word) != disc()).any()


def test_an_outline_is_black_where_two_colours_meet_and_nowhere_else() -> None:
    image = drawn("outline")
    assert tuple(image[32, 32]) == pytest.approx(RED, abs=12) and tuple(image[2, 2]) == pytest.approx(WHITE)
    edge = (image == BLACK).all(-1)
    assert 2 <= edge[32, :32].sum() <= 3 and not edge[:8].any()


def test_grey_has_no_colour() -> None:
    image = drawn("grey").astype(int)
    assert (image.max(-1) == image.min(-1)).all()
    assert image[32, 32, 0] == Image.new("RGB", (1, 1), RED).convert("L").getpixel((0, 0))


def test_small_is_the_same_drawing_in_the_middle_of_a_white_sheet() -> None:
    dark = np.argwhere(drawn("small").astype(int).sum(-1) < 600)
    height, width = np.ptp(dark, axis=0) + 1
    assert height == pytest.approx(0.7 * 40, abs=2) and width == pytest.approx(0.7 * 40, abs=2)
    assert dark.mean(0) == pytest.approx([31.5, 31.5], abs=1)
