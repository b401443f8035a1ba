"""Labelled films on disk, for all but the clinic: a folder with `labels.csv`, `boxes.csv` and `images/`."""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bonefrac.errors import UsageError

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class LabelledFilm:
    """One film and its truth. `boxes` are (x_min, y_min, x_max, y_max) in pixels of the file. Films of one `group` may
    show one patient: a group never spans two folds, and intervals are drawn over groups. `regions` are body parts.
    `hardware`: whether metal holds the bone; None where the collection does not say."""

    path: Path
    fractured: bool
    fold: int
    group: str
    boxes: tuple[Box, ...]
    regions: tuple[str, ...]
    hardware: bool | None = None


_yes_or_no = {"1": True, "0": False}


def read_labelled(data: Path) -> list[LabelledFilm]:
    """The rows of `labels.csv` with `use` = 1 and their boxes; `data` is the folder, or such a table with `images/`
    and, where fractures' places are known, `boxes.csv` beside it. Raises UsageError where the table or a column is
    missing, or `fractured` is neither 0 nor 1."""
    folder, labels = (data.parent, data) if data.is_file() else (data, data / "labels.csv")
    try:
        boxes: dict[str, list[Box]] = {}
        beside = folder / "boxes.csv"
        with open(beside if beside.exists() else os.devnull, newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                box = (float(row["x_min"]), float(row["y_min"]), float(row["x_max"]), float(row["y_max"]))
                boxes.setdefault(row["image_id"], []).append(box)
        with open(labels, newline="", encoding="utf-8") as file:
            return [
                LabelledFilm(
                    path=folder / "images" / row["image_id"],
                    fractured=_yes_or_no[row["fractured"]],
                    fold=int(row["fold"]),
                    group=row["group"],
                    boxes=tuple(boxes.get(row["image_id"], ())),
                    regions=tuple(name for name in ("hand", "leg", "hip", "shoulder") if row.get(name) == "1"),
                    hardware=row["hardware"] == "1" if row.get("hardware") else None,
                )
                for row in csv.DictReader(file)
                if row["use"] == "1"
            ]
    except OSError as error:
        raise UsageError(f"{error.filename}: cannot be read: {error.strerror}") from error
    except (KeyError, ValueError) as error:
        raise UsageError(
            f"{folder}: {labels.name} or boxes.csv lacks a column or has a value that cannot be: {error}"
        ) from error


def list_hash(films: Iterable[LabelledFilm]) -> str:
    """`files_hash` of labelled films."""
    return files_hash(film.path for film in films)


def files_hash(paths: Iterable[Path]) -> str:
    """SHA-256 of the sorted lines `sha256  name` of the files, as `sha256sum` prints them: which films these are,
    whatever their folder is called. Raises UsageError for a file that cannot be read."""
    try:
        lines = sorted(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in paths)
    except OSError as error:
        raise UsageError(f"{error.filename}: cannot be read: {error.strerror}") from error
    return hashlib.sha256("".join(lines).encode()).hexdigest()
