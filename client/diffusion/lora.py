"""LoRA fine-tuning of the base's UNet on one device's examples.

diffusers' and peft's own classes do the work, and the training step is that of diffusers'
text-to-image LoRA example.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from diffusers.training_utils import compute_snr
from peft import LoraConfig, get_peft_model_state_dict

from client.diffusion.base import Base, give_memory_back, limit_threads, load_base, to_model
from client.diffusion.data import Examples, load_training
from client.diffusion.partition import Indices, Partition
from client.training import LocalResult
from proto.adapter import AdapterLayout, Vector

TARGET_MODULES = ("to_q", "to_k", "to_v", "to_out.0")
"""The attention projections: what diffusers' example adapts."""

_PREFIX = "unet."
"""Before every tensor's name: what StableDiffusionPipeline.load_lora_weights expects."""


class AdaptedUNet:
    """The base's UNet with a LoRA adapter on it, read and written as one vector.

    The base's weights are shared, not copied, and frozen. Raises ValueError when a target module does
    not occur in the UNet.
    """

    def __init__(self, base: Base, rank: int, target_modules: list[str], seed: int = 0) -> None:
        self.unet: UNet2DConditionModel = base.bare_unet()
        config = LoraConfig(
            r=rank, lora_alpha=rank, init_lora_weights="gaussian", target_modules=list(target_modules)
        )
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.manual_seed(seed)
            self.unet.add_adapter(config)
        # Views of the parameters themselves, under the names that peft and diffusers save.
        saved = get_peft_model_state_dict(self.unet)
        self._tensors = {_PREFIX + name: tensor for name, tensor in saved.items()}
        self.layout = AdapterLayout.of({name: tuple(t.shape) for name, t in self._tensors.items()})

    @property
    def parameters(self) -> list[torch.nn.Parameter]:
        """What training changes: the adapter's parameters."""
        return [parameter for parameter in self.unet.parameters() if parameter.requires_grad]

    def read(self) -> Vector:
        """The adapter, shape (layout.size,)."""
        return self.layout.pack({name: t.detach().numpy() for name, t in self._tensors.items()})

    def write(self, vector: Vector, layout: AdapterLayout | None = None) -> None:
        """Put `vector`, shape (layout.size,), in force. Raises LayoutError.

        peft's own loading passes over missing and unexpected tensors without a word; here any
        difference between `layout` (the adapter's own, unless given) and this UNet's is an error.
        """
        own = self.layout
        if layout is not None and layout != own:
            vector = own.pack(layout.unpack(vector))
        with torch.no_grad():
            for name, value in own.unpack(vector).items():
                self._tensors[name].copy_(torch.from_numpy(value))


def initial_adapter(
    base: Base, rank: int, target_modules: list[str], seed: int
) -> tuple[AdapterLayout, Vector]:
    """The adapter everybody starts from: A ~ N(0, 1/rank^2) drawn from `seed`, B = 0."""
    adapted = AdaptedUNet(base, rank, target_modules, seed)
    return adapted.layout, adapted.read()


@dataclass(frozen=True)
class Batch:
    """What one training step sees: latents and noise [N, C, h, w], text [N, tokens, width], timesteps [N]."""

    latents: torch.Tensor
    noise: torch.Tensor
    text: torch.Tensor
    timesteps: torch.Tensor


def denoising_loss(
    unet: UNet2DConditionModel, base: Base, batch: Batch, min_snr_gamma: float | None = None
) -> torch.Tensor:
    """Mean squared error of the predicted noise or velocity (the scheduler says which) of each example, [N].

    With `min_snr_gamma` the errors are weighted as in arXiv 2303.09556. Raises ValueError for a
    prediction type that is neither.
    """
    scheduler = base.scheduler
    noisy = scheduler.add_noise(batch.latents, batch.noise, batch.timesteps)
    kind = scheduler.config.prediction_type
    if kind == "epsilon":
        target = batch.noise
    elif kind == "v_prediction":
        target = scheduler.get_velocity(batch.latents, batch.noise, batch.timesteps)
    else:
        raise ValueError(f"{base.path}: prediction type '{kind}' cannot be trained")
    drawn = unet(noisy, batch.timesteps, encoder_hidden_states=batch.text).sample
    errors = F.mse_loss(drawn.float(), target.float(), reduction="none").mean(dim=(1, 2, 3))
    if min_snr_gamma is None:
        return errors
    snr = compute_snr(scheduler, batch.timesteps)
    weight = snr.clamp(max=min_snr_gamma) / (snr + 1 if kind == "v_prediction" else snr)
    return errors * weight


