"""The base model loads anywhere, is shared, and nothing else passes for one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline

from client.diffusion import data, emoji
from client.diffusion.architecture import build_scheduler, build_tokenizer, build_vae
from client.diffusion.base import DEFAULT_BASE, BaseError, load_base, to_model, tokenize
from client.diffusion.export import export
from client.diffusion.pretrain_unet import Denoiser
from client.diffusion.pretrain_vae import _finish, measure_psnr


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def test_the_bundled_checkpoint_is_an_ordinary_pipeline() -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(DEFAULT_BASE)
    pipeline.set_progress_bar_config(disable=True)
    drawn = pipeline(
        "red apple, noto style", num_inference_steps=4, output_type="np", generator=torch.manual_seed(0)
    ).images
    assert drawn.shape == (1, 64, 64, 3)
    assert drawn.std() > 0.01


def test_the_bundled_checkpoint_is_small_and_carries_its_card() -> None:
    assert sum(path.stat().st_size for path in DEFAULT_BASE.rglob("*.safetensors")) < 24e6
    card = (DEFAULT_BASE / "README.md").read_text()
    for licence in ("Apache-2.0", "CC-BY-4.0", "CC-BY-SA-4.0", "MIT"):
        assert licence in card


def test_the_base_knows_what_it_was_trained_on() -> None:
    """Noto's drawings are closer to what it expects when it is told what they show."""
    base = load_base()
    drawings = data.training_emoji("noto").select(torch.arange(0, 1400, 30).numpy())
    latents = base.encode_images(torch.from_numpy(drawings.images), torch.Generator().manual_seed(0))
    ids = tokenize(base.tokenizer, drawings.captions.tolist())
    count = len(drawings)
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(1))
    steps = torch.linspace(500, 900, count).long()
    denoiser = Denoiser(base.unet, base.text_encoder, base.scheduler)
    with torch.no_grad():
        told = denoiser.loss(latents, ids, noise, steps)
        misled = denoiser.loss(latents, ids.roll(1, 0), noise, steps)
    assert told < 0.9 * misled


def test_a_base_is_loaded_once_and_its_weights_are_shared_with_an_adapted_unet() -> None:
    base = load_base(DEFAULT_BASE)
    assert load_base(str(DEFAULT_BASE)) is base
    bare = base.bare_unet()
    assert bare is not base.unet and bare.conv_in is not base.unet.conv_in
    for own, shared in zip(base.unet.parameters(), bare.parameters(), strict=True):
        assert own is shared and own.dtype == torch.float32 and not own.requires_grad


def test_what_is_no_checkpoint_is_one_line_that_names_it(tmp_path: Path) -> None:
    cases = {"empty": None, "broken": "{", "other": json.dumps({"_class_name": "StableDiffusionPipeline"})}
    for name, index in cases.items():
        (tmp_path / name).mkdir()
        if index is not None:
            (tmp_path / name / "model_index.json").write_text(index)
        with pytest.raises(BaseError, match=f"{tmp_path}/{name} is not a Stable Diffusion check") as caught:
            load_base(tmp_path / name)
        assert "\n" not in str(caught.value)
    (tmp_path / "file").write_text("no model")
    with pytest.raises(BaseError, match=f"{tmp_path}/file is not"):
        load_base(tmp_path / "file")


def test_every_caption_has_tokens_of_its_own() -> None:
    captions = [text for style in emoji.STYLES for text in data.load_emoji(style).captions.tolist()]
    tokenizer = build_tokenizer(captions)
    ids = tokenize(tokenizer, captions)
    assert ids.shape == (len(captions), 16) and len(tokenizer) == 2048
    assert len(set(map(tuple, ids.tolist()))) == len(captions)
    assert tokenizer.unk_token_id not in tokenize(tokenizer, ["zÿx 火"])[0, 1:4]
    bundled = load_base().tokenizer
    assert torch.equal(tokenize(bundled, captions[::50]), ids[::50])


def test_export_replaces_a_checkpoint_whole_and_keeps_the_card(tmp_path: Path) -> None:
    base, target = load_base(), tmp_path / "model"
    for card in ("first", "second"):
        export(
            target,
            vae=base.vae,
            text_encoder=base.text_encoder,
            tokenizer=base.tokenizer,
            unet=base.unet,
            scheduler=build_scheduler(),
            card=card,
        )
    assert (target / "README.md").read_text() == "second"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    again = load_base(target)
    for own, other in zip(base.unet.parameters(), again.unet.parameters(), strict=True):
        assert torch.equal(own, other)
    assert next(base.unet.parameters()).dtype == torch.float32  # the exported halves were copies


def test_latents_of_unit_spread_draw_the_same_pictures(tmp_path: Path) -> None:
    torch.manual_seed(0)
    vae, images = build_vae(), torch.from_numpy(data.held_out_emoji("noto").images[:48])
    before = measure_psnr(vae, images)
    _finish(vae, images, tmp_path)
    assert measure_psnr(vae, images) == pytest.approx(before, abs=0.01)
    with torch.no_grad():
        latents = vae.encode(to_model(images)).latent_dist.sample()
    assert latents.mean((0, 2, 3)).abs().max() < 0.2
    assert latents.std((0, 2, 3)).sub(1).abs().max() < 0.1
    assert (tmp_path / "vae.pt").is_file() and vae.config.scaling_factor == 1.0
