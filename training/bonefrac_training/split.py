"""Which films train and which validate: `labels.csv` of the data itself, or a `split.csv` of `bonefrac-train audit`."""

from __future__ import annotations

import csv
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from bonefrac.errors import UsageError
from bonefrac.labelled import Box, LabelledFilm, read_labelled
from bonefrac_training.catalogue import read_classes

_ASKED = ("image_id", "fractured", "fold", "group", "use")  # what training asks of a labels.csv


@dataclass(frozen=True)
class Split:
    """Films of the training folds and of the fold held out, all of the folder `data`."""

    train: list[LabelledFilm]
    validation: list[LabelledFilm]
    data: Path

    @property
    def digest(self) -> str:
        """SHA-256 over every film's name, label, fold and boxes: another list is another run.

        A name is the file's alone where that tells all films apart, as earlier runs recorded it, else the path in the
        data.
        """
        films = [*self.train, *self.validation]
        names = [film.path.name for film in films]
        if len(set(names)) < len(names):
            names = [Path(os.path.relpath(film.path, self.data)).as_posix() for film in films]
        lines = sorted(repr((n, f.fractured, f.fold, f.boxes)) for n, f in zip(names, films, strict=True))
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def read_split(data: Path, fold: int, *, table: Path | None = None, positive_class: str | None = None) -> Split:
    """All films of `data`, the fold `fold` held out. `table` has the columns image, label, group and fold; without it,
    `labels.csv` counts, then a `split.csv` in the data. Raises UsageError where a side has no film of a class."""
    if table is None and (data / "labels.csv").exists():
        films = _read_labels(data, positive_class)
    elif table is not None or (data / "split.csv").exists():
        films = read_table(data, table or data / "split.csv", positive_class)
    else:
        raise UsageError(f"{data}: has neither labels.csv nor split.csv; bonefrac-train audit writes a split.csv")
    split = Split([f for f in films if f.fold != fold], [f for f in films if f.fold == fold], data)
    for name, side in (("training folds", split.train), (f"fold {fold}", split.validation)):
        if len({film.fractured for film in side}) < 2:
            folds = ", ".join(map(str, sorted({film.fold for film in films})))
            raise UsageError(f"{data}: the {name} lack films with or without a fracture; there are the folds {folds}")
    if spread := {film.group for film in split.train} & {film.group for film in split.validation}:
        raise UsageError(
            f"{data}: the group {min(spread)} is on both sides of the split: its figures would be too good"
        )
    return split


def _read_labels(data: Path, positive_class: str | None) -> list[LabelledFilm]:
    """`labels.csv` of the data itself, where it says all that training asks."""
    table = data / "labels.csv"
    try:
        with open(table, newline="", encoding="utf-8") as file:
            header = next(csv.reader(file), [])
    except (OSError, ValueError, csv.Error) as error:
        raise UsageError(f"{table}: cannot be read as a table: {error}") from error
    if lacking := [name for name in _ASKED if name not in header]:
        raise UsageError(
            f"{table}: lacks the column {', '.join(lacking)}: run bonefrac-train audit {data}, which makes groups and"
            " folds, and give its split.csv with --split"
        )
    if positive_class is not None:
        raise UsageError(f"{table} says itself what is fractured: leave --positive-class out")
    return read_labelled(data)


def read_table(data: Path, table: Path, positive_class: str | None) -> list[LabelledFilm]:
    """The films of a `split.csv`; rows without a fold are left out. `image` is a path from `data`; boxes are those of
    the `boxes.csv` beside the table, else of the data's, if there is one. Labels are understood by their names, or by
    `positive_class`, never by their order."""
    try:
        with open(table, newline="", encoding="utf-8", errors="surrogateescape") as file:
            rows = [row for row in csv.DictReader(file) if row["fold"] != ""]
        if not rows:
            raise UsageError(f"{table}: has no film with a fold; the page of bonefrac-train audit says why")
        classes = read_classes({row["label"] for row in rows}, (positive_class,) if positive_class else ())
        beside = table.with_name("boxes.csv")
        boxes = _read_boxes(beside if beside.exists() else data / "boxes.csv")
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
    except (KeyError, ValueError, TypeError, csv.Error) as error:
        raise UsageError(f"{table}: lacks a column or has a fold that is no number: {error}") from error


def _read_boxes(path: Path) -> dict[str, list[Box]]:
    boxes: dict[str, list[Box]] = {}
    if path.exists():
        try:
            with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
                for row in csv.DictReader(file):
                    box = (float(row["x_min"]), float(row["y_min"]), float(row["x_max"]), float(row["y_max"]))
                    boxes.setdefault(row["image_id"], []).append(box)
        except (KeyError, ValueError, TypeError, csv.Error) as error:
            raise UsageError(f"{path}: lacks a column, or has a side that is no number: {error}") from error
    return boxes
