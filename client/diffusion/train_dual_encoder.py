"""Train the dual encoder: `python -m client.diffusion.train_dual_encoder`, minutes on one core.

Of each training drawing the batch holds the original, the same as the base's decoder redraws it from noisy
latents (what generated drawings look like), and the caption. Each of the three is to find the other two among
all others in the batch, which are other things and the same things in the other styles. An interrupted call
goes on where it was.
"""

from __future__ import annotations

import argparse
import math
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from client.diffusion import data, emoji
from client.diffusion.base import load_base, to_model, tokenize
from client.diffusion.dual_encoder import FOLDER, IMAGE_SIZE, WEIGHTS, DualEncoder, Judge, load_tokenizer
from client.diffusion.dual_encoder_card import Measured, dual_encoder_card
from client.diffusion.retrieval import SPLITS, STYLES, Gallery, Split, redraw

FAMILIES = 32
"""In a batch, each with one name, in every style."""
_NOISE = 0.3
"""Of redrawn latents, in units of their spread."""
_PEAK_RATE, _AVERAGE = 2e-3, 0.98
_SAVE_S, _REPORT_S = 20.0, 10.0
_LARGEST_SCALE = 100.0
"""As in CLIP, so that training stays stable."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    cli = argparse.ArgumentParser(prog="python -m client.diffusion.train_dual_encoder", description=__doc__)
    cli.add_argument("--steps", type=int, default=1200, help="of training (default: %(default)s)")
    cli.add_argument("--seed", type=int, default=0)
    cli.add_argument("--output", type=Path, default=FOLDER, help="where it goes (default: %(default)s)")
    cli.add_argument(
        "--work",
        type=Path,
        default=data.emoji_folder().with_name("dual-encoder"),
        help="states to resume from (default: %(default)s)",
    )
    cli.add_argument("--fresh", action="store_true", help="forget the work folder's states and start anew")
    return cli


def main() -> int:
    """0 when the encoder is trained and written, 1 where there is no data to train on."""
    arguments = parser().parse_args()
    if arguments.fresh:
        shutil.rmtree(arguments.work, ignore_errors=True)
    arguments.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    try:
        drawings = Drawings.load(arguments.work)
    except data.DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    _export(train(drawings, arguments.work / "state.pt", arguments.steps, arguments.seed), arguments)
    return 0


class Drawings:
    """Training drawings by style and name: originals and redrawn ones, uint8 [styles, names, 64, 64, 3]."""

    def __init__(
        self, originals: NDArray[np.uint8], redrawn: NDArray[np.uint8], names: NDArray[np.str_]
    ) -> None:
        self.originals, self.redrawn = torch.from_numpy(originals), torch.from_numpy(redrawn)
        tokenizer = load_tokenizer()
        self.padding = tokenizer.pad_token_id
        captions = [emoji.caption(name, style) for style in STYLES for name in names.tolist()]
        self.tokens = tokenize(tokenizer, captions).reshape(len(STYLES), len(names), -1)
        families: dict[str, list[int]] = {}
        for index, name in enumerate(names.tolist()):
            families.setdefault(emoji.family(name), []).append(index)
        self._families = list(families.values())

    @classmethod
    def load(cls, work: Path) -> Drawings:
        """Redraws once, and keeps that in `work`. Raises DataError."""
        parts = [data.training_emoji(style) for style in STYLES]
        redrawn = [
            _redrawn(part.images, work / f"redrawn-{style}.npy", seed)
            for seed, (style, part) in enumerate(zip(STYLES, parts, strict=True))
        ]
        return cls(np.stack([part.images for part in parts]), np.stack(redrawn), parts[0].names)

    def batch(self, random: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Originals and redrawn ones in -1..1 [4 * FAMILIES, 3, 64, 64], and their captions' tokens."""
        chosen = random.choice(len(self._families), FAMILIES, replace=False)
        which = torch.tensor([random.choice(self._families[family]) for family in chosen])
        original, redrawn, tokens = (
            part[:, which].flatten(0, 1) for part in (self.originals, self.redrawn, self.tokens)
        )
        return _moved(to_model(original), random), _spoilt(_moved(to_model(redrawn), random), random), tokens


def _redrawn(images: NDArray[np.uint8], kept: Path, seed: int) -> NDArray[np.uint8]:
    """One style's drawings as the base's decoder draws them from noisy latents; from the file where kept."""
    if not kept.is_file():
        print(f"redrawing {len(images)} drawings for {kept.name}", flush=True)
        with torch.autocast("cpu", torch.bfloat16):
            drawn = redraw(load_base(), images, _NOISE, seed)
        partial = kept.with_suffix(".partial.npy")
        np.save(partial, drawn)
        partial.replace(kept)
    found: NDArray[np.uint8] = np.load(kept)
    return found


