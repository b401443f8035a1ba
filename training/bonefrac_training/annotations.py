"""What detectors are trained with: COCO JSON and Pascal VOC. A film is fractured when a fracture is drawn on it."""

from __future__ import annotations

import json
import posixpath
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from bonefrac.errors import UsageError
from bonefrac.labelled import Box
from bonefrac_training.catalogue import (
    SPLITS,
    Collection,
    Film,
    Folder,
    Label,
    Polygon,
    box,
    read_classes,
    split_of,
    split_word,
)

Drawn = tuple[str, Box, Polygon]  # a class' name, its box, and its outline where there is one
_NO_FILE = "but there is no such file, or several"


def drawn_film(
    folder: Folder, name: str, drawn: Iterable[Drawn], classes: dict[str, Label], *, split: str, relative: bool
) -> Film:
    """A film with what is drawn on it."""
    fractures = [(edges, outline) for kind, edges, outline in drawn if classes[kind] == "fractured"]
    return Film(
        folder.root / name,
        name,
        "fractured" if fractures else "normal",
        split=split,
        boxes=tuple(edges for edges, _ in fractures),
        polygons=tuple(outline for _, outline in fractures if outline),
        relative=relative,
    )


def bounds(outline: Polygon) -> Box:
    """The box round an outline."""
    xs, ys = zip(*outline, strict=True)
    return box(min(xs), min(ys), max(xs), max(ys))


# --- COCO: cocodataset.org, format-data ------------------------------------------------------------------------


def read_coco(folder: Folder) -> Collection | None:
    """JSON files with `images`, `annotations` and `categories`, one for each split or one for all."""
    sets = {name: found for name in folder.files if name.endswith(".json") and (found := _coco(folder, name))}
    if not sets:
        return None
    problems: list[tuple[str, str]] = []
    films: dict[str, Film] = {}
    source, names = "", set[str]()
    try:
        for source in sets:
            names |= {str(category["name"]) for category in sets[source]["categories"]}
        classes = read_classes(names, folder.positive, others=True, source=folder.root / source)
        for source, content in sets.items():
            for film in _coco_films(folder, source, content, classes, problems):
                first = films.setdefault(film.name, film)
                if first.split and film.split not in ("", first.split):
                    problems.append((film.name, f"{source} lists it again, which stands in {first.split} already"))
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(
            f"{folder.root / source}: a COCO file lacks a field or has one that is no number: {error}; mend it, or "
            "take it out of the folder"
        ) from error
    unlisted = [Film(folder.root / n, n, "unknown", split_of(n)) for n in folder.pictures if n not in films]
    return Collection(folder.root, "COCO", (*films.values(), *unlisted), classes, tuple(problems))


def _coco_films(
    folder: Folder, source: str, content: dict[str, Any], classes: dict[str, Label], problems: list[tuple[str, str]]
) -> Iterable[Film]:
    """The films that one file lists. One with an annotation of no known category is unknown, not normal."""
    categories = {category["id"]: str(category["name"]) for category in content["categories"]}
    shapes: dict[object, list[Drawn]] = {image["id"]: [] for image in content["images"]}
    doubtful = set[object]()
    for annotation in content["annotations"]:
        image, category, number = annotation["image_id"], annotation["category_id"], annotation.get("id")
        if image not in shapes:
            problems.append((source, f"annotation {number} is of the image {image}, which is not listed"))
        elif category not in categories:
            problems.append((source, f"annotation {number} is of the category {category}, which is not listed"))
            doubtful.add(image)
        else:
            shapes[image].append((categories[category], *_coco_shape(annotation)))
    for image in content["images"]:
        stated = str(image["file_name"])
        if not (name := folder.find(stated, posixpath.dirname(source))):
            problems.append((stated, f"{source} lists it, {_NO_FILE}"))
            continue
        split = split_of(name) or split_of(source) or _split_within(source)
        film = drawn_film(folder, name, shapes[image["id"]], classes, split=split, relative=False)
        yield replace(film, label="unknown") if image["id"] in doubtful and film.label == "normal" else film


