"""Fine-tuning of the base's UNet, by a LoRA adapter or whole, on one device's examples.

The training step is that of diffusers' text-to-image LoRA example.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

from client.archive import Archive
from client.diffusion.base import Base, give_memory_back, limit_threads, load_base, to_model
from client.diffusion.data import Examples, load_training
from client.diffusion.full import FullUNet
from client.diffusion.lora import TARGET_MODULES, AdaptedUNet
from client.diffusion.loss import Batch, denoising_loss
from client.diffusion.partition import Indices, Partition
from client.diffusion.raw import archive, read_collected
from client.diffusion.vector_unet import VectorUNet
from client.training import LocalResult, Rank, device_ranks
from proto.adapter import AdapterLayout, Vector
from proto.lora import Factors, LoraLayout, fresh_adapter

ModelKey = tuple[Rank, tuple[str, ...]]
"""Rank and target modules."""


@dataclass(frozen=True)
class Common:
    """What is the same for every trainer of a task: the examples and who owns which.

    `models` are UNets, one of each rank, that nobody has trained yet.
    """

    everything: Examples
    shares: list[Indices]
    models: dict[ModelKey, VectorUNet] = field(default_factory=dict)

    @classmethod
    def load(cls, base: str, data: str, partition: str, device_count: int, seed: int) -> Common:
        """From what the task names. Raises BaseError and DataError."""
        everything = load_training(data, load_base(base).image_size)
        return cls(everything, Partition.parse(partition).deal(everything, device_count, seed))


_prepared: dict[tuple[object, ...], Common] = {}
"""What `prepare` made, by the arguments of Common.load; a trainer takes it, for it changes its UNet."""


def prepare(
    *,
    base: str,
    data: str,
    partition: str,
    device_count: int,
    seed: int,
    rank: Rank | list[int],
    target_modules: list[str] | tuple[str, ...] = TARGET_MODULES,
    **task: object,
) -> None:
    """Have the first trainer of a task, given as DiffusionTrainer's arguments, find its work half done.

    For a process that then forks one trainer each, of whatever rank: they share the data and the base's
    pages, and what torch sets up on its first step. Raises BaseError and DataError.
    """
    key = (base, data, partition, device_count, seed)
    common = Common.load(*key)
    for own in set(device_ranks(rank, device_count)):
        common.models[own, tuple(target_modules)] = _unet(load_base(base), own, target_modules)
    _prepared[key] = common
    arguments: dict[str, object] = task | {"steps": 1, "batch_size": 1, "rank": rank, "raw": False}
    trainer = DiffusionTrainer(
        base=base,
        data=data,
        partition=partition,
        device_index=0,
        device_count=device_count,
        seed=seed,
        target_modules=target_modules,
        **arguments,  # type: ignore[arg-type]  # checked by the task's receiver
    )
    trainer.train(trainer.model.read(), round_number=0)
    _prepared[key] = common


class DiffusionTrainer:
    """A Trainer that fine-tunes a LoRA adapter, or the whole UNet, on this device's share of a data set.

    `base` is a checkpoint directory or hub name; `data` is `emoji` or an imagefolder's path;
    `partition` is `style`, `iid` or `dirichlet(ALPHA)`; `rank` is LoRA's, one for all or a list with one for
    each device, or `full`. A round is `steps` AdamW steps of `batch_size`
    examples. `proximal_mu` is FedProx's (Li et al., arXiv 1812.06127): mu/2 |w - w_global|^2 is added to
    the objective, and not to the loss that is reported. The same seed, device, round and adapter give
    bit-identical results: one thread computes. Raises BaseError, DataError and UnsupportedError.

    `raw`: its examples are to be sent as they are. With `collected` (see build_trainer) its examples are all
    devices', and its steps as many as theirs together: it sees as many examples a round as a federation does.
    """

    layout: AdapterLayout
    examples: int

    def __init__(
        self,
        *,
        base: str,
        data: str,
        partition: str,
        device_index: int,
        device_count: int,
        rank: Rank | list[int],
        steps: int,
        batch_size: int,
        learning_rate: float,
        seed: int,
        target_modules: list[str] | tuple[str, ...] = TARGET_MODULES,
        min_snr_gamma: float | None = None,
        proximal_mu: float = 0.0,
        raw: bool = False,
        collected: Path | None = None,
    ) -> None:
        limit_threads()
        self._base = load_base(base)
        self._steps, self._batch_size, self._learning_rate = steps, batch_size, learning_rate
        self._min_snr_gamma, self._proximal_mu = min_snr_gamma, proximal_mu
        self._seed = (seed, device_index)
        own = device_ranks(rank, device_count)[min(device_index, device_count - 1)]
        self._collected, self._archive, ready = collected, None, None
        if collected is None:
            key = (base, data, partition, device_count, seed)
            common = _prepared.pop(key, None) or Common.load(*key)
            self._own = common.everything.select(common.shares[device_index])
            self.examples = len(self._own)
            self._archive = archive(self._own, data) if raw else None
            ready = common.models.get((own, tuple(target_modules)))
        else:
            self.examples = 1  # Nobody knows yet, and nobody's weight is compared with it.
        self.model = ready or _unet(self._base, own, target_modules)
        self.layout = self.model.layout
        # Text and image encoder are frozen: what they say of an example is worked out when it first
        # comes up, and kept.
        self._texts: dict[int, torch.Tensor] = {}
        self._moments: dict[int, torch.Tensor] = {}

    def train(
        self,
        adapter: Vector,
        *,
        round_number: int,
        trained: Factors = "AB",
        on_step: Callable[[int], None] = lambda step: None,
    ) -> LocalResult:
        """As Trainer.train."""
        if self._collected is not None:
            self._take(read_collected(self._collected, self._base.image_size))
        self.model.write(adapter)
        chosen = self.model.choose(trained)
        parameters = list(chosen.values())
        came_down = self.layout.unpack(adapter)
        anchors = [torch.from_numpy(came_down[name]) for name in chosen]
        optimizer = torch.optim.AdamW(parameters, lr=self._learning_rate, weight_decay=1e-2)
        random = np.random.default_rng([*self._seed, round_number])
        generator = torch.Generator().manual_seed(int(random.integers(2**63)))
        self.model.unet.train()
        losses = []
        for step, which in enumerate(self._schedule(random), 1):
            batch = self._batch(which, generator)
            loss = denoising_loss(self.model.unet, self._base, batch, self._min_snr_gamma).mean()
            optimizer.zero_grad()
            loss.backward()
            if self._proximal_mu:
                _pull(parameters, anchors, self._proximal_mu)
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            losses.append(loss.item())
            on_step(step)
        give_memory_back()  # Until the next round a device holds no activations.
        return LocalResult(self.model.read(), float(np.mean(losses)), self._steps)

    def initial(self) -> Vector:
        """As Trainer.initial: LoRA's drawn from the task's seed, or the base's own UNet."""
        if LoraLayout(self.layout).rank is not None:
            return fresh_adapter(self.layout, self._seed[:1])
        return self.layout.pack({name: p.detach().numpy() for name, p in self._base.unet.named_parameters()})

    def data(self) -> Archive:
        """As Trainer.data."""
        assert self._archive is not None, "the task does not say raw"
        return self._archive

    def merge(self, layout: AdapterLayout, vector: Vector) -> None:
        """As Trainer.merge."""
        self.model.merge(layout, vector)

    def anticipate(self, round_number: int) -> None:
        """As Trainer.anticipate: nothing of training is the same for every adapter."""

    def _take(self, collected: list[Examples]) -> None:
        """What devices have sent is there when the first round trains, and not before."""
        self._collected = None
        self._own = Examples.join(collected)
        self.examples = len(self._own)
        self._steps *= len(collected)

    def _schedule(self, random: np.random.Generator) -> list[list[int]]:
        """Examples of each step: shuffled passes over all of them, as far as the steps reach."""
        needed = self._steps * self._batch_size
        passes = [random.permutation(self.examples) for _ in range(-(-needed // self.examples))]
        return np.concatenate(passes)[:needed].reshape(self._steps, self._batch_size).tolist()

    def _batch(self, which: list[int], generator: torch.Generator) -> Batch:
        for index in which:
            if index not in self._moments:
                self._encode(index)
        posterior = DiagonalGaussianDistribution(torch.stack([self._moments[index] for index in which]))
        latents = posterior.sample(generator) * self._base.vae.config.scaling_factor
        noise = torch.randn(latents.shape, generator=generator)
        last = self._base.scheduler.config.num_train_timesteps
        timesteps = torch.randint(0, last, (len(which),), generator=generator)
        return Batch(latents, noise, torch.stack([self._texts[index] for index in which]), timesteps)

    @torch.no_grad()
    def _encode(self, index: int) -> None:
        # One at a time: within a batch the last bits would depend on which others are in it.
        image = to_model(torch.from_numpy(self._own.images[index : index + 1]))
        self._moments[index] = self._base.vae.encode(image).latent_dist.parameters[0]
        self._texts[index] = self._base.encode_text([str(self._own.captions[index])])[0]


def _unet(base: Base, rank: Rank, target_modules: list[str] | tuple[str, ...]) -> VectorUNet:
    return FullUNet(base) if rank == "full" else AdaptedUNet(base, rank, list(target_modules))


@torch.no_grad()
def _pull(parameters: list[torch.nn.Parameter], anchors: list[torch.Tensor], mu: float) -> None:
    """Add the gradient of mu/2 |w - anchor|^2 to those of the parameters w."""
    for parameter, anchor in zip(parameters, anchors, strict=True):
        assert parameter.grad is not None
        parameter.grad.add_(parameter - anchor, alpha=mu)
