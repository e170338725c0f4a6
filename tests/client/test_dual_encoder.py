"""The dual encoder: what its training sees, that it learns, and what the shipped one can do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from client.diffusion import emoji, train_dual_encoder
from client.diffusion.base import BaseError, load_base
from client.diffusion.data import DEVICE_STYLES, held_out, load_emoji
from client.diffusion.dual_encoder import FOLDER, WEIGHTS, WIDTH, DualEncoder, Judge, load_judge
from client.diffusion.dual_encoder_card import Measured
from client.diffusion.retrieval import SPLITS, STYLES, Gallery, gallery_names, redraw, spread
from client.diffusion.train_dual_encoder import FAMILIES, Drawings, contrastive_loss


@pytest.fixture(scope="module")
def drawings() -> Drawings:
    """Few families, as they are."""
    torch.set_num_threads(1)
    parts = [load_emoji(style) for style in STYLES]
    names = parts[0].names[: 3 * FAMILIES]
    images = np.stack([part.images[: len(names)] for part in parts])
    return Drawings(images, images, names)


def test_a_batch_has_each_thing_in_every_style_beside_its_own_caption(drawings: Drawings) -> None:
    original, redrawn, tokens = drawings.batch(np.random.default_rng(0))
    assert original.shape == redrawn.shape == (4 * FAMILIES, 3, 64, 64) and len(tokens) == 4 * FAMILIES
    assert original.min() >= -1 and original.max() <= 1
    assert len({tuple(row) for row in tokens.tolist()}) == 4 * FAMILIES
    # Moved and spoilt as they are, a drawing and its redrawn self are nearer than two drawings.
    flat, other = original.flatten(1), redrawn.flatten(1)
    assert (flat - other).square().mean() < 0.5 * (flat - other.roll(1, 0)).square().mean()


def test_the_loss_falls_where_the_three_views_of_a_drawing_agree() -> None:
    torch.manual_seed(0)
    model = DualEncoder()
    images, tokens = torch.rand(8, 3, 64, 64) * 2 - 1, torch.arange(3, 27).reshape(8, 3)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(12):
        loss = contrastive_loss(model, images, images, tokens, padding=0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    mixed = contrastive_loss(model, images, images.roll(1, 0), tokens, padding=0)
    assert mixed > 2 * losses[-1]


def test_padding_is_no_word() -> None:
    model = DualEncoder().eval()
    long, short = torch.tensor([[5, 6, 0, 0]]), torch.tensor([[5, 6]])
    assert torch.allclose(model.embed_captions(long, padding=0), model.embed_captions(short, padding=0))
    assert not torch.allclose(model.embed_captions(long, padding=1), model.embed_captions(short, padding=1))


def test_training_writes_an_encoder_with_its_card_and_goes_on_where_it_was(
    drawings: Drawings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(train_dual_encoder.Drawings, "load", lambda work: drawings)
    monkeypatch.setattr(train_dual_encoder, "measure", lambda judge, split: Measured(500, 0.75, 0.9, 0.95))
    monkeypatch.setattr(train_dual_encoder, "_REPORT_S", 0.0)
    monkeypatch.setattr(train_dual_encoder, "FAMILIES", 4)
    output, states = tmp_path / "encoder", []
    monkeypatch.setattr(train_dual_encoder, "_SAVE_S", 0.0)
    for steps, work in (("3", "once"), ("2", "twice"), ("3", "twice")):
        arguments = ["--steps", steps, "--work", str(tmp_path / work), "--output", str(output)]
        monkeypatch.setattr("sys.argv", ["train", *arguments])
        assert train_dual_encoder.main() == 0
        states.append(int(torch.load(tmp_path / work / "state.pt")["steps"]))
    assert states == [3, 2, 3] and "step 3 of 3" in capsys.readouterr().out
    assert Judge(output).captions(["red apple, noto style"]).shape == (1, WIDTH)
    card = (output / "README.md").read_text()
    assert "| unseen | 500 | 75.0% | 90.0% | 95.0% |" in card and "\n3 steps of 16 drawings" in card
    assert "| chance | 500 | 0.2% | 1.0% | 25.0% |" in card


def test_both_splits_have_one_name_of_each_family_and_are_equally_large() -> None:
    unseen, known = (gallery_names(split) for split in SPLITS)
    assert len(unseen) == len(known) > 100 and not set(unseen) & set(known)
    assert all(held_out(name) for name in unseen) and not any(held_out(name) for name in known)
    for names in (unseen, known):
        assert len({emoji.family(name) for name in names}) == len(names)
    some = spread(unseen, 10)
    assert len(set(some)) == 10 and some[0] == unseen[0] and some[-1] == unseen[-1]
    assert spread(unseen, 10**6).tolist() == unseen.tolist()


def test_what_is_no_encoder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / WEIGHTS).write_bytes(b"damaged")
    with pytest.raises(BaseError, match=r"model.safetensors is not the dual encoder") as caught:
        Judge(tmp_path)
    assert "\n" not in str(caught.value)


def test_the_shipped_encoder_is_small_and_finds_drawings_that_the_decoder_blurred() -> None:
    assert (FOLDER / WEIGHTS).stat().st_size < 3e6
    assert "| unseen | 532 | 100.0% |" in (FOLDER / "README.md").read_text()
    gallery, style = Gallery(load_judge(), "unseen"), DEVICE_STYLES[0]
    blurred = redraw(load_base(), gallery.images[style][:30])
    answers = gallery.ask(blurred, gallery.names[:30].tolist(), [style] * 30)
    assert (answers.ranks == 1).mean() > 0.9 and answers.right_style.mean() > 0.9


def test_a_real_drawing_is_found_first_and_embeddings_are_of_unit_length() -> None:
    gallery = Gallery(load_judge(), "known")
    names, style = gallery.names[:5].tolist(), DEVICE_STYLES[1]
    answers = gallery.ask(gallery.images[style][:5], names, [style] * 5)
    assert answers.ranks.tolist() == [1] * 5 and answers.right_style.all()
    assert answers.features.shape == (5, WIDTH)
    np.testing.assert_allclose(np.linalg.norm(answers.features, axis=1), 1, rtol=1e-5)
    mistaken = gallery.ask(gallery.images[style][:5], names[1:] + names[:1], [style] * 5)
    assert (mistaken.ranks > 1).all() and mistaken.right_style.all()
    other = gallery.ask(gallery.images["noto"][:5], names, [style] * 5)
    assert (other.ranks > 1).all() and not other.right_style.any()


def test_larger_drawings_are_scaled() -> None:
    image = load_emoji("twemoji").images[:2]
    twice = image.repeat(2, axis=1).repeat(2, axis=2)
    np.testing.assert_allclose(load_judge().drawings(twice), load_judge().drawings(image), atol=1e-5)
