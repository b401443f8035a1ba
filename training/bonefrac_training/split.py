"""Which films train and which validate: `labels.csv` of the data itself, or a `split.csv` of `bonefrac-train audit`."""

from __future__ import annotations

import csv
import hashlib
from dataclasses import dataclass
from pathlib import Path

from bonefrac.errors import UsageError
from bonefrac.labelled import Box, LabelledFilm, read_labelled
from bonefrac_training.catalogue import read_classes


@dataclass(frozen=True)
class Split:
    """Films of the training folds and of the fold held out."""

    train: list[LabelledFilm]
    validation: list[LabelledFilm]

    @property
    def digest(self) -> str:
        """SHA-256 over every film's name, label, fold and boxes: another list is another run."""
        films = sorted(repr((f.path.name, f.fractured, f.fold, f.boxes)) for f in (*self.train, *self.validation))
        return hashlib.sha256("\n".join(films).encode()).hexdigest()


def read_split(data: Path, fold: int, *, table: Path | None = None, positive_class: str | None = None) -> Split:
    """All films of `data`, the fold `fold` held out. `table` has the columns image, label, group and fold; without it,
    `labels.csv` counts, then a `split.csv` in the data. Raises UsageError where a side has no film of a class."""
    if table is None and (data / "labels.csv").exists():
        if positive_class is not None:
            raise UsageError(f"{data / 'labels.csv'} says itself what is fractured: leave --positive-class out")
        films = read_labelled(data)
    elif table is not None or (data / "split.csv").exists():
        films = read_table(data, table or data / "split.csv", positive_class)
    else:
        raise UsageError(f"{data}: has neither labels.csv nor split.csv; bonefrac-train audit writes a split.csv")
    split = Split([f for f in films if f.fold != fold], [f for f in films if f.fold == fold])
    for name, side in (("training folds", split.train), (f"fold {fold}", split.validation)):
        if len({film.fractured for film in side}) < 2:
            folds = ", ".join(map(str, sorted({film.fold for film in films})))
            raise UsageError(f"{data}: the {name} lack films with or without a fracture; there are the folds {folds}")
    if spread := {film.group for film in split.train} & {film.group for film in split.validation}:
        raise UsageError(
            f"{data}: the group {min(spread)} is on both sides of the split: its figures would be too good"
        )
    return split


def read_table(data: Path, table: Path, positive_class: str | None) -> list[LabelledFilm]:
    """The films of a `split.csv`; rows without a fold are left out. `image` is a path from `data`; boxes are those of
    `boxes.csv`, if there is one. Labels are understood by their names, or by `positive_class`, never by their order."""
    try:
        with open(table, newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row["fold"] != ""]
        classes = read_classes({row["label"] for row in rows}, (positive_class,) if positive_class else ())
        boxes = _read_boxes(data / "boxes.csv")
        return [
            LabelledFilm(
                path=data / row["image"],
                fractured=classes[row["label"]] == "fractured",
                fold=int(row["fold"]),
                group=row["group"],
                boxes=tuple(boxes.get(row["image"], boxes.get(row["image"].removeprefix("images/"), ()))),
                regions=(),
            )
            for row in rows
        ]
    except OSError as error:
        raise UsageError(f"{error.filename}: cannot be read: {error.strerror}") from error
    except (KeyError, ValueError) as error:
        raise UsageError(f"{table}: lacks a column or has a fold that is no number: {error}") from error


def _read_boxes(path: Path) -> dict[str, list[Box]]:
    boxes: dict[str, list[Box]] = {}
    if path.exists():
        with open(path, newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                box = (float(row["x_min"]), float(row["y_min"]), float(row["x_max"]), float(row["y_max"]))
                boxes.setdefault(row["image_id"], []).append(box)
    return boxes
