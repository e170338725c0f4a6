"""What a device needs of a trainer, whatever it trains."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from proto.adapter import AdapterLayout, Vector
from proto.lora import Factors

Rank = int | Literal["full"]
"""Of a device's LoRA adapter, or the whole UNet in place of one."""


class UnsupportedError(ValueError):
    """This trainer cannot do what the task or the aggregation method asks for; the message names both."""


@dataclass(frozen=True)
class LocalResult:
    """One round of local work.

    `vector` is the local adapter afterwards, shape (layout.size,), the caller's own to change; `loss` the
    mean training loss, NaN where nothing was trained.
    """

    vector: Vector
    loss: float
    steps: int


class Source(Protocol):
    """A payload that gives the same bytes from any offset on, as often as it is asked."""

    @property
    def payload_bytes(self) -> int: ...

    @property
    def cpu_s(self) -> float:
        """Processor time spent on making it, in seconds."""
        ...

    def pieces(self, offset: int = 0) -> Iterator[bytes]: ...


class Trainer(Protocol):
    """Local training of one device."""

    layout: AdapterLayout
    """Of the device's own adapter, whose rank may differ from other devices'."""
    examples: int
    """Training examples the device owns: its FedAvg weight."""

    def train(
        self,
        adapter: Vector,
        *,
        round_number: int,
        trained: Factors = "AB",
        on_step: Callable[[int], None] = lambda step: None,
    ) -> LocalResult:
        """Train the factors `trained` from `adapter`, shape (layout.size,), which is not modified.

        The other factor's values are in the result as they were, bit for bit. The same seed, device,
        round, adapter and factors give the same result. `on_step` is told the number of steps done.
        Raises UnsupportedError for a factor where there is no LoRA.
        """
        ...

    def initial(self) -> Vector:
        """The run's initial adapter, shape (layout.size,), the caller's own: where none comes down."""
        ...

    def data(self) -> Source:
        """The training data as they are, ready to be sent: images, and their captions.

        Only where the task says `raw`: they are made ready before anything is measured.
        """
        ...

    def merge(self, layout: AdapterLayout, vector: Vector) -> None:
        """Add B A of each module to the weights beneath the adapter, for good.

        `vector`, shape (layout.size,), is a LoRA adapter on the trainer's own modules, of any rank, with a
        scaling of 1. Raises LayoutError, UnsupportedError.
        """
        ...

    def anticipate(self, round_number: int) -> None:
        """Do what of a round's work needs no adapter; called while nothing is measured. Changes no result."""
        ...


def device_ranks(rank: Rank | Sequence[int], device_count: int) -> list[Rank]:
    """A task's `rank`, one for all devices or a list with one for each -> every device's.

    Raises UnsupportedError.
    """
    if rank == "full":
        return [rank] * device_count
    ranks = [rank] * device_count if isinstance(rank, int) else list(rank)
    if len(ranks) != device_count or not all(isinstance(one, int) and one >= 1 for one in ranks):
        raise UnsupportedError(
            f"rank {rank}: 1 or more, a list of {device_count}, one a device, or 'full' for the whole UNet"
        )
    return [*ranks]
