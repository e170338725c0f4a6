"""`fedcell leaks`: its arguments, and what it prints; the search is in experiments/leaks/."""

from __future__ import annotations

import sys

import typer
from rich.console import Console
from rich.table import Table

from experiments.cli_common import AsJson, RunDir, print_json


def leaks(run_dir: RunDir, as_json: AsJson = False) -> None:
    """Search what was captured of each device's link for the device's own images and captions.

    The run needs network.capture=[dev0-eth0] network.snaplen=64kB. Exit 1 if an answer does not count:
    frames are missing, or what must be on the link was not found.
    """
    from experiments.leaks import search_run

    result = search_run(run_dir, lambda text: print(text, file=sys.stderr, flush=True))
    if as_json:
        print_json(result.to_json())
        raise typer.Exit(0 if result.valid else 1)
    table = Table("", "images found", "captions found", "bytes found", "crossed up / down", "controls", "")
    for device in result.devices:
        table.add_row(
            device.device,
            f"{device.images_found} of {device.images_owned}",
            f"{device.captions_found} of {device.captions_owned}",
            f"{device.leaked_bytes:,} of {device.owned_bytes:,}",
            f"{device.up_bytes:,} / {device.down_bytes:,}",
            f"{device.controls_found} of {device.controls}",
            "valid" if device.valid else "INVALID",
        )
    Console().print(table)
    for device in result.devices:
        for what, owned, searched in (
            ("images", device.images_owned, device.images_searched),
            ("captions", device.captions_owned, device.captions_searched),
        ):
            if searched < owned:
                print(f"{device.device}: {owned - searched} {what} have nothing to be told by")
        for reason in device.invalid_reasons:
            print(f"INVALID: {device.device}: {reason}")
    if result.not_captured:
        print(f"not captured, so nothing is known: {', '.join(result.not_captured)}")
    print(run_dir / "leaks.csv")
    raise typer.Exit(0 if result.valid else 1)