@dataclass(frozen=True)
class Common:
    """What is the same for every trainer of a task until it trains: the examples, who owns which, a UNet."""

    everything: Examples
    shares: list[Indices]
    adapted: AdaptedUNet

    @classmethod
    def load(
        cls,
        base: str,
        data: str,
        partition: str,
        device_count: int,
        seed: int,
        rank: int,
        target_modules: tuple[str, ...],
    ) -> Common:
        """From what the task names. Raises BaseError and DataError."""
        loaded = load_base(base)
        everything = load_training(data, loaded.image_size)
        shares = Partition.parse(partition).deal(everything, device_count, seed)
        return cls(everything, shares, AdaptedUNet(loaded, rank, list(target_modules)))


_prepared: dict[tuple[object, ...], Common] = {}
"""What `prepare` made, by the arguments of Common.load; a trainer takes it, for it changes the UNet."""


def prepare(
    *,
    base: str,
    data: str,
    partition: str,
    device_count: int,
    seed: int,
    rank: int,
    target_modules: list[str],
    learning_rate: float,
    **_: object,
) -> None:
    """Have the first trainer of a task, given as DiffusionTrainer's arguments, find its work half done.

    For a process that then forks one trainer each: they share the data and the base's pages, and what
    torch sets up on its first step. Raises BaseError and DataError.
    """
    key = (base, data, partition, device_count, seed, rank, tuple(target_modules))
    _prepared[key] = common = Common.load(*key)
    trainer = DiffusionTrainer(
        base=base,
        data=data,
        partition=partition,
        device_index=0,
        device_count=device_count,
        seed=seed,
        rank=rank,
        target_modules=target_modules,
        learning_rate=learning_rate,
        steps=1,
        batch_size=1,
    )
    trainer.train(common.adapted.read(), round_number=0)
    _prepared[key] = common


class DiffusionTrainer:
    """A Trainer that fine-tunes a LoRA adapter on this device's share of a data set.

    `base` is a checkpoint directory or hub name; `data` is `emoji` or an imagefolder's path;
    `partition` is `style`, `iid` or `dirichlet(ALPHA)`. A round is `steps` AdamW steps of `batch_size`
    examples. The same seed, device, round and adapter give bit-identical results: one thread
    computes. Raises BaseError and DataError.
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
        rank: int,
        steps: int,
        batch_size: int,
        learning_rate: float,
        seed: int,
        target_modules: list[str] | tuple[str, ...] = TARGET_MODULES,
        min_snr_gamma: float | None = None,
    ) -> None:
        limit_threads()
        self._base = load_base(base)
        self._steps, self._batch_size, self._learning_rate = steps, batch_size, learning_rate
        self._min_snr_gamma = min_snr_gamma
        self._seed = (seed, device_index)
        key = (base, data, partition, device_count, seed, rank, tuple(target_modules))
        common = _prepared.pop(key, None) or Common.load(*key)
        self._own = common.everything.select(common.shares[device_index])
        self.examples = len(self._own)
        self._adapted = common.adapted
        self.layout = self._adapted.layout
        # Text and image encoder are frozen: what they say of an example is worked out when it first
        # comes up, and kept.
        self._texts: dict[int, torch.Tensor] = {}
        self._moments: dict[int, torch.Tensor] = {}

    def train(
        self, adapter: Vector, *, round_number: int, on_step: Callable[[int], None] = lambda step: None
    ) -> LocalResult:
        """As Trainer.train."""
        self._adapted.write(adapter)
        parameters = self._adapted.parameters
        optimizer = torch.optim.AdamW(parameters, lr=self._learning_rate, weight_decay=1e-2)
        random = np.random.default_rng([*self._seed, round_number])
        generator = torch.Generator().manual_seed(int(random.integers(2**63)))
        self._adapted.unet.train()
        losses = []
        for step, which in enumerate(self._schedule(random), 1):
            batch = self._batch(which, generator)
            loss = denoising_loss(self._adapted.unet, self._base, batch, self._min_snr_gamma).mean()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            losses.append(loss.item())
            on_step(step)
        give_memory_back()  # Until the next round a device holds no activations.
        return LocalResult(self._adapted.read(), float(np.mean(losses)), self._steps)

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
