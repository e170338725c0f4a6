"""The charting library of reports: fetched from pinned npm packages at set-up, written into every report.

Observable Plot on D3: half a megabyte in all, SVG that takes its colours from CSS (so light, dark and print
are the same drawing) and is laid out anew for a phone's width. `python -m experiments.report.libraries`
fetches it once; everything else only reads.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from client.diffusion.data import emoji_folder


class LibraryError(ValueError):
    """A library is missing, or not the one that was pinned; the message says what to do."""


@dataclass(frozen=True)
class Library:
    """One script of an npm package below its licence, which goes where it goes; as it must be to the bit."""

    package: str
    version: str
    script: str
    sha256: str

    @property
    def file(self) -> str:
        return f"{self.package.rpartition('/')[2]}-{self.version}.js"

    @property
    def tarball(self) -> str:
        """What `npm pack` calls it: `@observablehq/plot` -> `observablehq-plot-0.6.17.tgz`."""
        return f"{self.package.removeprefix('@').replace('/', '-')}-{self.version}.tgz"


_D3_SHA256 = "97c8a3b5f4e4c638a55dd71ea4a18d6e7e5436e11f60d6643e47920c62646e70"
_PLOT_SHA256 = "e803fe15fc5aa42b306678915babe8a91ed9903cde980c2cb991f8ee5824aad3"

LIBRARIES = (
    Library("d3", "7.9.2", "dist/d3.min.js", _D3_SHA256),
    Library("@observablehq/plot", "0.6.17", "dist/plot.umd.min.js", _PLOT_SHA256),
)
"""In the order they must run. Both under the ISC licence."""


def folder() -> Path:
    """Where they live: beside the emoji."""
    return emoji_folder().parent / "web"


def read_all() -> list[str]:
    """The scripts. Raises LibraryError where `make setup` has not fetched them."""
    scripts = []
    for library in LIBRARIES:
        path = folder() / library.file
        if not _is_right(path, library):
            raise LibraryError(f"the charting library is not in {folder()}: run `make setup`")
        scripts.append(path.read_text())
    return scripts


def fetch() -> None:
    """Fetch what is missing; every file is written whole or not at all. Raises LibraryError."""
    missing = [library for library in LIBRARIES if not _is_right(folder() / library.file, library)]
    if not missing:
        return
    folder().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder(), prefix="npm-") as scratch:
        _pack(Path(scratch), [f"{library.package}@{library.version}" for library in missing])
        for library in missing:
            content = _with_licence(Path(scratch) / library.tarball, library.script)
            if hashlib.sha256(content).hexdigest() != library.sha256:
                raise LibraryError(f"{library.package}@{library.version} is not the package that was pinned")
            partial = Path(scratch) / library.file
            partial.write_bytes(content)
            partial.replace(folder() / library.file)


def _is_right(path: Path, library: Library) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == library.sha256


def _with_licence(tarball: Path, script: str) -> bytes:
    def read(archive: tarfile.TarFile, name: str) -> bytes:
        member = archive.extractfile(f"package/{name}")
        assert member is not None  # a file by its name, or extractfile raises KeyError
        return member.read()

    with tarfile.open(tarball) as archive:
        return b"/*\n" + read(archive, "LICENSE") + b"*/\n" + read(archive, script)


def _pack(scratch: Path, packages: list[str]) -> None:
    # Tarballs alone: what they depend on is bundled in the file we take, and no script of theirs runs.
    command = ["npm", "pack", "--silent", "--ignore-scripts", "--pack-destination", str(scratch), *packages]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=300, cwd=scratch)
    except FileNotFoundError as error:
        raise LibraryError("npm is not installed: it fetches the charting library") from error
    except subprocess.TimeoutExpired as error:
        raise LibraryError("npm did not fetch the charting library within 300 s") from error
    except subprocess.CalledProcessError as error:
        said = " ".join(error.stderr.split())[:300]
        raise LibraryError(f"npm could not fetch the charting library: {said}") from error


def main() -> int:
    """Command line: fetch the charting library, unless that is done."""
    argparse.ArgumentParser(
        prog="python -m experiments.report.libraries", description=main.__doc__
    ).parse_args()
    try:
        fetch()
    except LibraryError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"the charting library is in {folder()}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
