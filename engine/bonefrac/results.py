"""What passes between the rooms: a radiograph in, one result per file out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

FindingName = Literal["fracture", "doubt", "no_fracture_detected"]
FailureStatus = Literal["not_analysed", "failed"]
Grey = NDArray[np.unsignedinteger[Any]]  # uint8 or uint16 (h, w), bone bright


@dataclass(frozen=True)
class Radiograph:
    """A decoded film.

    `pixels` is uint8 or uint16, shape (h, w), bone bright, upright. JPEG films may be decoded at 1/2, 1/4 or 1/8;
    `width` and `height` are those of the upright original in pixels, whatever the decoded size.
    """

    pixels: Grey
    width: int
    height: int


@dataclass(frozen=True)
class Region:
    """One suspicious place: `box` is (x_min, y_min, x_max, y_max) and `peak` (x, y), in pixels of the upright original.

    `score` is the heat map's value at the peak, in [0, 1].
    """

    box: tuple[float, float, float, float]
    peak: tuple[float, float]
    score: float


@dataclass(frozen=True)
class Source:
    """One file of a run: its name relative to INPUT, with `/`, and the SHA-256 of its bytes ("" if unread)."""

    path: str
    sha256: str


@dataclass(frozen=True)
class Finding:
    """What the model says of one film. `width`, `height` and the regions are in pixels of the upright original.

    `thumbnail` is a small JPEG of the model's view for the report, or empty.
    """

    source: Source
    finding: FindingName
    probability: float
    regions: tuple[Region, ...]
    width: int
    height: int
    message: str = ""
    thumbnail: bytes = b""


@dataclass(frozen=True)
class Failure:
    """A file without a finding, and why. Sizes are 0 where they are not known."""

    source: Source
    status: FailureStatus
    message: str
    width: int = 0
    height: int = 0


Result = Finding | Failure
