"""The emoji drawings: fetched from pinned npm packages and rendered once, at set-up.

Four packages hold the same emoji drawn in four styles, as JSON of SVG bodies. Every name that all four
know is rendered at 64x64 on white; one file a style. Names only Noto knows become a fifth file, which
serves pre-training alone.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIZE = 64
"""Width and height of a rendered emoji, pixels."""

STYLES = {
    "noto": "@iconify-json/noto@1.2.9",
    "twemoji": "@iconify-json/twemoji@1.2.5",
    "openmoji": "@iconify-json/openmoji@1.2.29",
    "fluent": "@iconify-json/fluent-emoji-flat@1.2.6",
}
"""Style -> the npm package that draws it."""

EXTRA = "noto-extra"
"""The file of the names that only Noto draws."""

_GROUPS_PACKAGE = "unicode-emoji-json@0.9.0"
_STAMP = "dataset.json"
_PACKAGES = [*STYLES.values(), _GROUPS_PACKAGE]
_RECIPE = {"format": 1, "size": SIZE, "packages": _PACKAGES}


class FetchError(ValueError):
    """The emoji packages could not be had; the message says what npm said."""


def is_built(folder: Path) -> bool:
    """Whether `folder` holds the data set of exactly this recipe."""
    try:
        return json.loads((folder / _STAMP).read_text()) == _RECIPE
    except (OSError, ValueError):
        return False


def build(folder: Path, progress: Callable[[str], None]) -> None:
    """Fetch and render every style into `folder`; returns at once when that is done already.

    Every file is written whole or not at all and the stamp comes last, so a killed call leaves
    nothing that looks finished. Raises FetchError when the packages cannot be fetched.
    """
    if is_built(folder):
        return
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix="npm-") as scratch:
        progress(f"fetching {len(_PACKAGES)} npm packages")
        modules = _fetch(Path(scratch), _PACKAGES)
        icons = {style: _read_icons(modules, package) for style, package in STYLES.items()}
        groups = _read_groups(modules, icons)
    common = sorted(set.intersection(*(set(bodies) for bodies in icons.values())) & groups.keys())
    for style, bodies in icons.items():
        progress(f"rendering {len(common)} {style} emoji")
        _write(folder / f"{style}.npz", style, common, bodies, groups)
    # Skin tones would outnumber everything else and teach little.
    extra = sorted(n for n in icons["noto"] if n not in common and n in groups and "-skin-tone" not in n)
    progress(f"rendering {len(extra)} more noto emoji")
    _write(folder / f"{EXTRA}.npz", "noto", extra, icons["noto"], groups)
    _replace(folder / _STAMP, json.dumps(_RECIPE).encode())


def caption(name: str, style: str) -> str:
    """`grinning-face`, `openmoji` -> `grinning face, openmoji style`."""
    return f"{name.replace('-', ' ')}, {style} style"


def _fetch(scratch: Path, packages: Iterable[str]) -> Path:
    # --prefix with a package.json of its own keeps npm from walking up into somebody's project.
    (scratch / "package.json").write_text("{}")
    command = ["npm", "install", "--prefix", str(scratch), "--ignore-scripts", "--no-audit", "--no-fund"]
    try:
        subprocess.run(
            [*command, "--save-exact", *packages], check=True, capture_output=True, text=True, timeout=300
        )
    except FileNotFoundError as error:
        raise FetchError(
            "npm is not installed: it fetches the emoji drawings (apt-get install npm)"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise FetchError("npm did not fetch the emoji drawings within 300 s") from error
    except subprocess.CalledProcessError as error:
        said = [line for line in error.stderr.splitlines() if "error" in line.lower()]
        raise FetchError(f"npm could not fetch the emoji drawings: {' '.join(said)[:300]}") from error
    return scratch / "node_modules"


def _read_icons(modules: Path, package: str) -> dict[str, str]:
    """Name -> SVG text of one iconify package."""
    data = json.loads((modules / package.rpartition("@")[0] / "icons.json").read_text())
    svgs = {}
    for name, icon in data["icons"].items():
        left, top = icon.get("left", data.get("left", 0)), icon.get("top", data.get("top", 0))
        width, height = icon.get("width", data["width"]), icon.get("height", data["height"])
        svgs[name] = (
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="{left} {top} {width} {height}">{icon["body"]}</svg>'
        )
    return svgs


def _read_groups(modules: Path, icons: dict[str, dict[str, str]]) -> dict[str, str]:
    """Icon name -> Unicode group, matched by code points and, failing that, by name."""
    package = modules / _GROUPS_PACKAGE.rpartition("@")[0]
    emoji = json.loads((package / "data-by-emoji.json").read_text())
    groups = {entry["slug"].replace("_", "-"): entry["group"] for entry in emoji.values()}
    by_code = {_code(f"{ord(char):x}" for char in text): entry["group"] for text, entry in emoji.items()}
    for style in icons:
        chars = json.loads((modules / STYLES[style].rpartition("@")[0] / "chars.json").read_text())
        for code, name in chars.items():
            if group := by_code.get(_code(code.split("-"))):
                groups.setdefault(name, group)
    return groups


def _code(points: Iterable[str]) -> str:
    # The variation selector fe0f is written by some packages and left out by others.
    return "-".join(point for point in points if point != "fe0f")


def _render(svg: str) -> NDArray[np.uint8]:
    """SVG text -> uint8 [SIZE, SIZE, 3], on white."""
    from resvg_py import svg_to_bytes  # only set-up needs it

    png = bytes(svg_to_bytes(svg_string=svg, width=SIZE, height=SIZE, skip_system_fonts=True))
    drawing = Image.open(BytesIO(png)).convert("RGBA")
    canvas = Image.new("RGBA", (SIZE, SIZE), "white")
    # A drawing that is not square keeps its proportions and is centred.
    canvas.alpha_composite(drawing, ((SIZE - drawing.width) // 2, (SIZE - drawing.height) // 2))
    return np.asarray(canvas.convert("RGB"))


def _write(path: Path, style: str, names: list[str], svgs: dict[str, str], groups: dict[str, str]) -> None:
    buffer = BytesIO()
    np.savez_compressed(
        buffer,
        images=np.stack([_render(svgs[name]) for name in names]),
        names=np.array(names),
        captions=np.array([caption(name, style) for name in names]),
        groups=np.array([groups[name] for name in names]),
    )
    _replace(path, buffer.getvalue())


def _replace(path: Path, content: bytes) -> None:
    with tempfile.NamedTemporaryFile(
        dir=path.parent, prefix=path.name, suffix=".partial", delete=False
    ) as file:
        file.write(content)
    partial = Path(file.name)
    partial.chmod(0o644)  # set-up may run as root, experiments as anybody
    partial.replace(path)


_GENDER = re.compile(r"\b(wo)?m[ae]n\b|\bpeople\b")


def family(name: str) -> str:
    """The name its skin-tone and gender variants share: `man-surfing-dark-skin-tone` -> `person-surfing`.

    Held-out names are drawn by family, so that no variant of one is ever trained on.
    """
    base = re.sub(r"(-(light|medium-light|medium|medium-dark|dark)-skin-tone)+", "", name)
    return _GENDER.sub("person", base)
