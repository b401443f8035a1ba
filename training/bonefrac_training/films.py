"""Labelled films through the engine's own decoder."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from bonefrac.decode import decode
from bonefrac.errors import FilmError, UsageError
from bonefrac.labelled import Box, LabelledFilm
from bonefrac.preprocess import InputSpec, ToFilm, to_input


@dataclass(frozen=True)
class Inputs:
    """Films as a model sees them: `pixels` uint8 (n, size, size, 1); `boxes` in input pixels, a tuple for each film;
    `groups`, a name for each film: films of one group may show one patient."""

    pixels: NDArray[np.uint8]
    fractured: NDArray[np.bool_]
    boxes: tuple[tuple[Box, ...], ...]
    groups: tuple[str, ...]

    @property
    def size(self) -> int:
        """The input's side in px."""
        return int(self.pixels.shape[1])

    @property
    def boxed(self) -> NDArray[np.bool_]:
        """Which films have a fracture whose place is known."""
        return self.fractured & np.array([bool(boxes) for boxes in self.boxes])


def load_inputs(films: list[LabelledFilm], size: int, cache: Path) -> Inputs:
    """Decode and resize all films with the engine's `decode` and `to_input`; pixels are kept in the folder `cache`.

    Raises UsageError for a film that cannot be decoded.
    """
    spec = InputSpec(size, size)
    key = hashlib.sha256(repr((spec, [(f.path.name, f.path.stat().st_size) for f in films])).encode()).hexdigest()[:16]
    stored = cache / f"inputs-{size}-{key}.npz"
    if not stored.exists():
        cache.mkdir(parents=True, exist_ok=True)

        def prepare(film: LabelledFilm) -> tuple[NDArray[np.uint8], ToFilm]:
            try:
                return to_input(decode(film.path.read_bytes(), long_side=spec.long_side), spec)
            except (OSError, FilmError) as error:
                raise UsageError(f"{film.path}: {error}; leave it out of the list of films") from error

        with ThreadPoolExecutor() as pool:
            done = list(tqdm(pool.map(prepare, films), total=len(films), desc=f"films at {size} px"))
        maps = np.array([(m.x_offset, m.y_offset, m.x_scale, m.y_scale) for _, m in done])
        part = stored.with_suffix(f".{os.getpid()}.part.npz")
        np.savez(part, pixels=np.stack([pixels for pixels, _ in done]), maps=maps)
        os.replace(part, stored)
    with np.load(stored) as arrays:
        pixels, to_film = arrays["pixels"], [ToFilm(*map(float, row)) for row in arrays["maps"]]
    boxes = tuple(
        tuple((*m.inverse(x0, y0), *m.inverse(x1, y1)) for x0, y0, x1, y1 in film.boxes)
        for film, m in zip(films, to_film, strict=True)
    )
    fractured = np.array([film.fractured for film in films])
    return Inputs(pixels, fractured, boxes, tuple(film.group for film in films))
