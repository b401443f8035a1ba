"""Every layout that people keep labelled films in -> one `Film` for each film."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from bonefrac.errors import UsageError
from bonefrac.labelled import Box
from bonefrac.sources import list_films
from bonefrac_training.annotations import read_coco, read_voc
from bonefrac_training.catalogue import (
    Collection,
    Film,
    Folder,
    Label,
    box,
    class_folders,
    polarity,
    read_classes,
    split_of,
    split_word,
)
from bonefrac_training.yolo import read_yolo

_IMAGE = ("image_id", "image", "path", "file", "filename", "file_name", "image_path", "image_name")
_LABEL = ("fractured", "fracture", "abnormal", "label", "class", "category", "target", "diagnosis")
_SPLIT = ("split", "set", "subset", "partition", "fold")
_GROUP = ("group", "patient", "patient_id", "patientid", "subject", "subject_id")
_REGION = ("region", "body_part", "bodypart", "anatomy")
_REGIONS = ("hand", "wrist", "forearm", "elbow", "leg", "knee", "ankle", "foot", "hip", "shoulder")
_MOST_DOUBTS, _MOST_COLUMNS = 4, 6  # that a refusal names
_YES, _NO = frozenset({"1", "1.0", "true", "yes", "y"}), frozenset({"0", "0.0", "false", "no", "n"})
_MURA = re.compile(r"(?:^|/)(?:XR_(\w+)/)?(?:(patient\w+)/)?study\w*_(positive|negative)/[^/]+$", re.IGNORECASE)


def read_collection(data: Path, *, out: Path, positive_class: tuple[str, ...] = ()) -> Collection:
    """Read a folder of labelled films in whatever layout it has; what lies in `out` is left out.

    Raises UsageError where there is no film, no label, or a class whose name does not tell what it means.
    """
    names = [film.name for film in list_films([data], data, out) if not film.problem]
    folder = Folder(data, names, positive_class)
    if not folder.pictures:
        raise UsageError(f"{data}: holds no picture ({len(names)} other files); name the folder with the films")
    for reader in (read_table, read_coco, read_voc, read_mura, read_yolo, read_folders):
        if collection := reader(folder):
            return replace(collection, notes=(*collection.notes, *folder.doubts))
    doubts = f" ({'; '.join(folder.doubts[:_MOST_DOUBTS])})" if folder.doubts else ""
    raise UsageError(
        f"{data}: no label for any of the {len(folder.pictures)} pictures{doubts}; put them into a folder for each "
        "class, or add a labels.csv with the columns image and label"
    )


# --- a table ---------------------------------------------------------------------------------------------------


def read_table(folder: Folder) -> Collection | None:
    """`labels.csv`, or the one CSV file of the folder that has a column of images and one of labels; `boxes.csv`."""
    others = ("boxes.csv", "split.csv")  # an audit's own split says nothing new
    tables = [name for name in folder.files if name.lower().endswith(".csv") and "/" not in name and name not in others]
    found = {name: rows for name in tables if (rows := _label_rows(folder, name))}
    if not found:
        return None
    source = "labels.csv" if "labels.csv" in found else sorted(found)[0]
    if len(found) > 1 and source != "labels.csv":
        raise UsageError(
            f"{folder.root}: {', '.join(sorted(found))} all hold labels; call the one that counts labels.csv"
        )
    rows, header = found[source], list(found[source][0])
    image, label = _column(header, _IMAGE), _column(header, _LABEL)
    labels, classes = _table_labels(folder, source, label, [row[label] for row in rows])
    boxes, problems = _table_boxes(folder)
    films: dict[str, Film] = {}
    for row, meaning in zip(rows, labels, strict=True):
        name = folder.find(row[image])
        if not name:
            problems.append((row[image], f"{source} lists it, but there is no such file, or several"))
        elif name in films:
            problems.append((row[image], f"{source} lists it twice; the first row counts"))
        else:
            films[name] = _table_film(folder, name, row, meaning, boxes.pop(name, ()))
    problems += [(name, "boxes.csv has boxes for it, but no row says what it is") for name in boxes]
    unlisted = [Film(folder.root / n, n, "unknown", split_of(n)) for n in folder.pictures if n not in films]
    return Collection(folder.root, f"table ({source})", (*films.values(), *unlisted), classes, tuple(problems))


def _label_rows(folder: Folder, name: str) -> list[dict[str, str]]:
    """The rows of a table of labels, column names in small letters; none, and a doubt, where it is another table."""
    lines = _cells(folder, name)
    header = [column.strip().lower() for column in next(lines, (0, []))[1]]
    if not _column(header, _IMAGE) or not _column(header, _LABEL):
        columns = ", ".join(header[:_MOST_COLUMNS]) + (" …" if len(header) > _MOST_COLUMNS else "")
        there = f"has the columns {columns}, not image and label" if columns else "is empty"
        folder.doubts.append(f"{name}: is no table of labels, for it {there}")
        return []
    rows = []
    for number, line in lines:
        if len(line) != len(header):
            raise UsageError(
                f"{folder.root / name}: line {number} has {len(line)} cells, not {len(header)}; mend that line"
            )
        rows.append({column: cell.strip() for column, cell in zip(header, line, strict=True)})
    if not rows:
        folder.doubts.append(f"{name}: holds no line below its header")
    return rows


def _cells(folder: Folder, name: str) -> Iterator[tuple[int, list[str]]]:
    """The lines of a table that are not empty, by number; cells stand between commas, semicolons or tabs."""
    text = folder.read(name)
    first = text.lstrip().partition("\n")[0]
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count))
    try:
        yield from ((lines.line_num, line) for line in lines if line)
    except csv.Error as error:
        raise UsageError(f"{folder.root / name}: line {lines.line_num} cannot be read: {error}; mend it") from error


def _column(header: list[str], names: tuple[str, ...]) -> str:
    return next((name for name in names if name in header), "")


def _table_labels(folder: Folder, source: str, column: str, cells: list[str]) -> tuple[list[Label], dict[str, Label]]:
    """Each row's label. In a column called `fractured`, 1 is a fracture; elsewhere the cells are class names."""
    stated = {cell for cell in cells if cell}
    meaning = polarity(column)
    if stated and not folder.positive and meaning != "unknown" and {cell.lower() for cell in stated} <= _YES | _NO:
        classes: dict[str, Label] = {c: "fractured" if c.lower() in _YES else "normal" for c in stated}
        return [classes.get(cell, "unknown") for cell in cells], {f"{column} = {c}": classes[c] for c in sorted(stated)}
    classes = read_classes(stated, folder.positive, source=folder.root / source)
    return [classes.get(cell, "unknown") for cell in cells], classes


