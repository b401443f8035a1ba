"""Films to measure with: a sample of a folder that every peer can read, and folders of many films made of few."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path

from bonefrac.errors import FilmError, UsageError
from bonefrac.sources import list_films


def files_below(folder: Path) -> list[Path]:
    """The files that bonefrac-batch would list. Raises UsageError where there is none."""
    if not folder.is_dir():
        raise UsageError(f"{folder}: there is no such folder; name a folder of radiographs")
    files = [film.path for film in list_films([folder], folder, folder / ".none") if not film.problem]
    if not files:
        raise UsageError(f"{folder}: no files to measure with; name a folder of radiographs")
    return files


def sample(
    folder: Path, count: int, long_side: int, *, suffixes: Sequence[str] | None = None
) -> tuple[list[Path], int]:
    """At most `count` films, evenly spread over the folder's list, and how many of those taken were left out because
    one of the peers cannot read them, or only with another of the `suffixes`: all must do the same work.

    Raises UsageError where none is left.
    """
    taken = spread(files_below(folder), count)
    films = [
        path
        for path in taken
        if (suffixes is None or path.suffix.lower() in suffixes) and _is_readable(path, long_side)
    ]
    if not films:
        raise UsageError(
            f"{folder}: none of the {len(taken)} files looked at is a radiograph that can be measured with"
        )
    return films, len(taken) - len(films)


def spread(files: Sequence[Path], count: int) -> list[Path]:
    """At most `count` of them, evenly spread."""
    return [files[i * len(files) // count] for i in range(count)] if len(files) > count else list(files)


def _is_readable(path: Path, long_side: int) -> bool:
    """By the engine and by the naive loop's `cv2.imread`, which gives None where it fails."""
    import cv2

    from bonefrac.decode import decode

    try:
        decode(path.read_bytes(), long_side=long_side)
    except (FilmError, OSError):
        return False
    return cv2.imread(str(path)) is not None


def fill(folder: Path, films: Sequence[Path], count: int) -> None:
    """Make `folder` with `count` films, the given ones in turn: hard links, or copies on another disk."""
    folder.mkdir(parents=True)
    for number, film in enumerate(islice(cycle(films), count)):
        target = folder / f"{number:06}{film.suffix}"
        source = film.resolve()  # a link to a symbolic link would dangle
        try:
            os.link(source, target)
        except OSError:
            shutil.copyfile(source, target)