def _coco(folder: Folder, name: str) -> dict[str, Any]:
    try:
        content = json.loads(folder.read(name))
        ok = isinstance(content, dict) and all(
            isinstance(content.get(k), list) for k in ("images", "annotations", "categories")
        )
        return content if ok else {}
    except json.JSONDecodeError as error:
        raise UsageError(
            f"{folder.root / name}: is damaged JSON: {error}; mend it, or take it out of the folder"
        ) from error


def _coco_shape(annotation: dict[str, Any]) -> tuple[Box, Polygon]:
    parts = annotation.get("segmentation")
    outline: Polygon = ()
    if isinstance(parts, list) and parts and isinstance(parts[0], list):
        outline = tuple(zip(map(float, parts[0][::2]), map(float, parts[0][1::2]), strict=False))
    if annotation.get("bbox"):
        x, y, width, height = map(float, annotation["bbox"])
        return box(x, y, x + width, y + height), outline
    return (bounds(outline) if outline else (0.0, 0.0, 0.0, 0.0)), outline


def _split_within(source: str) -> str:
    """The split in a name such as instances_val2017.json."""
    words = re.findall("[a-z]+", posixpath.basename(source).lower())
    return next((SPLITS[word] for word in words if word in SPLITS), "")


# --- Pascal VOC: the development kit's annotation XML ----------------------------------------------------------


def read_voc(folder: Folder) -> Collection | None:
    """An XML file for each film; splits from ImageSets/Main or from folders."""
    drawn: dict[str, list[Drawn]] = {}
    problems: list[tuple[str, str]] = []
    for source in (name for name in folder.files if name.endswith(".xml")):
        try:
            root = ET.fromstring((folder.root / source).read_bytes())
            if root.tag != "annotation":
                continue
            shapes = [_voc_object(found) for found in root.iter("object")]
        except (ET.ParseError, ValueError, LookupError, OSError) as error:  # LookupError: an encoding nobody knows
            problems.append((source, f"is no Pascal VOC file: {error}"))
            continue
        if name := _voc_film(folder, source, root.findtext("filename") or ""):
            drawn[name] = shapes
        else:
            stated = root.findtext("filename") or posixpath.basename(source)
            problems.append((stated, f"{source} describes it, {_NO_FILE}"))
    if not drawn:
        folder.doubts += [f"{name}: {text}" for name, text in problems]
        return None
    kinds = {kind for shapes in drawn.values() for kind, _, _ in shapes}
    classes = read_classes(kinds, folder.positive, others=True, source=f"{folder.root}: {len(drawn)} XML files")
    splits = _voc_splits(folder)
    films = [
        drawn_film(folder, name, shapes, classes, relative=False,
                   split=split_of(name) or splits.get(posixpath.splitext(posixpath.basename(name))[0], ""))
        for name, shapes in drawn.items()
    ]  # fmt: skip
    unlisted = [Film(folder.root / n, n, "unknown", split_of(n)) for n in folder.pictures if n not in drawn]
    return Collection(folder.root, "Pascal VOC", tuple(films + unlisted), classes, tuple(problems))


def _voc_film(folder: Folder, source: str, stated: str) -> str:
    """The picture that an XML file describes: the one that it names, else the one that is called like it."""
    beside, stem = posixpath.dirname(source), posixpath.splitext(posixpath.basename(source))[0]
    places = (beside, *(posixpath.join(posixpath.dirname(beside), place) for place in ("JPEGImages", "images")))
    return (folder.find(stated, *places) if stated else "") or folder.find(stem, *places)


def _voc_object(found: ET.Element) -> Drawn:
    edges = [found.findtext(f"bndbox/{edge}") for edge in ("xmin", "ymin", "xmax", "ymax")]
    if None in edges:
        raise ValueError("an object has no bndbox with xmin, ymin, xmax and ymax")
    return found.findtext("name") or "object without a name", box(*(float(edge or "nothing") for edge in edges)), ()


def _voc_splits(folder: Folder) -> dict[str, str]:
    splits: dict[str, str] = {}
    for name in folder.files:
        stem, suffix = posixpath.splitext(posixpath.basename(name))
        if suffix == ".txt" and "ImageSets" in name.split("/") and (split := split_word(stem)):
            splits |= {line.split()[0]: split for line in folder.read(name).splitlines() if line.strip()}
    return splits
