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
_OF_OTHER_MACHINES = {  # of pydicom and pydicom-data, as far as Pillow decodes them
    "CT and MR slices": (
        "693_UNCI", "CT_small", "explicit_VR-UN", "MR2_UNCI", "MR-SIEMENS-DICOM-WithOverlays", "examples_overlay",
    ),
    "ultrasound": ("OBXXXX1A", "gdcm-US-ALOKA-16"),
}  # fmt: skip
Grey = NDArray[np.uint8]
Picture = tuple[str, str, Grey]  # what it shows, its name, its pixels


def write_unlike(folder: Path) -> list[Path]:
    """Write all as PNG into a new folder, a folder for each kind. Raises UsageError where a package is missing,
    OutputError for the folder."""
    try:
        pictures = [*_photographs(), *_chest(), *_of_other_machines(), *_drawn()]
    except ImportError as error:
        raise UsageError(f'{error.name} is missing: pip install "bonefrac[train]"') from error
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made: {error.strerror}; name a new folder") from error
    written = []
    for kind, name, pixels in pictures:
        path = folder / kind / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
        written.append(path)
    return written


def _photographs() -> Iterator[Picture]:
    from skimage import data
    from sklearn.datasets import load_sample_image

    for name in _PHOTOGRAPHS:
        pixels: Any = np.asarray(getattr(data, name)())
        yield (
            "photographs and drawings",
            name,
            (pixels * 255 if pixels.dtype == bool else _grey(pixels)).astype(np.uint8),
        )
    for name in ("china", "flower"):
        yield "other photographs", name, _grey(load_sample_image(f"{name}.jpg"))


def _grey(pixels: Any) -> Any:
    return pixels if pixels.ndim == 2 else cv2.cvtColor(pixels[:, :, :3], cv2.COLOR_RGB2GRAY)


def _chest() -> Iterator[Picture]:
    bright = radiograph(_CHEST)
    yield "chest films", "chest", bright
    yield "chest films", "chest-inverted", 255 - bright


def _of_other_machines() -> Iterator[Picture]:
    for kind, names in _OF_OTHER_MACHINES.items():
        for name in names:
            yield kind, name, radiograph(f"{name}.dcm")


def radiograph(name: str) -> Grey:
    """A picture that pydicom or pydicom-data carries, as a screen shows it, bone bright. Raises ImportError where it is
    missing."""
    import pydicom
    from pydicom.data import get_testdata_file

    path = get_testdata_file(name, download=False)
    if not isinstance(path, str):
        raise ImportError(name="pydicom-data")
    film = pydicom.dcmread(path)
    low, high = np.percentile(film.pixel_array, (0.5, 99.5))
    shown = np.clip((film.pixel_array - low) / (high - low) * 255, 0, 255).astype(np.uint8)
    return 255 - shown if film.PhotometricInterpretation == "MONOCHROME1" else shown


def _drawn() -> Iterator[Picture]:
    """Noise, bright and dark, a screen with a list, and frames that show nothing."""
    rng = np.random.default_rng(0)
    yield "noise", "noise", rng.integers(0, 256, (900, 700)).astype(np.uint8)
    yield "noise", "noise-dark", rng.integers(0, 30, (900, 700)).astype(np.uint8)
    screen = np.full((900, 1400), 240, np.uint8)
    for line in range(20):
        text = f"File Edit View  Patient list 12:{line:02}"
        cv2.putText(screen, text, (20, 40 + line * 42), cv2.FONT_HERSHEY_SIMPLEX, 1.0, (20,), 2)
    yield "a screen", "screen", screen
    for name, level in (("black", 0), ("grey", 128), ("white", 255)):
        yield "blank frames", name, np.clip(level + rng.normal(0, 1, (900, 700)), 0, 255).astype(np.uint8)
