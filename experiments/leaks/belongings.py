"""What a device owns, in every form in which it might leave it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from client.diffusion.data import Examples

PIXELS, PLANES, FILE = "pixels", "planes", "file"
FORMS = (PIXELS, PLANES, FILE)
"""RGB rows as the trainer has them; the three colours one after the other; the file of an imagefolder."""
TEXT, JSON, ESCAPED = "text", "JSON", "ASCII JSON"
TEXT_FORMS = (TEXT, JSON, ESCAPED)


class Belongings:
    """One device's examples; `data` is `emoji` or the folder they come from."""

    def __init__(self, examples: Examples, data: str) -> None:
        self._examples, self._folder = examples, None if data == "emoji" else Path(data)

    def __len__(self) -> int:
        return len(self._examples)

    def captions(self, form: str) -> list[bytes]:
        """All captions in one of TEXT_FORMS, UTF-8."""
        texts = self._examples.captions.tolist()
        if form != TEXT:
            texts = [json.dumps(text, ensure_ascii=form == ESCAPED)[1:-1] for text in texts]
        return [text.encode() for text in texts]

    def images(self, form: str) -> list[bytes]:
        """All images in one of FORMS; none where the data set has no files. Raises OSError."""
        if form == PIXELS:
            return [image.tobytes() for image in self._examples.images]
        if form == PLANES:
            return [np.moveaxis(image, 2, 0).tobytes() for image in self._examples.images]
        if self._folder is None:
            return []
        return [(self._folder / str(name)).read_bytes() for name in self._examples.names]
