"""Layouts of detectors: YOLO, COCO JSON and Pascal VOC. A film is fractured when a fracture is drawn on it."""

from __future__ import annotations

import json
import posixpath
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from typing import Any

import yaml

from bonefrac.errors import UsageError
from bonefrac.labelled import Box
from bonefrac_training.catalogue import SPLITS, Collection, Film, Folder, Label, Polygon, read_classes, split_of

_Drawn = tuple[str, Box, Polygon]  # a class' name, its box, and its outline where there is one


def _film(
    folder: Folder, name: str, drawn: Iterable[_Drawn], classes: dict[str, Label], *, split: str, relative: bool
) -> Film:
    fractures = [(box, outline) for kind, box, outline in drawn if classes[kind] == "fractured"]
    return Film(
        folder.root / name,
        name,
        "fractured" if fractures else "normal",
        split=split,
        boxes=tuple(box for box, _ in fractures),
        polygons=tuple(outline for _, outline in fractures if outline),
        relative=relative,
    )


def _bounds(outline: Polygon) -> Box:
    xs, ys = zip(*outline, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


# --- YOLO: docs.ultralytics.com/datasets/detect and /segment ---------------------------------------------------


def read_yolo(folder: Folder) -> Collection | None:
    """`images/` beside `labels/`, in either order with the splits; a film without a label file has no fracture."""
    texts = {name for name in folder.files if name.endswith(".txt")}
    partners = {name: _yolo_partner(name, texts) for name in folder.pictures}
    description = next((name for name in folder.files if posixpath.basename(name) in ("data.yaml", "data.yml")), "")
    if not any(partners.values()) and not (description and folder.pictures):
        return None
    names = _yolo_names(folder, description)
    problems: list[tuple[str, str]] = []
    drawn: dict[str, list[_Drawn]] = {}
    for picture, text in partners.items():
        try:
            lines = folder.read(text).splitlines() if text else []
            drawn[picture] = [_yolo_line(line, names) for line in lines if line.strip()]
        except (ValueError, UsageError) as error:
            problems.append((text, f"is no YOLO label file: {error}"))
    used = {kind for shapes in drawn.values() for kind, _, _ in shapes}
    classes = read_classes({*names.values(), *used}, folder.positive, others=True)
    films = [
        _film(folder, name, shapes, classes, split=split_of(name), relative=True) for name, shapes in drawn.items()
    ]
    unknown = [Film(folder.root / n, n, "unknown", split_of(n)) for n in folder.pictures if n not in drawn]
    return Collection(folder.root, "YOLO", tuple(films + unknown), classes, tuple(problems))


def _yolo_partner(picture: str, texts: set[str]) -> str:
    """The label file of a picture: the last folder `images` becomes `labels`, or beside it; "" where it has none."""
    stem = posixpath.splitext(picture)[0]
    swapped = re.sub(r"(^|.*/)images/", r"\1labels/", stem, count=1)
    return next((name for name in (swapped + ".txt", stem + ".txt") if name in texts), "")


def _yolo_names(folder: Folder, description: str) -> dict[str, str]:
    """Class names by their number as text, from data.yaml or classes.txt; empty where nobody wrote them down."""
    if description:
        try:
            stated = yaml.safe_load(folder.read(description))["names"]
            pairs = stated.items() if isinstance(stated, dict) else enumerate(stated)
            return {str(number): str(name) for number, name in pairs}
        except (yaml.YAMLError, KeyError, TypeError) as error:
            raise UsageError(f"{folder.root / description}: has no list `names` of the classes") from error
    listed = next((name for name in folder.files if posixpath.basename(name) in ("classes.txt", "obj.names")), "")
    return {str(number): name for number, name in enumerate(folder.read(listed).split("\n"))} if listed else {}


def _yolo_line(line: str, names: dict[str, str]) -> _Drawn:
    """`class x y width height`, or `class x1 y1 x2 y2 x3 y3 ...`, all but the class in shares of the film."""
    kind, *numbers = line.split()
    values = [float(number) for number in numbers]
    name = names.get(kind, f"class {int(kind)}")
    if len(values) == 4:
        x, y, width, height = values
        return name, (x - width / 2, y - height / 2, x + width / 2, y + height / 2), ()
    if len(values) < 6 or len(values) % 2:
        raise ValueError(f"a line of {len(values)} numbers after the class is neither a box nor a polygon")
    outline = tuple(zip(values[::2], values[1::2], strict=True))
    return name, _bounds(outline), outline


# --- COCO: cocodataset.org, format-data ------------------------------------------------------------------------


def read_coco(folder: Folder) -> Collection | None:
    """JSON files with `images`, `annotations` and `categories`, one for each split or one for all."""
    sets = {name: content for name in folder.files if name.endswith(".json") and (content := _coco(folder, name))}
    if not sets:
        return None
    problems: list[tuple[str, str]] = []
    films: dict[str, Film] = {}
    try:
        names = {str(category["name"]) for content in sets.values() for category in content["categories"]}
        classes = read_classes(names, folder.positive, others=True)
        for source, content in sets.items():
            shapes = _coco_shapes(content, source, problems)
            for image in content["images"]:
                name = folder.find(str(image["file_name"]), posixpath.dirname(source))
                if not name:
                    problems.append(
                        (str(image["file_name"]), f"{source} lists it, but there is no such file, or several")
                    )
                    continue
                split = split_of(name) or split_of(source) or _split_word(source)
                film = _film(folder, name, shapes.get(image["id"], ()), classes, split=split, relative=False)
                films.setdefault(name, film)
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{folder.root}: a COCO file lacks a field or has one that is no number: {error}") from error
    unlisted = [Film(folder.root / n, n, "unknown", split_of(n)) for n in folder.pictures if n not in films]
    return Collection(folder.root, "COCO", (*films.values(), *unlisted), classes, tuple(problems))


def _coco_shapes(content: dict[str, Any], source: str, problems: list[tuple[str, str]]) -> dict[object, list[_Drawn]]:
    """What is drawn on each image, by the image's id."""
    categories = {category["id"]: str(category["name"]) for category in content["categories"]}
    shapes: dict[object, list[_Drawn]] = {}
    for annotation in content["annotations"]:
        if kind := categories.get(annotation["category_id"], ""):
            shapes.setdefault(annotation["image_id"], []).append((kind, *_coco_shape(annotation)))
        else:
            problems.append((source, f"annotation {annotation.get('id')} is of a category that is not listed"))
    return shapes


def _coco(folder: Folder, name: str) -> dict[str, Any]:
    try:
        content = json.loads(folder.read(name))
        ok = isinstance(content, dict) and all(
            isinstance(content.get(k), list) for k in ("images", "annotations", "categories")
        )
        return content if ok else {}
    except json.JSONDecodeError as error:
        raise UsageError(f"{folder.root / name}: is damaged JSON: {error}") from error


def _coco_shape(annotation: dict[str, Any]) -> tuple[Box, Polygon]:
    parts = annotation.get("segmentation")
    outline: Polygon = ()
    if isinstance(parts, list) and parts and isinstance(parts[0], list):
        outline = tuple(zip(map(float, parts[0][::2]), map(float, parts[0][1::2]), strict=False))
    if "bbox" in annotation:
        x, y, width, height = map(float, annotation["bbox"])
        return (x, y, x + width, y + height), outline
    return (_bounds(outline) if outline else (0.0, 0.0, 0.0, 0.0)), outline


def _split_word(source: str) -> str:
    """The split in a name such as instances_val2017.json."""
    words = re.findall("[a-z]+", posixpath.basename(source).lower())
    return next((SPLITS[word] for word in words if word in SPLITS), "")


# --- Pascal VOC: the development kit's annotation XML ----------------------------------------------------------


def read_voc(folder: Folder) -> Collection | None:
    """An XML file for each film; splits from ImageSets/Main or from folders."""
    drawn: dict[str, list[_Drawn]] = {}
    problems: list[tuple[str, str]] = []
    for source in (name for name in folder.files if name.endswith(".xml")):
        try:
            root = ET.fromstring(folder.read(source))
            if root.tag != "annotation":
                continue
            stated = root.findtext("filename") or posixpath.basename(source)
            above = posixpath.dirname(posixpath.dirname(source))
            places = (posixpath.dirname(source), posixpath.join(above, "JPEGImages"), posixpath.join(above, "images"))
            shapes = [_voc_object(found) for found in root.iter("object")]
        except (ET.ParseError, ValueError) as error:
            problems.append((source, f"is no Pascal VOC file: {error}"))
            continue
        if name := folder.find(stated, *places):
            drawn[name] = shapes
        else:
            problems.append((stated, f"{source} describes it, but there is no such file, or several"))
    if not drawn and not problems:
        return None
    classes = read_classes({kind for s in drawn.values() for kind, _, _ in s}, folder.positive, others=True)
    splits = _voc_splits(folder)
    films = [
        _film(folder, name, shapes, classes, relative=False,
              split=split_of(name) or splits.get(posixpath.splitext(posixpath.basename(name))[0], ""))
        for name, shapes in drawn.items()
    ]  # fmt: skip
    unlisted = [Film(folder.root / n, n, "unknown", split_of(n)) for n in folder.pictures if n not in drawn]
    return Collection(folder.root, "Pascal VOC", tuple(films + unlisted), classes, tuple(problems))


def _voc_object(found: ET.Element) -> _Drawn:
    x0, y0, x1, y1 = (float(found.findtext(f"bndbox/{edge}") or "none") for edge in ("xmin", "ymin", "xmax", "ymax"))
    return found.findtext("name") or "object without a name", (x0, y0, x1, y1), ()


def _voc_splits(folder: Folder) -> dict[str, str]:
    splits: dict[str, str] = {}
    for name in folder.files:
        stem, suffix = posixpath.splitext(posixpath.basename(name))
        if suffix == ".txt" and stem in SPLITS and "ImageSets" in name.split("/"):
            for line in folder.read(name).splitlines():
                if line.strip():
                    splits[line.split()[0]] = SPLITS[stem]
    return splits
