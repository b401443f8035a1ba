"""Every layout that people keep labelled films in -> one `Film` for each film."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

from bonefrac.errors import UsageError
from bonefrac.labelled import Box
from bonefrac.sources import list_films
from bonefrac_training.annotations import read_coco, read_voc, read_yolo
from bonefrac_training.catalogue import SPLITS, Collection, Film, Folder, Label, polarity, read_classes, split_of

_IMAGE = ("image_id", "image", "path", "file", "filename", "file_name", "image_path", "image_name")
_LABEL = ("fractured", "fracture", "abnormal", "label", "class", "category", "target", "diagnosis")
_SPLIT = ("split", "set", "subset", "partition", "fold")
_GROUP = ("group", "patient", "patient_id", "patientid", "subject", "subject_id")
_REGION = ("region", "body_part", "bodypart", "anatomy")
_REGIONS = ("hand", "wrist", "forearm", "elbow", "leg", "knee", "ankle", "foot", "hip", "shoulder")
_YES, _NO = frozenset({"1", "1.0", "true", "yes", "y"}), frozenset({"0", "0.0", "false", "no", "n"})
_MURA = re.compile(r"(?:^|/)(?:XR_(\w+)/)?(patient\w+)/study\w*_(positive|negative)/[^/]+$", re.IGNORECASE)


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
            return collection
    raise UsageError(
        f"{data}: {len(folder.pictures)} pictures without labels; put them into a folder for each class, or add a "
        "labels.csv with the columns image and label"
    )


# --- a table ---------------------------------------------------------------------------------------------------


def read_table(folder: Folder) -> Collection | None:
    """`labels.csv`, or the one CSV file of the folder that has a column of images and one of labels; `boxes.csv`."""
    others = ("boxes.csv", "split.csv")  # an audit's own split says nothing new
    tables = [name for name in folder.files if name.endswith(".csv") and "/" not in name and name not in others]
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
    labels, classes = _table_labels(folder, label, [row[label] for row in rows])
    boxes, problems = _table_boxes(folder)
    films: dict[str, Film] = {}
    for row, meaning in zip(rows, labels, strict=True):
        name = folder.find(row[image])
        if not name:
            problems.append((row[image], f"{source} lists it, but there is no such file, or several"))
        elif name in films:
            problems.append((row[image], f"{source} lists it twice; the first row counts"))
        else:
            films[name] = _table_film(folder, name, row, meaning, boxes.pop(row[image], ()))
    problems += [(name, "boxes.csv has boxes for it, but no row says what it is") for name in boxes]
    unlisted = [Film(folder.root / n, n, "unknown", split_of(n)) for n in folder.pictures if n not in films]
    return Collection(folder.root, f"table ({source})", (*films.values(), *unlisted), classes, tuple(problems))


def _label_rows(folder: Folder, name: str) -> list[dict[str, str]]:
    """The rows of a table of labels, column names in small letters; none where it is another table."""
    text = folder.read(name)
    lines = csv.reader(io.StringIO(text, newline=""))
    header = [column.strip().lower() for column in next(lines, [])]
    if not _column(header, _IMAGE) or not _column(header, _LABEL):
        return []
    rows = []
    for line in lines:
        if len(line) != len(header):
            if not line:
                continue
            raise UsageError(f"{folder.root / name}: line {lines.line_num} has {len(line)} cells, not {len(header)}")
        rows.append({column: cell.strip() for column, cell in zip(header, line, strict=True)})
    return rows


def _column(header: list[str], names: tuple[str, ...]) -> str:
    return next((name for name in names if name in header), "")


def _table_labels(folder: Folder, column: str, cells: list[str]) -> tuple[list[Label], dict[str, Label]]:
    """Each row's label. In a column called `fractured`, 1 is a fracture; elsewhere the cells are class names."""
    stated = {cell for cell in cells if cell}
    meaning = polarity(column)
    if not folder.positive and meaning != "unknown" and {cell.lower() for cell in stated} <= _YES | _NO:
        classes: dict[str, Label] = {c: "fractured" if c.lower() in _YES else "normal" for c in stated}
        return [classes.get(cell, "unknown") for cell in cells], {f"{column} = {c}": classes[c] for c in sorted(stated)}
    classes = read_classes(stated, folder.positive)
    return [classes.get(cell, "unknown") for cell in cells], classes


def _table_film(folder: Folder, name: str, row: dict[str, str], label: Label, boxes: tuple[Box, ...]) -> Film:
    header = list(row)
    split, group, region = (row.get(_column(header, names), "") for names in (_SPLIT, _GROUP, _REGION))
    named = SPLITS.get(split.lower(), f"{_column(header, _SPLIT)} {split}" if split else "")
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
    """The boxes of boxes.csv by the image's name as written there, and what is wrong with the others."""
    boxes: dict[str, tuple[Box, ...]] = {}
    problems: list[tuple[str, str]] = []
    if "boxes.csv" not in folder.files:
        return boxes, problems
    for number, row in enumerate(csv.DictReader(io.StringIO(folder.read("boxes.csv"), newline="")), 2):
        image = row.get(_column(list(row), _IMAGE)) or ""
        try:
            box = (float(row["x_min"]), float(row["y_min"]), float(row["x_max"]), float(row["y_max"]))
            boxes[image] = (*boxes.get(image, ()), box)
        except (KeyError, ValueError, TypeError):
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
        Film(folder.root / name, name, classes[match[3].lower()], split_of(name), match[2], (match[1] or "").lower())
        for name, match in found.items()
    ]
    rest = [Film(folder.root / n, n, "unknown", split_of(n)) for n in folder.pictures if n not in found]
    note = "MURA calls a study positive when anything in it is abnormal: arthritis counts too, not only fractures."
    return Collection(folder.root, "MURA", tuple(films + rest), classes, notes=(note,))


def read_folders(folder: Folder) -> Collection | None:
    """A folder for each class, in or around folders for the splits; deeper folders may follow."""
    parts = {n: [p for p in n.split("/")[:-1] if p.lower() not in SPLITS] for n in folder.pictures}
    level = _class_level(list(parts.values()), folder.positive)
    names = {p[level] for p in parts.values() if len(p) > level}
    if not names:
        return None
    classes = read_classes(names, folder.positive)
    films = [
        Film(folder.root / name, name, classes[p[level]] if len(p) > level else "unknown", split_of(name))
        for name, p in parts.items()
    ]
    return Collection(folder.root, "class folders", tuple(films), classes)


def _class_level(rows: list[list[str]], positive: tuple[str, ...]) -> int:
    """How deep the classes' folders lie: the first level with a name that means something, or the first."""
    wanted = {name.casefold() for name in positive}
    for level in range(max(map(len, rows), default=0)):
        names = {row[level] for row in rows if len(row) > level}
        if any(name.casefold() in wanted if wanted else polarity(name) != "unknown" for name in names):
            return level
    return 0
