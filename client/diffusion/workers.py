"""Processes that pre-train one model together: averaged gradients, a schedule on the wall clock, an
exponential moving average, and checkpoints to go on from.

One thread a process beats threads inside one: a core that something else borrows delays a step once,
not at every operation.
"""

from __future__ import annotations

import math
import os
import socket
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.multiprocessing.spawn import spawn


class Team:
    """This process's place among `world` equal ones; `rank` 0 leads."""

    def __init__(self, rank: int, world: int) -> None:
        self.rank, self.world = rank, world

    @property
    def leads(self) -> bool:
        """Whether this process logs and writes."""
        return self.rank == 0

    def average(self, flat: torch.Tensor) -> None:
        """Replace `flat` by its mean over the processes."""
        if self.world > 1:
            dist.all_reduce(flat)
            flat.div_(self.world)

    def copy_from_leader(self, tensors: Iterable[torch.Tensor]) -> None:
        """Overwrite `tensors` by the leader's."""
        if self.world > 1:
            for tensor in tensors:
                dist.broadcast(tensor, 0)


def run_team(world: int, work: Callable[..., None], *arguments: object) -> None:
    """Call work(team, *arguments) in `world` processes and wait for all of them."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    spawn(_member, (world, port, work, arguments), nprocs=world)


def _member(
    rank: int, world: int, port: int, work: Callable[..., None], arguments: tuple[object, ...]
) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    if world > 1:
        dist.init_process_group("gloo", rank=rank, world_size=world)
    work(Team(rank, world), *arguments)
    if world > 1:
        dist.destroy_process_group()


class Training:
    """AdamW on a wall-clock budget: warm-up, cosine decay, gradient clipping, moving average.

    The leader's clock decides for all: its progress, 0..1, travels with every averaged gradient.
    """

    def __init__(
        self,
        team: Team,
        models: list[nn.Module],
        *,
        minutes: float,
        learning_rate: float,
        weight_decay: float,
        average: float,
        state: Path,
    ) -> None:
        self._team, self._models, self._budget, self._state = team, models, minutes * 60, state
        self._peak, self._decay, self.steps, self._before = learning_rate, average, 0, 0.0
        named = [pair for model in models for pair in model.named_parameters()]
        self._parameters: list[torch.Tensor] = [parameter for _, parameter in named]
        self._averaged: list[torch.Tensor] = []
        # Norms, biases and embeddings are not decayed: words that no caption uses must keep their size.
        decayed = [p for name, p in named if p.ndim > 1 and "embedding" not in name]
        rest = [p for name, p in named if not (p.ndim > 1 and "embedding" not in name)]
        self._optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}],
            lr=learning_rate,
            betas=(0.9, 0.99),
            fused=True,
        )
        # All gradients are views of one vector, its last value the leader's progress: one exchange a step.
        self._flat = torch.zeros(sum(p.numel() for p in self._parameters) + 1)
        offset = 0
        for parameter in self._parameters:
            parameter.grad = self._flat[offset : offset + parameter.numel()].view_as(parameter)
            offset += parameter.numel()
        self._resume()
        team.copy_from_leader(parameter.data for parameter in self._parameters)
        self._averaged = self._averaged or [p.detach().clone() for p in self._parameters]
        self._start = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds of training so far, earlier calls included."""
        return self._before + time.monotonic() - self._start

    def step(self, loss: torch.Tensor) -> float:
        """One optimizer step down `loss`; the progress so far, 1 or more when the budget is spent."""
        loss.backward()
        self._flat[-1] = self.elapsed / self._budget * self._team.world if self._team.leads else 0.0
        self._team.average(self._flat)
        progress = float(self._flat[-1])
        gradient = self._flat[:-1]
        gradient.mul_(min(1.0, 1.0 / (float(gradient.norm()) + 1e-6)))
        rate = (
            self._peak
            * min(1.0, (self.steps + 1) / 100)
            * (0.5 + 0.5 * math.cos(math.pi * min(1.0, progress)))
        )
        for group in self._optimizer.param_groups:
            group["lr"] = max(rate, 0.01 * self._peak)
        self._optimizer.step()
        self._flat.zero_()
        self.steps += 1
        share = 1 - min(self._decay, (1 + self.steps) / (10 + self.steps))
        with torch.no_grad():
            torch._foreach_lerp_(self._averaged, self._parameters, share)
        return progress

    def averaged(self, use: Callable[[], None]) -> None:
        """Call `use` while the models hold their moving average."""
        current = [parameter.detach().clone() for parameter in self._parameters]
        with torch.no_grad():
            torch._foreach_copy_(self._parameters, self._averaged)
            use()
            torch._foreach_copy_(self._parameters, current)

    def save(self) -> None:
        """Write everything needed to go on, whole or not at all."""
        partial = self._state.with_suffix(".partial")
        torch.save(
            {
                "models": [model.state_dict() for model in self._models],
                "averaged": self._averaged,
                "optimizer": self._optimizer.state_dict(),
                "steps": self.steps,
                "elapsed": self.elapsed,
            },
            partial,
        )
        partial.replace(self._state)

    def _resume(self) -> None:
        if not self._state.is_file():
            return
        stored = torch.load(self._state)
        for model, values in zip(self._models, stored["models"], strict=True):
            model.load_state_dict(values)
        self._optimizer.load_state_dict(stored["optimizer"])
        self._averaged, self.steps, self._before = stored["averaged"], stored["steps"], stored["elapsed"]
