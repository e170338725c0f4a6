"""What a run's training came to: held-out loss of every round's adapter, and samples to look at.

The loss is the denoising error on drawings that nobody trained on, at fixed noise and timesteps spread
evenly over the schedule: every round is asked exactly the same questions, so that differences of a
tenth of a percent are real. It is no image quality: for that there is the picture, and style retrieval.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from client.diffusion.base import Base, limit_threads, load_base
from client.diffusion.data import BASE_STYLE, DEVICE_STYLES, Examples, load_emoji, load_held_out
from client.diffusion.emoji import caption
from client.diffusion.full import FullUNet
from client.diffusion.lora import AdaptedUNet
from client.diffusion.loss import Batch, denoising_loss
from client.diffusion.retrieval import (
    SPLITS,
    Answers,
    Gallery,
    Split,
    load_gallery,
    redraw,
    spread,
    to_pixels,
)
from client.diffusion.sampling import draw
from client.diffusion.vector_unet import VectorUNet
from experiments import retrieval
from experiments.figures import style as look
from experiments.preflight import EvaluationError, read_trained_manifest
from experiments.record import json_rows, write_table
from experiments.trained import owners, read_adapters
from proto.adapter import AdapterLayout, LayoutError, Vector

ALL = "all"
"""The row of evaluation.csv that stands for every style together."""

_In = TypeVar("_In")
_Out = TypeVar("_Out")

_PER_STYLE = 96
"""Held-out examples a style at most: paired as they are, they resolve a round's progress."""

_BATCH = 32
_SAMPLING_STEPS = 20
_ROWS = 5
_SUBJECTS = ("grinning-face", "red-heart", "cat-face", "red-apple", "crescent-moon")
"""What is drawn in every style: things the base knows how to draw."""

_QUERIES = 48
"""Names drawn in each style for retrieval; the rest of the gallery is there to be mistaken for them."""
_QUERY_STEPS, _QUERY_BATCH = 10, 24

_COLOURS = dict(
    zip((BASE_STYLE, *DEVICE_STYLES), (look.GREY, look.BLUE, look.ORANGE, look.GREEN), strict=True)
)


@dataclass(frozen=True)
class Evaluation:
    """Result of `evaluate_run`: `losses` has one row a round and style (round, style, loss, examples);
    `retrieval`, where it was asked for, one a source, split of names and style."""

    run_dir: Path
    losses: pd.DataFrame
    figures: list[Path]
    retrieval: pd.DataFrame | None = None

    def to_json(self) -> dict[str, Any]:
        """The `evaluate` document of the command line."""
        document = {
            "run_dir": str(self.run_dir),
            "losses": self.losses.to_dict("records"),
            "evaluation_csv": str(self.run_dir / "evaluation.csv"),
            "figures": [str(path) for path in self.figures],
        }
        if self.retrieval is not None:
            document["retrieval"] = json_rows(self.retrieval)
            document["retrieval_csv"] = str(self.run_dir / "retrieval.csv")
        return document

    def summary(self) -> str:
        """A few lines for people."""
        table = self.losses.pivot(index="style", columns="round", values="loss")
        first, last = table.columns[0], table.columns[-1]
        lines = [f"held-out denoising loss, before and after round {last}:"]
        for name in table.index:
            before, after = table.loc[name, first], table.loc[name, last]
            lines.append(f"  {name:<10} {before:.4f} -> {after:.4f}  ({after / before - 1:+.1%})")
        if self.retrieval is not None:
            lines += ["drawings of every style, found among real ones (95 % intervals):"]
            lines += retrieval.describe(self.retrieval)
        return "\n".join([*lines, *(str(path) for path in self.figures)])


