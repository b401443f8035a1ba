"""A folder of drawn radiographs for a first run: no patient, no download."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np

from bonefrac.errors import UsageError
from bonefrac.sinks import atomic
from bonefrac.synthetic import draw_radiograph

DAMAGED = "damaged.jpg"
_SEEDS = range(11, 17)


def write_demo(folder: Path) -> int:
    """Write a dozen drawn films: JPEG, one 16-bit PNG, some in a sub-folder, and one cut short; returns how many.

    Raises UsageError where the folder or its results are there already, or cannot be made.
    """
    for taken in (folder, folder.with_name(folder.name + "-results")):
        if os.path.lexists(taken):
            raise UsageError(f"{taken}: is there already; remove it, or name another folder:  bonefrac demo FOLDER")
    try:
        return _draw(folder)
    except OSError as error:
        raise UsageError(
            f"{folder}: cannot be made: {error.strerror}; name another folder:  bonefrac demo FOLDER"
        ) from error


def _draw(folder: Path) -> int:
    written = 0
    for seed in _SEEDS:
        for fractured in (True, False):
            pixels = draw_radiograph(seed, fractured=fractured).pixels
            name = f"{'fracture' if fractured else 'clean'}-{seed}"
            if seed == _SEEDS[0]:
                _write(folder / f"{name}-16-bit.png", cv2.imencode(".png", pixels)[1].tobytes())
            else:
                place = folder / "second-visit" if seed == _SEEDS[-1] else folder
                _write(place / f"{name}.jpg", _jpeg(pixels))
            written += 1
    whole = _jpeg(draw_radiograph(_SEEDS[0], fractured=False).pixels)
    _write(folder / DAMAGED, whole[: len(whole) // 2])
    return written + 1


def _jpeg(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", (pixels >> 4).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()


def _write(path: Path, data: bytes) -> None:
    with atomic(path) as file:
        file.write(data)