def _table_film(folder: Folder, name: str, row: dict[str, str], label: Label, boxes: tuple[Box, ...]) -> Film:
    header = list(row)
    split, group, region = (row.get(_column(header, names), "") for names in (_SPLIT, _GROUP, _REGION))
    named = split_word(split) or (f"{_column(header, _SPLIT)} {split}" if split else "")
    return Film(
        folder.root / name,
        name,
        label,
        split=named or split_of(name),
        group=group,
        region=region or "+".join(part for part in _REGIONS if row.get(part, "").lower() in _YES),
        boxes=boxes,
        use=row.get("use", "").lower() not in _NO,
    )


def _table_boxes(folder: Folder) -> tuple[dict[str, tuple[Box, ...]], list[tuple[str, str]]]:
    """The boxes of boxes.csv by film, or by the name as written there; what is wrong with the others."""
    boxes: dict[str, tuple[Box, ...]] = {}
    problems: list[tuple[str, str]] = []
    if "boxes.csv" not in folder.files:
        return boxes, problems
    lines = _cells(folder, "boxes.csv")
    header = [column.strip().lower() for column in next(lines, (0, []))[1]]
    for number, line in lines:
        row = dict(zip(header, line, strict=False))
        stated = row.get(_column(header, _IMAGE), "").strip()
        try:
            found = box(*(float(row[edge]) for edge in ("x_min", "y_min", "x_max", "y_max")))
            name = folder.find(stated) or stated
            boxes[name] = (*boxes.get(name, ()), found)
        except (KeyError, ValueError):
            problems.append(("boxes.csv", f"line {number} has no numbers x_min, y_min, x_max, y_max"))
    return boxes, problems


# --- folders ---------------------------------------------------------------------------------------------------


def read_mura(folder: Folder) -> Collection | None:
    """MURA's `train/XR_WRIST/patient00001/study1_positive/image1.png`."""
    found = {name: match for name in folder.pictures if (match := _MURA.search(name))}
    if not found:
        return None
    classes = read_classes({match[3].lower() for match in found.values()}, folder.positive)
    films = [
        Film(
            folder.root / name,
            name,
            classes[match[3].lower()],
            split_of(name),
            match[2] or "",
            (match[1] or "").lower(),
        )
        for name, match in found.items()
    ]
    rest = [Film(folder.root / n, n, "unknown", split_of(n)) for n in folder.pictures if n not in found]
    note = "MURA calls a study positive when anything in it is abnormal: arthritis counts too, not only fractures."
    return Collection(folder.root, "MURA", tuple(films + rest), classes, notes=(note,))


def read_folders(folder: Folder) -> Collection | None:
    """A folder for each class, in or around folders for the splits; deeper folders may follow. Boxes of boxes.csv."""
    parts = {name: class_folders(name) for name in folder.pictures}
    level = _class_level(list(parts.values()), folder.positive)
    names = {p[level] for p in parts.values() if len(p) > level}
    if not names:
        return None
    classes = read_classes(names, folder.positive)
    boxes, problems = _table_boxes(folder)
    films = [
        Film(
            folder.root / name,
            name,
            classes[p[level]] if len(p) > level else "unknown",
            split_of(name),
            boxes=boxes.pop(name, ()),
        )
        for name, p in parts.items()
    ]
    problems += [(name, "boxes.csv has boxes for it, but there is no such film") for name in boxes]
    return Collection(folder.root, "class folders", tuple(films), classes, tuple(problems))


def _class_level(rows: list[list[str]], positive: tuple[str, ...]) -> int:
    """How deep the classes' folders lie: the first level that holds a class that the user names; else both classes;
    else one of them, for a folder around all may be called after what it is of; or the first."""
    wanted = {name.casefold() for name in positive}
    levels = [{row[level] for row in rows if len(row) > level} for level in range(max(map(len, rows), default=0))]
    if wanted:
        return next((n for n, names in enumerate(levels) if any(name.casefold() in wanted for name in names)), 0)
    told = [{polarity(name) for name in names} - {"unknown"} for names in levels]
    return next((n for fewest in (2, 1) for n, labels in enumerate(told) if len(labels) >= fewest), 0)
