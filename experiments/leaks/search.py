"""The search of a run's captures, and whether its answer counts.

What is searched: the bytes of every TCP stream in order, everything that is not TCP, and what gRPC's framing
and protobuf's chunks leave when they are taken off; and in that what lies under zlib, gzip, zip, Zstandard,
base64 and image files. What for: see belongings. An answer counts only where the whole link was captured and
what must be on it was found by the same search.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from experiments.leaks.belongings import (
    FORMS,
    PIXELS,
    TEXT,
    TEXT_FORMS,
    Belongings,
)
from experiments.leaks.capture import Crossed, read_capture
from experiments.leaks.hidden import TooLargeError, uncover
from experiments.leaks.needles import Wholes, Windows, expected_by_chance
from experiments.leaks.payloads import unframe
from experiments.ownership import device_names, owned
from experiments.preflight import read_trained_manifest
from experiments.record import write_table
from experiments.timeline import read_events
from proto.federation_pb2 import JoinRequest

_MOST_UNCOVERED = 1 << 30
_PART_BYTES = 1 << 22
_MOST_CHANCE_HITS = 0.01


class LeakError(ValueError):
    """A run that cannot be searched; the message says what to do."""


@dataclass(frozen=True)
class DeviceLeaks:
    """What of one device's own was on its link, in either direction; a row of leaks.csv.

    `leaked_bytes` of `owned_bytes` (pixels and captions): of each image the share of its windows that was
    found. An image is found if any window is. `searched` are those that have something to be told by.
    """

    device: str
    images_owned: int
    images_searched: int
    images_found: int
    captions_owned: int
    captions_searched: int
    captions_found: int
    owned_bytes: int
    leaked_bytes: int
    up_bytes: int
    down_bytes: int
    """What crossed, without headers and what TCP sent again."""
    searched_bytes: int
    """That, and what was under framing and encodings."""
    expected_by_chance: float
    """Hits to expect if what crossed were random bytes of the same frequencies."""
    controls_found: int
    controls: int
    update_bytes: int
    """Of the device's updates, as the server received them."""
    update_bytes_seen: int
    """Of those, in the capture."""
    frames: int
    invalid_reasons: list[str]

    @property
    def valid(self) -> bool:
        """Whether what was not found was not there."""
        return not self.invalid_reasons


@dataclass(frozen=True)
class RunLeaks:
    """Result of `search_run`."""

    run_dir: Path
    devices: list[DeviceLeaks]
    not_captured: list[str]

    @property
    def valid(self) -> bool:
        """Whether every answer counts; nothing is said of devices that were not captured."""
        return all(device.valid for device in self.devices)

    def to_json(self) -> dict[str, Any]:
        """The `leaks` document of the command line."""
        rows = [asdict(device) | {"valid": device.valid} for device in self.devices]
        return {
            "run_dir": str(self.run_dir),
            "valid": self.valid,
            "devices": rows,
            "not_captured": self.not_captured,
            "leaks_csv": str(self.run_dir / "leaks.csv"),
        }

    def table(self) -> pd.DataFrame:
        """leaks.csv."""
        rows = [asdict(device) | {"valid": device.valid} for device in self.devices]
        return pd.DataFrame(rows).assign(
            invalid_reasons=["; ".join(device.invalid_reasons) for device in self.devices]
        )


def search_run(run_dir: Path, progress: Callable[[str], None] = lambda text: None) -> RunLeaks:
    """Search each captured device's link for what it owns; writes leaks.csv.

    Takes memory for one device's capture, twice, and windows of its images (5 times their pixels). Raises
    LeakError, EvaluationError, CaptureError, DataError, BaseError.
    """
    manifest = read_trained_manifest(run_dir)
    config = manifest["config"]
    names = device_names(config)
    captures = manifest.get("captures", {}).get("interfaces", {})
    captured = [name for name in names if f"{name}-eth0" in captures]
    if not captured:
        raise LeakError(
            f"{run_dir} has no capture of a device's link: run it again with "
            "network.capture=[dev0-eth0] network.snaplen=64kB"
        )
    told = _task(run_dir)
    clients = pd.read_csv(run_dir / "clients.csv")
    devices = []
    for name, examples in zip(names, owned(config), strict=True):
        if name not in captured:
            continue
        own = Belongings(examples, config["training"]["data"])
        progress(f"{name}: searching its link for {len(own)} images and captions")
        capture = captures[f"{name}-eth0"]
        crossed = read_capture(run_dir / capture["file"], config["federation"]["port"])
        crossed.problems += _missing(capture, crossed)
        received = clients[clients["client"] == name].dropna(subset="received_up_bytes")
        sizes = {int(row["round"]): int(row["received_up_bytes"]) for row in received.to_dict("records")}
        controls = _Controls(name, manifest["run"], told)
        devices.append(_search(name, own, crossed, controls, sizes))
    result = RunLeaks(run_dir, devices, [name for name in names if name not in captured])
    write_table(result.table(), run_dir / "leaks.csv")
    return result


def _task(run_dir: Path) -> str:
    """What the server told every device to train, word for word. Raises LeakError."""
    for event in read_events(run_dir / "events"):
        if event["event"] == "server_command":
            words = shlex.split(event["command"])
            return words[words.index("--task") + 1]
    raise LeakError(f"{run_dir}/events does not hold the server's command: without it nothing can be checked")


