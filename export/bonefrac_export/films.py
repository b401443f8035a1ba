"""Which films set the ranges of int8, and on which others the bundle is measured."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bonefrac.decode import decode
from bonefrac.errors import FilmError, UsageError
from bonefrac.labelled import LabelledFilm, list_hash, read_labelled
from bonefrac.preprocess import InputSpec, to_input
from bonefrac_benchmarks.accuracy import Films, load

CALIBRATION_FILMS = 240


@dataclass(frozen=True)
class FilmSets:
    """`calibration`: at most CALIBRATION_FILMS files; `validation`: labelled films, none of them among those, empty
    where nothing is labelled; `trained_on`: the hash of the list of training films, "" where they are not known."""

    calibration: list[Path]
    validation: list[LabelledFilm]
    trained_on: str


def film_sets(calibration: Path, labels: Path | None, fold: int | None) -> FilmSets:
    """Films from `calibration`, a folder of pictures or a labelled collection, and from `labels`, such a collection;
    `fold` is the one that training never saw: none of it calibrates, and only it measures.

    Raises UsageError where films are missing, cannot be read, or are asked to do both.
    """
    validation = [film for film in read_labelled(labels) if fold in (None, film.fold)] if labels is not None else []
    if labels is not None and len({film.fractured for film in validation}) < 2:
        where = f"fold {fold} of {labels}" if fold is not None else str(labels)
        raise UsageError(f"{where}: has no films both with and without a fracture, so nothing can be measured on it")
    if not _is_collection(calibration):
        chosen, trained_on = _some(files_in(calibration)), ""
    else:
        films = [film for film in read_labelled(calibration) if fold is None or film.fold != fold]
        chosen = [film.path for film in calibration_films(films)]
        trained_on = list_hash(films) if fold is not None else ""
    if not chosen:
        raise UsageError(f"{calibration}: holds no films to calibrate with")
    if both := {path.resolve() for path in chosen} & {film.path.resolve() for film in validation}:
        raise UsageError(
            f"{sorted(both)[0].name}: {len(both)} films would both calibrate and measure; give other films, or with"
            " --fold the fold that training never saw"
        )
    return FilmSets(chosen, validation, trained_on)


def calibration_films(films: list[LabelledFilm]) -> list[LabelledFilm]:
    """A third of them fractured, body regions in turn, drawn with a fixed seed."""
    shuffled = [films[index] for index in np.random.default_rng(0).permutation(len(films))]
    chosen: list[LabelledFilm] = []
    for fractured, count in ((True, CALIBRATION_FILMS // 3), (False, CALIBRATION_FILMS - CALIBRATION_FILMS // 3)):
        pools: dict[tuple[str, ...], list[LabelledFilm]] = {}
        for film in shuffled:
            if film.fractured == fractured:
                pools.setdefault(film.regions, []).append(film)
        before = len(chosen)
        while len(chosen) - before < count and any(pools.values()):
            chosen += [pool.pop() for pool in pools.values() if pool]
        del chosen[before + count :]
    return chosen


def files_in(folder: Path) -> list[Path]:
    """All files below a folder, hidden ones left out. Raises UsageError where there are none, or it cannot be read."""
    try:
        os.listdir(folder)  # which says so where rglob finds nothing in silence
        paths = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    except OSError as error:
        raise UsageError(f"{folder}: cannot be read: {error.strerror}") from error
    if not paths:
        raise UsageError(f"{folder}: holds no files")
    return paths


def load_pictures(paths: list[Path], spec: InputSpec) -> NDArray[np.uint8]:
    """Pictures as the model sees them, uint8 (n, height, width, 1). Raises UsageError with the one that is none."""
    pixels = np.zeros((len(paths), spec.height, spec.width, 1), np.uint8)
    for row, path in enumerate(paths):
        try:
            pixels[row] = to_input(decode(path.read_bytes(), long_side=spec.long_side), spec)[0]
        except FilmError as error:
            raise UsageError(f"{path}: is no picture that can be used: {error}") from error
        except OSError as error:
            raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    return pixels


def load_films(labelled: list[LabelledFilm], spec: InputSpec) -> Films:
    """Labelled films as the model sees them. Raises UsageError where one cannot be decoded."""
    films, left_out = load(labelled, spec)
    if left_out:
        raise UsageError(f"{left_out[0].film.path}: {left_out[0].reason}; take it out of labels.csv")
    return films


def _is_collection(path: Path) -> bool:
    return path.is_file() or (path / "labels.csv").is_file()


def _some(paths: list[Path]) -> list[Path]:
    order = np.random.default_rng(0).permutation(len(paths))[:CALIBRATION_FILMS]
    return [paths[index] for index in sorted(order)]
