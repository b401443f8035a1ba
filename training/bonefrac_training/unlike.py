"""Pictures that are no limb films, to measure how many of them a model sets aside: nobody's films, nothing to ship."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from bonefrac.errors import OutputError, UsageError

# what scikit-image carries with it, without a download; grey, for pictures in colour never reach a model
_PHOTOGRAPHS = (
    "astronaut", "brick", "camera", "cat", "cell", "checkerboard", "clock", "coffee", "coins", "grass", "gravel",
    "horse", "hubble_deep_field", "immunohistochemistry", "microaneurysms", "moon", "page", "retina", "rocket", "text",
)  # fmt: skip
_CHEST = "RG1_UNCR.dcm"  # a computed radiograph of a chest, of the WG04 set that pydicom-data carries
Grey = NDArray[np.uint8]


def write_unlike(folder: Path) -> list[Path]:
    """Write all as PNG into a new folder. Raises UsageError where a package is missing, OutputError for the folder."""
    try:
        pictures = [*_photographs(), *_chest(), *_drawn()]
    except ImportError as error:
        raise UsageError(f"{error.name} is missing: pip install scikit-image pydicom pydicom-data") from error
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made: {error.strerror}; name a new folder") from error
    written = []
    for name, pixels in pictures:
        path = folder / f"{name}.png"
        path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
        written.append(path)
    return written


def _photographs() -> Iterator[tuple[str, Grey]]:
    from skimage import data

    for name in _PHOTOGRAPHS:
        pixels: Any = np.asarray(getattr(data, name)())
        if pixels.ndim == 3:
            pixels = cv2.cvtColor(pixels[:, :, :3], cv2.COLOR_RGB2GRAY)
        yield name, (pixels * 255 if pixels.dtype == bool else pixels).astype(np.uint8)


def _chest() -> Iterator[tuple[str, Grey]]:
    bright = radiograph(_CHEST)
    yield "chest", bright
    yield "chest-inverted", 255 - bright


def radiograph(name: str) -> Grey:
    """A film that pydicom-data carries, as a screen shows it, bone bright. Raises ImportError where it is missing."""
    import pydicom
    from pydicom.data import get_testdata_file

    path = get_testdata_file(name, download=False)
    if not isinstance(path, str):
        raise ImportError(name="pydicom-data")
    film = pydicom.dcmread(path)
    low, high = np.percentile(film.pixel_array, (0.5, 99.5))
    shown = np.clip((film.pixel_array - low) / (high - low) * 255, 0, 255).astype(np.uint8)
    return 255 - shown if film.PhotometricInterpretation == "MONOCHROME1" else shown


def _drawn() -> Iterator[tuple[str, Grey]]:
    """Noise, bright and dark, and a screen with a list."""
    rng = np.random.default_rng(0)
    yield "noise", rng.integers(0, 256, (900, 700)).astype(np.uint8)
    yield "noise-dark", rng.integers(0, 30, (900, 700)).astype(np.uint8)
    screen = np.full((900, 1400), 240, np.uint8)
    for line in range(20):
        text = f"File Edit View  Patient list 12:{line:02}"
        cv2.putText(screen, text, (20, 40 + line * 42), cv2.FONT_HERSHEY_SIMPLEX, 1.0, (20,), 2)
    yield "screen", screen
