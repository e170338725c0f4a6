"""How thoroughly: which points, how many rounds and seeds. What is assumed stands in configs/paper*.yaml."""

from __future__ import annotations

from dataclasses import dataclass

from client.diffusion.retrieval import Split
from experiments.paper.schemes import BEST, BEST_CODEC, FULL, SCHEMES


@dataclass(frozen=True)
class Links:
    """Devices on links of their own, of these rates both ways (Mbit/s), in one run: none waits for another's
    frames. `emulated_s` of a whole UNet's transfers are emulated, on the fastest of them; see
    adapter.emulated_time. A transfer that slows down within them (all did after some 3 s at 50 Mbit/s, and
    in the second round at 100, probably when CUBIC first fills the queue) makes its trial invalid."""

    rates_mbit: tuple[float, ...]
    dilation: float
    emulated_s: float
    rounds: int


@dataclass(frozen=True)
class Preset:
    """Every part's points. Rounds are the part's; `seeds` those of every point.

    `paths` (RTT in ms, loss in %) of figure 5, each with `path_devices` devices. `noise_multipliers` of the
    privacy figure. `per_style` held-out examples of a style for a loss, `queries` names drawn in every style
    for retrieval after each of `retrieval_rounds` (and before training). `repeats`: how often an invalid
    trial is run again at once. The attack on who was trained on asks for the losses of `members` examples
    and as many others, at `draws` noises each.
    """

    name: str
    seeds: tuple[int, ...]
    rounds: int
    schemes: tuple[str, ...]
    links: tuple[Links, ...]
    link_schemes: tuple[str, ...]
    cell_sizes: tuple[tuple[str, tuple[int, ...]], ...]
    paths: tuple[tuple[float, float], ...]
    path_devices: int
    path_rounds: int
    policies: tuple[str, ...]
    learning_rounds: int
    retrieval_rounds: tuple[int, ...]
    noise_multipliers: tuple[float, ...]
    per_style: int
    queries: int
    members: int
    draws: int
    splits: tuple[Split, ...]
    repeats: int


SHARED = "shared"
POLICIES = (SHARED, "equal", "proportional", "minmax")
"""By need (network.sharing=round_robin), and network.cell.allocation's."""

CONGESTION_CONTROLS = ("cubic", "bbr")

QUICK = Preset(
    name="quick",
    seeds=(1,),
    rounds=2,
    schemes=tuple(SCHEMES),
    links=(Links((0.5, 2.0), 0.2, 10, 1), Links((10.0, 30.0, 100.0), 1.0, 2, 1)),
    link_schemes=(FULL, "lora-4", BEST_CODEC),
    cell_sizes=(("lora-4", (2, 8, 32)),),
    paths=((20.0, 1.0), (60.0, 1.0), (100.0, 1.0), (60.0, 0.0), (60.0, 2.0)),
    path_devices=2,
    path_rounds=1,
    policies=POLICIES,
    learning_rounds=3,
    retrieval_rounds=(1, 3),
    noise_multipliers=(0.03, 0.1),
    per_style=16,
    queries=12,
    members=128,
    draws=2,
    splits=("unseen",),
    repeats=1,
)

FULL_SUITE = Preset(
    name="full",
    seeds=(1, 2, 3),
    rounds=2,
    schemes=tuple(SCHEMES),
    links=(Links((0.5, 1.0, 2.0, 5.0), 0.2, 10, 2), Links((10.0, 30.0, 100.0), 1.0, 2, 1)),
    link_schemes=(FULL, "lora-4", BEST, BEST_CODEC),
    cell_sizes=(("lora-4", (2, 4, 8, 16, 32)), (BEST_CODEC, (2, 8))),
    paths=(
        *((rtt, 1.0) for rtt in (10.0, 30.0, 60.0, 100.0)),
        *((60.0, loss) for loss in (0.0, 0.3, 4.0)),
    ),
    path_devices=2,
    path_rounds=1,
    policies=POLICIES,
    learning_rounds=6,
    retrieval_rounds=(1, 3, 6),
    noise_multipliers=(0.003, 0.03, 0.1, 0.3),
    per_style=32,
    queries=16,
    members=256,
    draws=2,
    splits=("unseen",),
    repeats=2,
)