def _moved(drawings: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
    """Each shifted by up to a tenth and scaled by up to an eighth."""
    count = len(drawings)
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = torch.from_numpy(random.uniform(0.88, 1.12, count)).float()
    theta[:, :, 2] = torch.from_numpy(random.uniform(-0.1, 0.1, (count, 2))).float()
    grid = F.affine_grid(theta, list(drawings.shape), align_corners=False)
    return F.grid_sample(drawings, grid, padding_mode="border", align_corners=False)


def _spoilt(drawings: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
    """Half of them blurred, all in somewhat other colours, with some noise."""
    count = len(drawings)
    blurred = F.interpolate(F.avg_pool2d(drawings, 2), (IMAGE_SIZE, IMAGE_SIZE), mode="bilinear")
    half = torch.from_numpy(random.random(count) < 0.5).reshape(-1, 1, 1, 1)
    colours = torch.from_numpy(random.uniform(0.8, 1.2, (count, 3, 1, 1))).float()
    noise = torch.from_numpy(random.standard_normal(drawings.shape, dtype=np.float32))
    # White, the sheet, stays white.
    return 1 - (1 - torch.where(half, blurred, drawings)) * colours + 0.05 * noise


def train(drawings: Drawings, state: Path, steps: int, seed: int) -> DualEncoder:
    """An encoder after so many steps, those of earlier calls included: the moving average of its weights."""
    torch.manual_seed(seed)
    model = DualEncoder().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(_AVERAGE))
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.99), weight_decay=0.05, fused=True)
    parts = {"model": model, "averaged": averaged, "optimizer": optimizer}
    done = _resume(parts, state)
    report = save = time.monotonic()
    for step in range(done, steps):
        for group in optimizer.param_groups:
            group["lr"] = _rate(step, steps)
        # Each step draws anew: an interrupted training gives the same encoder.
        original, redrawn, tokens = drawings.batch(np.random.default_rng([seed, step]))
        # bf16 runs on the processor's matrix units where it has some; elsewhere it is merely as fast.
        with torch.autocast("cpu", torch.bfloat16):
            loss = contrastive_loss(model, original, redrawn, tokens, drawings.padding)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        averaged.update_parameters(model)
        now, last = time.monotonic(), step == steps - 1
        if now >= report + _REPORT_S or last:
            print(f"step {step + 1} of {steps}: loss {loss.item():.4f}", flush=True)
            report = now
        if now >= save + _SAVE_S or last:
            _save({name: part.state_dict() for name, part in parts.items()} | {"steps": step + 1}, state)
            save = now
    trained = averaged.module
    assert isinstance(trained, DualEncoder)
    return trained


def _rate(step: int, steps: int) -> float:
    """Learning rate: warm-up, then cosine decay."""
    return _PEAK_RATE * min(1.0, (step + 1) / 30) * (0.5 + 0.5 * math.cos(math.pi * step / steps))


def _resume(parts: dict[str, Any], state: Path) -> int:
    """Bring `parts` to where the file left them; the steps that this took."""
    if not state.is_file():
        return 0
    stored = torch.load(state)
    for name, part in parts.items():
        part.load_state_dict(stored[name])
    return int(stored["steps"])


def _save(stored: dict[str, Any], state: Path) -> None:
    partial = state.with_suffix(".partial")
    torch.save(stored, partial)
    partial.replace(state)


def contrastive_loss(
    model: DualEncoder, original: torch.Tensor, redrawn: torch.Tensor, tokens: torch.Tensor, padding: int
) -> torch.Tensor:
    """InfoNCE both ways (arXiv 2103.00020) between originals, redrawn ones and captions; the pairs' mean."""
    drawn = model.embed_drawings(torch.cat([original, redrawn]))
    first, second = drawn.chunk(2)
    captions = model.embed_captions(tokens, padding)
    scale = model.log_scale.exp().clamp(max=_LARGEST_SCALE)
    losses = []
    for left, right in ((first, second), (first, captions), (second, captions)):
        with torch.autocast("cpu", enabled=False):
            similar = scale * left @ right.T
        target = torch.arange(len(similar))
        losses += [F.cross_entropy(similar, target), F.cross_entropy(similar.T, target)]
    return torch.stack(losses).mean()


def measure(judge: Judge, split: Split) -> Measured:
    """How real drawings fare that only the base's decoder has redrawn: the most that samples can reach."""
    gallery, base = Gallery(judge, split), load_base()
    ranks, right = [], []
    for style in data.DEVICE_STYLES:
        names = gallery.names.tolist()
        answers = gallery.ask(redraw(base, gallery.images[style]), names, [style] * len(names))
        ranks.append(answers.ranks)
        right.append(answers.right_style)
    found = np.concatenate(ranks)
    return Measured(
        len(gallery), float((found <= 1).mean()), float((found <= 5).mean()), float(np.mean(right))
    )


def _export(model: DualEncoder, arguments: argparse.Namespace) -> None:
    """Replace the output folder by weights in fp16 and a card that says what they can do."""
    target: Path = arguments.output
    halves = {name: weight.half().contiguous() for name, weight in model.state_dict().items()}
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as scratch:
        fresh = Path(scratch) / "fresh"
        fresh.mkdir()
        save_file(halves, fresh / WEIGHTS)
        measured: dict[str, Measured] = {split: measure(Judge(fresh), split) for split in SPLITS}
        for split, one in measured.items():
            print(f"{split}: {one}", flush=True)
        parameters = sum(weight.numel() for weight in halves.values())
        (fresh / "README.md").write_text(
            dual_encoder_card(measured, parameters, arguments.steps, 4 * FAMILIES, arguments.seed)
        )
        for file in fresh.iterdir():
            file.chmod(0o644)  # Trained by one, read by anybody.
        if target.exists():
            target.rename(Path(scratch) / "old")
        fresh.rename(target)


if __name__ == "__main__":
    raise SystemExit(main())
