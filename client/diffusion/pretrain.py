"""Pre-train the default base model: `python -m client.diffusion.pretrain`.

First the autoencoder, then UNet and text encoder, each for a given time by the clock. The work folder
keeps everything needed to go on after an interruption; the checkpoint directory is replaced, whole,
every few minutes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

import torch
from diffusers import AutoencoderKL

from client.diffusion import data, emoji
from client.diffusion.architecture import build_tokenizer, build_vae
from client.diffusion.base import DEFAULT_BASE
from client.diffusion.card import Measured, model_card
from client.diffusion.export import export
from client.diffusion.pretrain_unet import BATCH, Denoiser, train_unet
from client.diffusion.pretrain_vae import measure_psnr, train_vae
from client.diffusion.workers import Team, run_team


def parser() -> argparse.ArgumentParser:
    """The command line."""
    cli = argparse.ArgumentParser(prog="python -m client.diffusion.pretrain", description=__doc__)
    cli.add_argument(
        "--vae-minutes", type=float, default=15, help="for the autoencoder (default: %(default)s)"
    )
    cli.add_argument(
        "--minutes", type=float, default=60, help="for UNet and text encoder (default: %(default)s)"
    )
    cli.add_argument("--processes", type=int, default=2, help="of one thread each (default: %(default)s)")
    cli.add_argument("--seed", type=int, default=0)
    cli.add_argument("--output", type=Path, default=DEFAULT_BASE, help="checkpoint (default: %(default)s)")
    cli.add_argument(
        "--work",
        type=Path,
        default=data.emoji_folder().with_name("pretrain"),
        help="states to resume from (default: %(default)s)",
    )
    cli.add_argument("--fresh", action="store_true", help="forget the work folder's states and start anew")
    cli.add_argument(
        "--snapshot-minutes", type=float, default=15, help="between exports (default: %(default)s)"
    )
    return cli


def main() -> int:
    """0 when the model is trained and exported, 1 where there is no data to train on."""
    arguments = parser().parse_args()
    try:
        data.load_emoji(data.BASE_STYLE)
    except data.DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if arguments.fresh:
        shutil.rmtree(arguments.work, ignore_errors=True)
    arguments.work.mkdir(parents=True, exist_ok=True)
    # One machine: the exchange of gradients needs no other network interface.
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    if not (arguments.work / "vae.pt").is_file():
        run_team(arguments.processes, train_vae, arguments.work, arguments.vae_minutes, arguments.seed)
    run_team(arguments.processes, _train_denoiser, arguments)
    return 0


def _train_denoiser(team: Team, arguments: argparse.Namespace) -> None:
    vae = build_vae()
    vae.register_to_config(scaling_factor=1.0)  # the first stage left every channel at unit spread
    vae.load_state_dict(torch.load(arguments.work / "vae.pt"))
    vae.eval().requires_grad_(False)
    captions = [text for style in emoji.STYLES for text in data.load_emoji(style).captions.tolist()]
    tokenizer = build_tokenizer(captions)
    psnr = _psnr_by_style(vae) if team.leads else {}

    def snapshot(denoiser: Denoiser, minutes: float, steps: int, loss: float) -> None:
        batch = BATCH * team.world
        measured = Measured(psnr, loss, arguments.vae_minutes, minutes, steps, batch, team.world)
        parts = {"vae": vae, "text": denoiser.text_encoder, "unet": denoiser.unet}
        counts = {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}
        export(
            arguments.output,
            vae=vae,
            text_encoder=denoiser.text_encoder,
            tokenizer=tokenizer,
            unet=denoiser.unet,
            scheduler=denoiser.scheduler,
            card=model_card(measured, command=_command(arguments), parameters=counts),
        )
        print(f"exported {arguments.output}", flush=True)

    train_unet(
        team,
        arguments.work,
        arguments.minutes,
        arguments.seed,
        vae,
        tokenizer,
        snapshot,
        arguments.snapshot_minutes,
    )


def _command(arguments: argparse.Namespace) -> str:
    """The command line that makes this model again."""
    return (
        f"python -m client.diffusion.pretrain --vae-minutes {arguments.vae_minutes:g} "
        f"--minutes {arguments.minutes:g} --processes {arguments.processes} --seed {arguments.seed}"
    )


def _psnr_by_style(vae: AutoencoderKL) -> dict[str, float]:
    psnr = {
        style: measure_psnr(vae, torch.from_numpy(data.held_out_emoji(style).images))
        for style in emoji.STYLES
    }
    print("vae PSNR " + ", ".join(f"{style} {value:.2f} dB" for style, value in psnr.items()), flush=True)
    return psnr


if __name__ == "__main__":
    raise SystemExit(main())
