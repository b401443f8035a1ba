"""Labelled films through the engine's own decoder."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from bonefrac.decode import decode
from bonefrac.errors import FilmError, OutputError, UsageError
from bonefrac.labelled import Box, LabelledFilm
from bonefrac.preprocess import InputSpec, ToFilm, to_input
from bonefrac.sinks import atomic
from bonefrac_training.npz import DAMAGED, open_npz


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
    """Decode and resize all films with the engine's `decode` and `to_input`; pixels are kept in the folder `cache`, by
    the films' bytes and the rules of the input: what lies there fits, whatever the films are called.

    Raises UsageError for a film that cannot be read or decoded, OutputError where the cache cannot be written.
    """
    spec = InputSpec(size, size)
    with ThreadPoolExecutor() as pool:
        digests = list(pool.map(lambda film: hashlib.sha256(_read(film)).hexdigest(), films))
    key = hashlib.sha256(repr((spec, digests)).encode()).hexdigest()[:16]
    stored = cache / f"inputs-{size}-{key}.npz"
    pixels, maps = _kept(stored) or _prepared(films, spec, stored)
    to_film = [ToFilm(*map(float, row)) for row in maps]
    boxes = tuple(
        tuple((*m.inverse(x0, y0), *m.inverse(x1, y1)) for x0, y0, x1, y1 in film.boxes)
        for film, m in zip(films, to_film, strict=True)
    )
    fractured = np.array([film.fractured for film in films])
    return Inputs(pixels, fractured, boxes, tuple(film.group for film in films))


def make_folder(path: Path) -> None:
    """Make a folder for results, if it is not there. Raises OutputError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: cannot be made a folder: {error.strerror}; name another with --out") from error


def _read(film: LabelledFilm) -> bytes:
    try:
        return film.path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"{film.path}: cannot be read: {error.strerror}; put it there, or leave it out of the list of films"
        ) from error


def _kept(stored: Path) -> tuple[NDArray[np.uint8], NDArray[np.float64]] | None:
    """Pixels and maps; None where there are none, or only what a full disk or a bad one left of them."""
    try:
        with open_npz(stored) as arrays:
            return arrays["pixels"], arrays["maps"]
    except DAMAGED:
        return None


def _prepared(
    films: list[LabelledFilm], spec: InputSpec, stored: Path
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    def prepare(film: LabelledFilm) -> tuple[NDArray[np.uint8], ToFilm]:
        try:
            return to_input(decode(_read(film), long_side=spec.long_side), spec)
        except FilmError as error:
            raise UsageError(f"{film.path}: {error}; leave it out of the list of films") from error

    with ThreadPoolExecutor() as pool:
        done = list(tqdm(pool.map(prepare, films), total=len(films), desc=f"films at {spec.width} px"))
    pixels = np.stack([pixels for pixels, _ in done])
    maps = np.array([(m.x_offset, m.y_offset, m.x_scale, m.y_scale) for _, m in done])
    try:
        with atomic(stored) as file:
            np.savez(file, pixels=pixels, maps=maps)
    except OSError as error:
        raise OutputError(
            f"{stored.parent}: cannot be written: {error.strerror}; make room, or name another --out"
        ) from error
    return pixels, maps