def _missing(capture: dict[str, Any], crossed: Crossed) -> list[str]:
    """Reasons why the file is not all that crossed the interface, by the counts of who wrote it."""
    if "dropped" not in capture:
        return ["the capturing process died: nobody knows what is missing"]
    reasons = []
    if capture["dropped"]:
        reasons.append(f"{capture['dropped']} frames were not captured: this machine was too busy")
    if capture["frames"] != crossed.frames:
        reasons.append(f"the capture has {crossed.frames} frames, and {capture['frames']} were written")
    return reasons


class _Controls:
    """What must be found on a device's link: its name as it joins, the run's name, and what it was told."""

    def __init__(self, device: str, run: str, task: str) -> None:
        session = "0" * 32
        join = JoinRequest(client_id=device, session=session).SerializeToString()
        self.texts = Wholes([join.removesuffix(session.encode()), run.encode()])
        self.windows = Windows([task.encode()])

    def search(self, data: bytes) -> None:
        self.texts.search(data)
        self.windows.search(data)

    def found(self) -> list[bool]:
        return [bool(found) for found in (*self.texts.found(), *self.windows.found())]


def _search(
    name: str, own: Belongings, crossed: Crossed, controls: _Controls, received: dict[int, int]
) -> DeviceLeaks:
    """All of one device; `received`: round -> bytes of its update that the server has."""
    windows = {form: Windows(images) for form in FORMS if (images := own.images(form))}
    captions = [Wholes(texts) for texts in dict.fromkeys(tuple(own.captions(form)) for form in TEXT_FORMS)]
    finders: list[Windows | Wholes] = [*windows.values(), *captions]
    histogram = np.zeros(256, np.int64)
    problems, rounds = list(crossed.problems), dict[int, int]()
    searched = 0
    for data in _in_parts(_all(crossed, rounds, problems)):
        searched += len(data)
        histogram += np.bincount(np.frombuffer(data, np.uint8), minlength=256)
        controls.search(data)
        for finder in finders:
            finder.search(data)
    shares = np.max([_share(needles) for needles in windows.values()], axis=0)
    pixels = np.array([len(image) for image in own.images(PIXELS)])
    lengths = np.array([len(text) for text in own.captions(TEXT)])
    told = np.any([texts.found() > 0 for texts in captions], axis=0)
    chance = sum(expected_by_chance(finder.strings, histogram) for finder in finders)
    seen = sum(min(rounds.get(number, 0), count) for number, count in received.items())
    expected = sum(received.values())
    there = controls.found()
    if seen < expected:
        problems.append(f"of {expected} bytes of updates that the server has, {seen} are in the capture")
    if not all(there):
        problems.append(f"of {len(there)} things that must be on the link, {sum(there)} were found")
    if chance > _MOST_CHANCE_HITS:
        problems.append(f"{chance:.2g} hits are expected by chance: images or captions are too short to tell")
    return DeviceLeaks(
        device=name,
        images_owned=len(own),
        images_searched=int((windows[PIXELS].searchable() > 0).sum()),
        images_found=int((shares > 0).sum()),
        captions_owned=len(own),
        captions_searched=int((captions[0].searchable() > 0).sum()),
        captions_found=int(told.sum()),
        owned_bytes=int(pixels.sum() + lengths.sum()),
        leaked_bytes=round(float((shares * pixels).sum())) + int(lengths[told].sum()),
        up_bytes=crossed.up_bytes,
        down_bytes=crossed.down_bytes,
        searched_bytes=searched,
        expected_by_chance=chance,
        controls_found=sum(there),
        controls=len(there),
        update_bytes=expected,
        update_bytes_seen=seen,
        frames=crossed.frames,
        invalid_reasons=problems,
    )


def _all(crossed: Crossed, rounds: dict[int, int], problems: list[str]) -> Iterator[bytes]:
    """Everything to be searched, what is under encodings too.

    Adds to `rounds` the bytes of each round's update, and to `problems`.
    """
    pieces = [crossed.up, crossed.down]
    for connection in crossed.connections:
        payloads = unframe(connection)
        problems += payloads.problems
        for number, count in payloads.up_rounds.items():
            rounds[number] = max(count, rounds.get(number, 0))
        pieces += [*payloads.up, *payloads.down, *connection.up.others, *connection.down.others]
        framed = [connection.up.data, connection.down.data]
        if payloads.is_http2 and not payloads.problems:
            yield from framed  # What is encoded comes without the framing that cuts it.
        else:
            pieces += framed
    for piece in pieces:
        yield piece
        try:
            yield from uncover(piece, _MOST_UNCOVERED)
        except TooLargeError as error:
            problems.append(str(error))


def _in_parts(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Small pieces together, a zero between them: a search costs more by the call than by the byte."""
    part = bytearray()
    for piece in pieces:
        part += piece + b"\0"
        if len(part) >= _PART_BYTES:
            yield bytes(part)
            part.clear()
    if part:
        yield bytes(part)


def _share(windows: Windows) -> NDArray[np.float64]:
    """Of each item, how much of what its windows cover was found."""
    whole = windows.searchable()
    share: NDArray[np.float64] = windows.found() / np.maximum(whole, 1)
    return share
