"""THE definition of what a model sees: pixels -> uint8 input, and the map back to the film.

Resize and letterbox happen here and nowhere else. The rule is part of the model's input spec.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from bonefrac.results import Grey, Radiograph

SPEC_VERSION = 1
_WINDOW = (0.1, 99.9)  # percentiles of a 16-bit film that become grey 0 and 255


@dataclass(frozen=True)
class InputSpec:
    """What a model wants to see. `version` counts changes of meaning of this file.

    resize: `area` (antialiased, for our own models) or `bilinear` (not antialiased, as `tf.image.resize`, ONNX and
    OpenCV do by default, for models trained elsewhere). fit: `letterbox` keeps the aspect ratio and fills with black,
    `stretch` does not.
    """

    width: int
    height: int
    resize: Literal["area", "bilinear"] = "area"
    fit: Literal["letterbox", "stretch"] = "letterbox"
    version: int = SPEC_VERSION

    @property
    def long_side(self) -> int:
        """Pixels that the decoder must leave on a long side, so that no detail is lost; for `stretch`, all."""
        return max(self.width, self.height) if self.fit == "letterbox" else 2**31


@dataclass(frozen=True)
class ToFilm:
    """The map from the model's input back to the film: film x = (input x - x_offset) * x_scale, y likewise.

    Coordinates are those of pixel edges: 0 is the left or upper edge of the first pixel.
    """

    x_offset: float
    y_offset: float
    x_scale: float
    y_scale: float

    def __call__(self, x: float, y: float) -> tuple[float, float]:
        """Input pixel coordinates -> pixel coordinates of the upright original."""
        return (x - self.x_offset) * self.x_scale, (y - self.y_offset) * self.y_scale

    def inverse(self, x: float, y: float) -> tuple[float, float]:
        """Pixel coordinates of the upright original -> input pixel coordinates."""
        return x / self.x_scale + self.x_offset, y / self.y_scale + self.y_offset


def to_input(film: Radiograph, spec: InputSpec) -> tuple[NDArray[np.uint8], ToFilm]:
    """One film as the model sees it: uint8 (height, width, 1), range 0..255, bone bright; and the map back."""
    width, height = spec.width, spec.height
    if spec.fit == "letterbox":
        scale = min(width / film.width, height / film.height)
        width, height = max(1, round(film.width * scale)), max(1, round(film.height * scale))
    left, top = (spec.width - width) // 2, (spec.height - height) // 2

    shrinks = film.pixels.shape[0] >= height and film.pixels.shape[1] >= width
    rule = cv2.INTER_AREA if spec.resize == "area" and shrinks else cv2.INTER_LINEAR
    resized = cv2.resize(film.pixels, (width, height), interpolation=rule).astype(film.pixels.dtype, copy=False)
    canvas = np.zeros((spec.height, spec.width, 1), np.uint8)
    canvas[top : top + height, left : left + width, 0] = to_8_bit(resized)
    return canvas, ToFilm(left, top, film.width / width, film.height / height)


def to_8_bit(pixels: Grey) -> NDArray[np.uint8]:
    """uint8 as it is; uint16 through a window between two percentiles, for scanners fill 10, 12, 14 or 16 bits."""
    if pixels.dtype == np.uint8:
        return pixels.astype(np.uint8, copy=False)
    film = pixels[pixels < pixels.max()]  # without markers burnt in at full scale, which would darken all else
    low, high = np.percentile(film if film.size > pixels.size / 2 else pixels, _WINDOW)
    return np.clip((pixels.astype(np.float32) - low) * (255 / max(high - low, 1)) + 0.5, 0, 255).astype(np.uint8)
