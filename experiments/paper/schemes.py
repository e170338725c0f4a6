"""What is compared: ways to fine-tune, each by the configuration's keys that it changes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

CONFIGS = Path(__file__).parent.parent / "configs"

FamilyName = Literal["sd15", "bundled"]


@dataclass(frozen=True)
class Family:
    """A model and what devices do with it; `config` the file that says all that is assumed."""

    name: FamilyName
    title: str
    config: Path


FAMILIES = {
    family.name: family
    for family in (
        Family("sd15", "Stable Diffusion v1.5 (payloads)", CONFIGS / "paper.yaml"),
        Family("bundled", "bundled base (really trained)", CONFIGS / "paper_training.yaml"),
    )
}


@dataclass(frozen=True)
class Scheme:
    """`only` is added in one family: what that model needs and the other does not."""

    name: str
    title: str
    overrides: tuple[str, ...]
    only: tuple[tuple[FamilyName, tuple[str, ...]], ...] = ()

    def overrides_for(self, family: FamilyName) -> list[str]:
        return [*self.overrides, *dict(self.only).get(family, ())]


RANK = 16
"""Of whatever is not compared by its rank: the codec's, central and local training."""
CODEC = "eden(2)"
"""At fp32's final loss the quickest round in experiments/results/compression, of fewest bytes but for 2 %."""

_LONG = ("adapter.emulated_time=30s", "federation.round_deadline=300000s")
"""3.44 GB: of the whole UNet each transfer's first seconds are emulated, and the rest extrapolated."""

FULL, CENTRAL, LOCAL = "full", "central", "local"
BEST, BEST_CODEC = f"lora-{RANK}", f"lora-{RANK}-codec"

SCHEMES = {
    scheme.name: scheme
    for scheme in (
        # A whole UNet wants smaller steps than fresh factors do.
        Scheme(
            FULL,
            "full",
            ("adapter.kind=full",),
            (
                ("sd15", _LONG),
                ("bundled", ("training.learning_rate=2e-4",)),
            ),
        ),
        *(Scheme(f"lora-{rank}", f"LoRA r={rank}", (f"adapter.rank={rank}",)) for rank in (4, 8, 16)),
        Scheme(
            BEST_CODEC,
            f"LoRA r={RANK}, {CODEC}",
            (f"adapter.rank={RANK}", f"uplink.codec={CODEC}", "downlink.codec=int8"),
        ),
        Scheme(CENTRAL, "central", ("training.scheme=central", f"adapter.rank={RANK}")),
        Scheme(LOCAL, "local", ("training.scheme=local", f"adapter.rank={RANK}")),
    )
}