def evaluate_run(
    run_dir: Path, *, progress: Callable[[str], None], with_retrieval: bool = False
) -> Evaluation:
    """Evaluate every adapter in `run_dir`; writes evaluation.csv, figures/loss.* and figures/samples.*, and
    if asked for retrieval.csv.

    Where devices have adapters of their own, evaluation_devices.csv has their losses, evaluation.csv the
    means over devices, and what is drawn is drawn by the first device.

    Raises EvaluationError when `run_dir` is no run, of a trainer that trains nothing, or of data that has no
    retrieval; BaseError and DataError when its base model or its data set is gone.
    """
    manifest = read_trained_manifest(run_dir)
    config = manifest["config"]
    if with_retrieval and config["training"]["data"] != "emoji":
        raise EvaluationError(f"{run_dir} was trained on its own images: retrieval is of training.data=emoji")
    devices = owners(run_dir)
    adapters = read_adapters(run_dir, devices[0])
    # Not torch's own threads: where anything else runs, they wait for each other at every operation.
    limit_threads()
    base = load_base(config["base"])
    models = {number: _unet(base, config["adapter"], number, *adapters[number]) for number in adapters}
    held_out = load_held_out(config["training"]["data"], base.image_size)
    questions = Questions(base, held_out)
    rows = []
    for device in devices:
        asked = models
        if device != devices[0]:
            own = read_adapters(run_dir, device)
            asked = {number: _unet(base, config["adapter"], number, *own[number]) for number in own}
        for number, answers in zip(asked, in_parallel(questions.ask, asked.values()), strict=True):
            rows += [{"round": number, "device": device, **row} for row in answers]
            progress(f"{device} round {number}: held-out loss {rows[-1]['loss']:.4f}".lstrip())
    losses = pd.DataFrame(rows)
    if devices != [""]:
        write_table(losses, run_dir / "evaluation_devices.csv")
        losses = losses.groupby(["round", "style"], sort=False, as_index=False).mean(numeric_only=True)
    losses = losses[["round", "style", "loss", "examples"]].astype({"examples": int})
    write_table(losses, run_dir / "evaluation.csv")
    progress("drawing samples")
    first, last = min(set(models) - {0}), max(models)
    by = f", {devices[0]}" if devices[0] else ""
    stages = {0: "before", first: f"round {first}{by}", last: f"round {last}{by}"}
    prompts = _prompts(config["training"]["data"], held_out)
    drawn = in_parallel(
        lambda number: _draw_samples(base, models[number], prompts, config["seed"]), stages.keys()
    )
    samples = dict(zip(stages.values(), drawn, strict=True))
    (run_dir / "figures").mkdir(exist_ok=True)
    valid = bool(manifest.get("valid"))
    figures = look.save(_loss_figure(losses), run_dir / "figures" / "loss", valid=valid)
    figures += look.save(_sample_figure(prompts, samples), run_dir / "figures" / "samples", valid=valid)
    found = None
    if with_retrieval:
        progress("drawing for retrieval")
        found = style_retrieval(base, {"round 0": models[0], f"round {last}{by}": models[last]})
        write_table(found, run_dir / "retrieval.csv")
    return Evaluation(run_dir, losses, figures, found)


class Scorer:
    """Asks adapters of many runs the same questions, with one base in memory; `per_style` examples of each.

    Raises BaseError, and DataError where the emoji are not set up.
    """

    def __init__(self, base: str, per_style: int) -> None:
        limit_threads()
        self._base = load_base(base)
        self._questions = Questions(self._base, load_held_out("emoji", self._base.image_size), per_style)

    def losses(self, run_dir: Path, first: int = 0) -> dict[int, float]:
        """Round, from `first` on -> held-out loss over every style, the mean of devices that have adapters of
        their own. Raises EvaluationError."""
        losses: dict[int, list[float]] = {}
        for device in owners(run_dir):
            models = self._models(run_dir, first, device)
            answers = in_parallel(self._questions.ask, models.values())
            for number, rows in zip(models, answers, strict=True):
                losses.setdefault(number, []).append(rows[-1]["loss"])
        return {number: float(np.mean(values)) for number, values in losses.items()}

    def retrieval(self, run_dir: Path, split: Split, count: int, part: int, parts: int) -> Answers:
        """Of the last round's adapter, by `count` names: the `part`-th of `parts` disjoint sets of them.

        Where devices have adapters of their own, of the first one's.
        """
        gallery = load_gallery(split)
        names = spread(gallery.names, count * parts)[part::parts].tolist()
        model = list(self._models(run_dir, -1, owners(run_dir)[0]).values())[-1]
        return ask_gallery(self._base, model, gallery, names)

    def ceiling(self, split: Split, count: int) -> Answers:
        """Of the drawings that so many names' queries are to find, by themselves."""
        gallery = load_gallery(split)
        return _ceiling(self._base, gallery, spread(gallery.names, count).tolist())

    def _models(self, run_dir: Path, first: int, owner: str) -> dict[int, VectorUNet]:
        """By round, from `first` on; -1: the last alone."""
        config = read_trained_manifest(run_dir)["config"]
        adapters = read_adapters(run_dir, owner)
        wanted = [max(adapters)] if first < 0 else [number for number in adapters if number >= first]
        return {n: _unet(self._base, config["adapter"], n, *adapters[n]) for n in wanted}


