"""Augmentation: other positions, exposures and collimations of one film, all inside the model's own range 0..255.

What is left out by name is still drawn, so that two runs that differ in one augmentation see the same of all others.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import cv2
import numpy as np
from numpy.typing import NDArray

from bonefrac.labelled import Box

GEOMETRY = ("rotation", "zoom", "shift", "flips")
TONE = ("gamma", "contrast", "brightness", "noise")
AUGMENTATIONS = (*GEOMETRY, *TONE, "collimation")
_COLLIMATED = 0.3  # of the films
_WHITE = 0.15  # of those: some machines print the shutters white
_EDGE_PX = 2.0  # a box stays that far inside the field
Matrix = NDArray[np.float64]


def random_affine(rng: np.random.Generator, size: int, without: Collection[str] = ()) -> Matrix:
    """A (2, 3) matrix over input pixels: rotation of +-20 degrees, zoom 0.8 to 1.2, shift of 8 %, flips."""
    angle, zoom = rng.uniform(-20, 20), rng.uniform(0.8, 1.2)
    turn = cv2.getRotationMatrix2D(
        (size / 2, size / 2), 0.0 if "rotation" in without else angle, 1.0 if "zoom" in without else zoom
    )
    matrix = np.asarray(turn, np.float64)
    shift = rng.uniform(-0.08, 0.08, 2) * size
    matrix[:, 2] += 0.0 if "shift" in without else shift
    for axis, chance in ((0, 0.5), (1, 0.25)):
        if rng.random() < chance and "flips" not in without:
            matrix[axis] = -matrix[axis]
            matrix[axis, 2] += size
    return matrix


def moved(boxes: Iterable[Box], matrix: Matrix) -> NDArray[np.float64]:
    """The corners of each box after the affine `matrix` (2, 3): (n, 4, 2), x and y, in turn round the box."""
    corners = [[(x0, y0, 1), (x1, y0, 1), (x1, y1, 1), (x0, y1, 1)] for x0, y0, x1, y1 in boxes]
    return np.array(corners, np.float64).reshape(-1, 4, 3) @ matrix.T


def random_tone(
    rng: np.random.Generator, pixels: NDArray[np.uint8], without: Collection[str] = ()
) -> NDArray[np.float32]:
    """Gamma, contrast, brightness and noise, clipped to 0..255."""
    gamma, contrast, brightness = rng.uniform(0.75, 1.35), rng.uniform(0.75, 1.3), rng.uniform(-25, 25)
    grain = rng.standard_normal(pixels.shape, np.float32) * np.float32(rng.uniform(0, 5))
    tone = pixels.astype(np.float32)
    if "gamma" not in without:
        tone = 255 * (tone / 255) ** np.float32(gamma)
    tone = (tone - 128) * np.float32(1 if "contrast" in without else contrast) + np.float32(128)
    tone += np.float32(0 if "brightness" in without else brightness)
    if "noise" not in without:
        tone += grain
    return np.asarray(np.clip(tone, 0, 255), np.float32)


def random_collimation(
    rng: np.random.Generator, pixels: NDArray[np.float32], corners: NDArray[np.float64]
) -> NDArray[np.float32]:
    """A field with straight, perhaps slanting edges, on some of the films (size, size); dark outside, seldom white.

    Each side is drawn in by up to a quarter; the `corners` (n, 4, 2) of boxes stay inside.
    """
    size = len(pixels)
    chosen, slant = rng.random() < _COLLIMATED, np.deg2rad(rng.uniform(-12, 12) * (rng.random() < 0.5))
    inwards = (
        np.where(rng.random((2, 2)) < 0.6, rng.uniform(0.03, 0.25, (2, 2)), -1.0) * size
    )  # left, top; right, below
    outside = rng.uniform(0, 50) * (rng.random() < 0.5)
    if rng.random() < _WHITE:
        outside = 255 - outside
    if not chosen:
        return pixels
    turn = np.array([(np.cos(slant), -np.sin(slant)), (np.sin(slant), np.cos(slant))])
    inside = (corners.reshape(-1, 2) - size / 2) @ turn
    low = np.minimum(inwards[0] - size / 2, inside.min(axis=0, initial=np.inf) - _EDGE_PX)
    high = np.maximum(size / 2 - inwards[1], inside.max(axis=0, initial=-np.inf) + _EDGE_PX)
    field = np.array([(low[0], low[1]), (high[0], low[1]), (high[0], high[1]), (low[0], high[1])]) @ turn.T + size / 2
    open_ = cv2.fillConvexPoly(np.zeros(pixels.shape, np.uint8), np.rint(field).astype(np.int32), 1)
    return np.where(open_ == 1, pixels, np.float32(outside)).astype(np.float32)
