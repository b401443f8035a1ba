"""Drawn films of which no two are alike: a few pictures, each made unique by a number that its format carries along.

The number stands in a comment, so that all films of one picture must get the same result.
"""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from bonefrac.synthetic import draw_radiograph

_SUFFIXES = (".jpg", ".png", ".tif")
_A_FOLDER = 100
_MOST_LINKS = 30_000  # to one file: ext4 allows 65,000
_TIFF_TEXT = 134  # where the description stands: after the header and a directory of ten tags
_TIFF_TEXT_BYTES = 32


class Content(NamedTuple):
    """What a film holds: the number of a drawn picture, and the number that makes it unique."""

    picture: int
    number: int


def draw_pictures(folder: Path, count: int, seed: int) -> None:
    """Draw JPEG, PNG (8 and 16 bit) and TIFF in turn, 320 to 500 px a side, every second one with a fracture."""
    folder.mkdir(parents=True)
    for number in range(count):
        drawn = draw_radiograph(
            seed * 1000 + number, fractured=number % 2 == 0, height=500 - number % 5 * 20, width=320 + number % 4 * 20
        )
        grey = (drawn.pixels >> 4).astype(np.uint8)
        suffix = _SUFFIXES[number % len(_SUFFIXES)]
        if suffix == ".tif":
            data = _tiff(grey)
        else:
            data = cv2.imencode(suffix, drawn.pixels if number % 6 == 1 else grey)[1].tobytes()
        (folder / f"{number:03}{suffix}").write_bytes(data)


class Contents:
    """The pictures of a folder, as films."""

    def __init__(self, folder: Path) -> None:
        self._pictures = [(path.suffix, path.read_bytes()) for path in sorted(folder.iterdir())]

    def __len__(self) -> int:
        return len(self._pictures)

    def suffix(self, content: Content) -> str:
        return self._pictures[content.picture][0]

    def sha256(self, content: Content) -> str:
        return hashlib.sha256(self.data(content)).hexdigest()

    def data(self, content: Content) -> bytes:
        """A whole file."""
        suffix, data = self._pictures[content.picture]
        text = f"film {content.number}".encode("ascii")
        if suffix == ".jpg":  # a comment after the start marker
            return data[:2] + b"\xff\xfe" + struct.pack(">H", len(text) + 2) + text + data[2:]
        if suffix == ".png":  # a text chunk after the header
            chunk = b"tEXtComment\0" + text
            return (
                data[:33] + struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[33:]
            )
        return data[:_TIFF_TEXT] + text.ljust(_TIFF_TEXT_BYTES, b"\0") + data[_TIFF_TEXT + _TIFF_TEXT_BYTES :]


def fill_with_old(inbox: Path, work: Path, count: int) -> None:
    """Folders of a hundred films each, as a year of days would leave them: hard links, for there are many, to the few
    contents of `work`/pictures, as often as the system allows."""
    contents = Contents(work / "pictures")
    (work / "originals").mkdir()
    for number in range(count):
        content = Content(number % len(contents), 0)
        original = work / "originals" / f"{content.picture}-{number // len(contents) // _MOST_LINKS}"
        if not original.exists():
            original.write_bytes(contents.data(content))
        folder = inbox / "old" / f"{number // _A_FOLDER:04}"
        folder.mkdir(parents=True, exist_ok=True)
        os.link(original, folder / f"{number:06}{contents.suffix(content)}")


def _tiff(grey: NDArray[np.uint8]) -> bytes:
    """An uncompressed TIFF with its directory in front (TIFF 6.0): only its length tells that its pixels are there."""
    height, width = grey.shape
    pixels_at = _TIFF_TEXT + _TIFF_TEXT_BYTES
    short, text, long = 3, 2, 4
    tags = [
        (256, long, 1, width), (257, long, 1, height), (258, short, 1, 8), (259, short, 1, 1), (262, short, 1, 1),
        (270, text, _TIFF_TEXT_BYTES, _TIFF_TEXT), (273, long, 1, pixels_at), (277, short, 1, 1),
        (278, long, 1, height), (279, long, 1, grey.size),
    ]  # fmt: skip
    directory = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + directory + struct.pack("<I", 0)
    return head + bytes(_TIFF_TEXT_BYTES) + grey.tobytes()