def in_parallel(work: Callable[[_In], _Out], items: Iterable[_In]) -> Iterator[_Out]:
    """work(item) for each, in order, a core each."""
    with ThreadPoolExecutor(len(os.sched_getaffinity(0)), initializer=limit_threads) as pool:
        yield from pool.map(work, items)


def _unet(
    base: Base, adapter: dict[str, Any], number: int, layout: AdapterLayout, vector: Vector
) -> VectorUNet:
    """The base's UNet with the adapter of round `number` on it, or that UNet itself where it was trained."""
    if adapter.get("kind") == "full":
        model: VectorUNet = FullUNet(base)
    else:
        # After FLoRA and FedEx-LoRA an adapter has a higher rank than any device's.
        model = AdaptedUNet.fitting(base, layout, adapter["target_modules"])
    model.unet.eval().requires_grad_(False)
    try:
        model.write(vector, layout)
    except LayoutError as error:
        raise EvaluationError(
            f"the adapter of round {number} does not fit the run's base: {error}"
        ) from error
    return model


class Questions:
    """Fixed noise and timesteps for fixed held-out examples, by style: `per_style` of each at most."""

    def __init__(self, base: Base, held_out: Examples, per_style: int | None = None) -> None:
        self._base = base
        most = per_style or _PER_STYLE
        self._batches: dict[str, Batch] = {}
        for index, name in enumerate(dict.fromkeys(held_out.styles.tolist())):
            mine = np.flatnonzero(held_out.styles == name)
            # Evenly spread over the (sorted) names, so that no group is left out.
            examples = held_out.select(mine[np.linspace(0, len(mine) - 1, min(len(mine), most)).astype(int)])
            self._batches[name] = self._prepare(examples, index)

    def _prepare(self, examples: Examples, seed: int) -> Batch:
        count, generator = len(examples), torch.Generator().manual_seed(seed)
        latents = self._base.encode_images(torch.from_numpy(examples.images), generator)
        noise = torch.randn(latents.shape, generator=generator)
        last = self._base.scheduler.config.num_train_timesteps
        # The middle of each of `count` equal parts of the schedule, dealt to the examples at random.
        timesteps = ((torch.randperm(count, generator=generator) + 0.5) * last / count).long()
        return Batch(latents, noise, self._base.encode_text(examples.captions.tolist()), timesteps)

    @torch.no_grad()
    def ask(self, model: VectorUNet) -> list[dict[str, Any]]:
        """Mean loss by style, and of all examples in the last row."""
        rows, every = [], []
        for name, whole in self._batches.items():
            parts = zip(
                *(
                    torch.split(part, _BATCH)
                    for part in (whole.latents, whole.noise, whole.text, whole.timesteps)
                ),
                strict=True,
            )
            losses = torch.cat([denoising_loss(model.unet, self._base, Batch(*part)) for part in parts])
            rows.append({"style": name, "loss": float(losses.mean()), "examples": len(losses)})
            every.append(losses)
        overall = torch.cat(every)
        rows.append({"style": ALL, "loss": float(overall.mean()), "examples": len(overall)})
        return rows


@dataclass(frozen=True)
class _Prompt:
    """A prompt in its place of the picture, and how an artist drew it (uint8 [height, width, 3])."""

    text: str
    style: str
    row: int
    reference: NDArray[np.uint8]


def _prompts(data: str, held_out: Examples) -> list[_Prompt]:
    """For emoji the same subjects in every style; for other data some held-out captions of each style."""
    prompts = []
    for name in dict.fromkeys(held_out.styles.tolist()):
        if data == "emoji":
            drawings = load_emoji(name)
            for row, subject in enumerate(_SUBJECTS):
                where = int(np.flatnonzero(drawings.names == subject)[0])
                prompts.append(_Prompt(caption(subject, name), name, row, drawings.images[where]))
        else:
            for row, index in enumerate(np.flatnonzero(held_out.styles == name)[:_ROWS]):
                text, image = str(held_out.captions[index]), held_out.images[index]
                prompts.append(_Prompt(text, name, row, image))
    return prompts


