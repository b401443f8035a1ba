"""Labelled films on disk, for all but the clinic: a folder with `labels.csv`, `boxes.csv` and `images/`."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from bonefrac.errors import UsageError

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class LabelledFilm:
    """One film and its truth. `boxes` are (x_min, y_min, x_max, y_max) in pixels of the file. Films of one `group` may
    show one patient: a group never spans two folds, and intervals are drawn over groups. `regions` are body parts."""

    path: Path
    fractured: bool
    fold: int
    group: str
    boxes: tuple[Box, ...]
    regions: tuple[str, ...]


def read_labelled(data: Path) -> list[LabelledFilm]:
    """The rows of `labels.csv` with `use` = 1 and their boxes. Raises UsageError where a file or column is missing."""
    try:
        boxes: dict[str, list[Box]] = {}
        with open(data / "boxes.csv", newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                box = (float(row["x_min"]), float(row["y_min"]), float(row["x_max"]), float(row["y_max"]))
                boxes.setdefault(row["image_id"], []).append(box)
        with open(data / "labels.csv", newline="", encoding="utf-8") as file:
            return [
                LabelledFilm(
                    path=data / "images" / row["image_id"],
                    fractured=row["fractured"] == "1",
                    fold=int(row["fold"]),
                    group=row["group"],
                    boxes=tuple(boxes.get(row["image_id"], ())),
                    regions=tuple(name for name in ("hand", "leg", "hip", "shoulder") if row.get(name) == "1"),
                )
                for row in csv.DictReader(file)
                if row["use"] == "1"
            ]
    except OSError as error:
        raise UsageError(f"{error.filename}: cannot be read: {error.strerror}") from error
    except (KeyError, ValueError) as error:
        raise UsageError(
            f"{data}: labels.csv or boxes.csv lacks a column or has a value that is no number: {error}"
        ) from error
