"""Labelled films through the engine's own decoder, and augmented batches of them."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import keras
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from bonefrac.decode import decode
from bonefrac.labelled import Box, LabelledFilm
from bonefrac.preprocess import InputSpec, ToFilm, to_input
from bonefrac_training.flagship import STRIDE


@dataclass(frozen=True)
class Inputs:
    """Films as a model sees them: `pixels` uint8 (n, size, size, 1); `boxes` in input pixels, a tuple for each film."""

    pixels: NDArray[np.uint8]
    fractured: NDArray[np.bool_]
    boxes: tuple[tuple[Box, ...], ...]


def load_inputs(films: list[LabelledFilm], size: int, cache: Path) -> Inputs:
    """Decode and resize all films with the engine's `decode` and `to_input`; pixels are kept in the folder `cache`."""
    spec = InputSpec(size, size)
    key = hashlib.sha256(repr((spec, [(f.path.name, f.path.stat().st_size) for f in films])).encode()).hexdigest()[:16]
    stored = cache / f"inputs-{size}-{key}.npz"
    if not stored.exists():
        cache.mkdir(parents=True, exist_ok=True)

        def prepare(film: LabelledFilm) -> tuple[NDArray[np.uint8], ToFilm]:
            return to_input(decode(film.path.read_bytes(), long_side=spec.long_side), spec)

        with ThreadPoolExecutor() as pool:
            done = list(tqdm(pool.map(prepare, films), total=len(films), desc=f"films at {size} px"))
        maps = np.array([(m.x_offset, m.y_offset, m.x_scale, m.y_scale) for _, m in done])
        part = stored.with_suffix(".part.npz")
        np.savez(part, pixels=np.stack([pixels for pixels, _ in done]), maps=maps)
        os.replace(part, stored)
    with np.load(stored) as arrays:
        pixels, to_film = arrays["pixels"], [ToFilm(*map(float, row)) for row in arrays["maps"]]
    boxes = tuple(
        tuple((*m.inverse(x0, y0), *m.inverse(x1, y1)) for x0, y0, x1, y1 in film.boxes)
        for film, m in zip(films, to_film, strict=True)
    )
    return Inputs(pixels, np.array([film.fractured for film in films]), boxes)


def heat_target(boxes: tuple[Box, ...], matrix: NDArray[np.float64], size: int) -> NDArray[np.uint8]:
    """Cells that a box touches after the affine `matrix` (2, 3) over input pixels: uint8 (size/16, size/16), 0 or 1."""
    cells = np.zeros((size // STRIDE, size // STRIDE), np.uint8)
    for x0, y0, x1, y1 in boxes:
        corners = np.array([(x0, y0, 1), (x1, y0, 1), (x1, y1, 1), (x0, y1, 1)]) @ matrix.T
        cv2.fillConvexPoly(cells, np.floor(corners / STRIDE).astype(np.int32), 1)
    return cells


class Batches(keras.utils.PyDataset):
    """Augmented training batches in which 6 of 16 films are fractured, drawn anew each epoch from `seed` and the epoch.

    An item is (grey float32 (b, size, size, 1) in 0..255, targets by the name of the output).
    """

    _SIZE, _FRACTURED = 16, 6

    def __init__(self, inputs: Inputs, *, seed: int, epoch: int = 0) -> None:
        super().__init__(workers=2, max_queue_size=8)
        self._inputs, self._seed, self._epoch = inputs, seed, epoch
        self._draw()

    def __len__(self) -> int:
        return len(self._inputs.fractured) // self._SIZE

    def _draw(self) -> None:
        rng = np.random.default_rng((self._seed, self._epoch))
        need = len(self) * self._FRACTURED, len(self) * (self._SIZE - self._FRACTURED)
        fractured, clean = (
            np.concatenate([rng.permutation(pool) for _ in range(-(-count // len(pool)))])[:count]
            for pool, count in zip(
                (np.flatnonzero(self._inputs.fractured), np.flatnonzero(~self._inputs.fractured)), need, strict=True
            )
        )
        self._rows = np.hstack([fractured.reshape(len(self), -1), clean.reshape(len(self), -1)])

    def on_epoch_end(self) -> None:
        self._epoch += 1
        self._draw()

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], dict[str, NDArray[np.float32]]]:
        rng = np.random.default_rng((self._seed, self._epoch, index))
        size = self._inputs.pixels.shape[1]
        grey = np.empty((self._SIZE, size, size, 1), np.float32)
        heat = np.empty((self._SIZE, size // STRIDE, size // STRIDE), np.float32)
        for place, row in enumerate(self._rows[index]):
            matrix = random_affine(rng, size)
            moved = cv2.warpAffine(self._inputs.pixels[row, :, :, 0], matrix, (size, size))
            grey[place, :, :, 0] = random_tone(rng, np.asarray(moved, np.uint8))
            heat[place] = heat_target(self._inputs.boxes[row], matrix, size)
        label = self._inputs.fractured[self._rows[index]].astype(np.float32)
        return grey, {"heatmap": heat, "local": label, "whole": label}


def random_affine(rng: np.random.Generator, size: int) -> NDArray[np.float64]:
    """A (2, 3) matrix: rotation of +-20 degrees, zoom 0.8 to 1.2, shift of 8 %, flips."""
    turn = cv2.getRotationMatrix2D((size / 2, size / 2), rng.uniform(-20, 20), rng.uniform(0.8, 1.2))
    matrix = np.asarray(turn, np.float64)
    matrix[:, 2] += rng.uniform(-0.08, 0.08, 2) * size
    for axis, chance in ((0, 0.5), (1, 0.25)):
        if rng.random() < chance:
            matrix[axis] = -matrix[axis]
            matrix[axis, 2] += size
    return matrix


def random_tone(rng: np.random.Generator, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Contrast, brightness, gamma and noise, clipped to the model's own range 0..255."""
    tone = 255 * (pixels.astype(np.float32) / 255) ** np.float32(rng.uniform(0.75, 1.35))
    tone = (tone - 128) * np.float32(rng.uniform(0.75, 1.3)) + np.float32(128 + rng.uniform(-25, 25))
    tone += rng.standard_normal(tone.shape, np.float32) * np.float32(rng.uniform(0, 5))
    return np.asarray(np.clip(tone, 0, 255), np.float32)