def _draw_samples(base: Base, model: VectorUNet, prompts: list[_Prompt], seed: int) -> NDArray[np.float32]:
    """One image a prompt, [N, height, width, 3] in 0..1; a row has the same noise everywhere."""
    seeds = [seed * 1000 + prompt.row for prompt in prompts]
    return draw(base, model.unet, [prompt.text for prompt in prompts], seeds, _SAMPLING_STEPS)


def style_retrieval(base: Base, models: dict[str, VectorUNet]) -> pd.DataFrame:
    """A row for each of `models`, the ceiling and chance, each split of names and each style, and for all."""
    rows = []
    for split in SPLITS:
        gallery = load_gallery(split)
        asked = spread(gallery.names, _QUERIES).tolist()
        for source, model in models.items():
            answers = ask_gallery(base, model, gallery, asked)
            rows += retrieval.rows(source, split, answers, gallery)
        rows += retrieval.rows("ceiling", split, _ceiling(base, gallery, asked), gallery)
        rows.append(retrieval.chance_row(split, gallery))
    return pd.DataFrame(rows)


def ask_gallery(base: Base, model: VectorUNet, gallery: Gallery, names: list[str]) -> Answers:
    """Draw `names` in every device's style and look for each drawing in the gallery."""
    queries = [(name, style, seed) for style in DEVICE_STYLES for seed, name in enumerate(names)]

    def draw_some(some: list[tuple[str, str, int]]) -> NDArray[np.float32]:
        captions = [caption(name, style) for name, style, _ in some]
        return draw(base, model.unet, captions, [seed for *_, seed in some], _QUERY_STEPS)

    batches = [queries[first : first + _QUERY_BATCH] for first in range(0, len(queries), _QUERY_BATCH)]
    images = to_pixels(np.concatenate(list(in_parallel(draw_some, batches))))
    return gallery.ask(images, [name for name, *_ in queries], [style for _, style, _ in queries])


def _ceiling(base: Base, gallery: Gallery, names: list[str]) -> Answers:
    """The real drawings themselves as queries, but for what the base's decoder makes of them."""
    where = np.isin(gallery.names, names)
    images = np.concatenate([redraw(base, gallery.images[style][where]) for style in DEVICE_STYLES])
    found = gallery.names[where].tolist() * len(DEVICE_STYLES)
    return gallery.ask(images, found, [style for style in DEVICE_STYLES for _ in range(int(where.sum()))])


def _loss_figure(losses: pd.DataFrame) -> Figure:
    """Held-out loss over the rounds, a line a style."""
    figure = look.new_figure(5.0, 3.2)
    axes = figure.subplots()
    for name, rows in losses.groupby("style", sort=False):
        colour = "black" if name == ALL else _COLOURS.get(str(name))
        axes.plot(rows["round"], rows["loss"], marker="o", markersize=3, color=colour, label=str(name))
    axes.set_xticks(sorted(losses["round"].unique()))
    axes.set_xlabel("round (0: before training)")
    axes.set_ylabel("held-out denoising loss")
    figure.legend(loc="outside right upper", frameon=False)
    return figure


def _sample_figure(prompts: list[_Prompt], samples: dict[str, NDArray[np.float32]]) -> Figure:
    """A block of columns a style, in it the stages and the artist's drawing; a row a subject."""
    styles = list(dict.fromkeys(prompt.style for prompt in prompts))
    rows, stages = 1 + max(prompt.row for prompt in prompts), [*samples, "original"]
    figure = look.new_figure(0.7 * len(stages) * len(styles), 0.6 + 0.85 * rows)
    for block, name in zip(figure.subfigures(1, len(styles), squeeze=False)[0], styles, strict=True):
        title = f"{name} (the base's style)" if name == BASE_STYLE else name
        block.suptitle(title, fontsize=10, fontweight="bold")
        grid = block.subplots(rows, len(stages), squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        for index, prompt in enumerate(prompts):
            if prompt.style != name:
                continue
            shown = [*(images[index] for images in samples.values()), prompt.reference]
            for axes, stage, image in zip(grid[prompt.row], stages, shown, strict=True):
                axes.imshow(image)
                if prompt.row == 0:
                    axes.set_title(stage, fontsize=6)
            first = grid[prompt.row, 0]
            label = first.text(0, -0.05, f'"{prompt.text}"', fontsize=6, va="top", transform=first.transAxes)
            label.set_in_layout(False)  # it may reach under its neighbours
    return figure
