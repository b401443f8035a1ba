"""YOLO's layout (docs.ultralytics.com/datasets/detect): a film is fractured when a fracture is drawn on it."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

import yaml

from bonefrac.errors import UsageError
from bonefrac_training.annotations import Drawn, bounds, drawn_film
from bonefrac_training.catalogue import SPLITS, Collection, Film, Folder, box, read_classes, split_of

Problems = list[tuple[str, str]]
T = TypeVar("T")
_DESCRIPTIONS, _LISTS = ("data.yaml", "data.yml"), ("classes.txt", "obj.names")


def read_yolo(folder: Folder) -> Collection | None:
    """`images/` beside `labels/`, in either order with the splits; a film without a label file has no fracture.

    Names and splits are those of data.yaml, each for its own folder, or names of classes.txt and splits of folders.
    """
    texts = {name.lower(): name for name in folder.files if name.lower().endswith(".txt")}
    partners = {name: _partner(name, texts) for name in folder.pictures}
    labels = [text for text in texts.values() if _is_label(folder, text)]
    descriptions = [name for name in folder.files if posixpath.basename(name) in _DESCRIPTIONS]
    if not set(labels) & set(partners.values()):
        folder.doubts += [
            f"{name}: belongs to YOLO labels, and none fits a picture" for name in (*descriptions, *labels[:1])
        ]
        return None
    problems: Problems = []
    described = {name: _description(folder, name) for name in descriptions}
    names = _names_by_folder(folder, described)
    drawn: dict[str, list[Drawn]] = {}
    for picture, text in partners.items():
        known = _nearest(folder, text or picture, names)
        try:
            lines = folder.read(text).splitlines() if text else []
            drawn[picture] = [_drawn(line, known) for line in lines if line.strip()]
        except (ValueError, UsageError) as error:
            problems.append((text, f"is no YOLO label file: {error}"))
    splits = _splits(folder, described, problems)
    problems += [(text, "labels a picture that is not there") for text in sorted({*labels} - {*partners.values()})]
    kinds = {kind for shapes in drawn.values() for kind, _, _ in shapes}.union(*(n.values() for n in names.values()))
    classes = read_classes(kinds, folder.positive, others=True, source=f"{folder.root}: {len(drawn)} YOLO films")
    films = [
        drawn_film(folder, name, drawn[name], classes, split=splits.get(name, split_of(name)), relative=True)
        if name in drawn
        else Film(folder.root / name, name, "unknown", splits.get(name, split_of(name)))
        for name in folder.pictures
    ]
    return Collection(folder.root, "YOLO", tuple(films), classes, tuple(problems))


# --- label files -----------------------------------------------------------------------------------------------


def _partner(picture: str, texts: Mapping[str, str]) -> str:
    """The label file of a picture: the last folder `images` becomes `labels`, or beside it; "" where it has none."""
    stem = posixpath.splitext(picture)[0].lower()
    swapped = re.sub(r"(^|.*/)images/", r"\1labels/", stem, count=1)
    return next((texts[name] for name in (swapped + ".txt", stem + ".txt") if name in texts), "")


def _is_label(folder: Folder, text: str) -> bool:
    """Whether a text holds lines of a label file, or none in a folder `labels`, where it says that nothing is drawn."""
    try:
        lines = [line.split() for line in folder.read(text).splitlines() if line.strip()]
        return all(len(line) > 4 and all(map(_is_number, line)) for line in lines) and (
            bool(lines) or "labels" in text.lower().split("/")
        )
    except UsageError:
        return False


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?|nan|[-+]?inf", text.lower()) is not None


def _drawn(line: str, names: Mapping[str, str]) -> Drawn:
    """`class x y width height`, or `class x1 y1 x2 y2 x3 y3 ...`, all but the class in shares of the film."""
    kind, *numbers = line.split()
    values = [float(number) for number in numbers]
    if names and kind not in names:
        raise ValueError(f"there is no class {kind} among the {len(names)} names")
    name = names.get(kind) or f"class {int(kind)}"
    if len(values) == 4:
        x, y, width, height = values
        return name, box(x - width / 2, y - height / 2, x + width / 2, y + height / 2), ()
    if len(values) < 6 or len(values) % 2:
        raise ValueError(f"a line of {len(values)} numbers after the class is neither a box nor a polygon")
    outline = tuple(zip(values[::2], values[1::2], strict=True))
    return name, bounds(outline), outline


# --- data.yaml -------------------------------------------------------------------------------------------------


def _description(folder: Folder, name: str) -> dict[str, Any]:
    """What a data.yaml says; `names` by their number as text."""
    try:
        content = yaml.safe_load(folder.read(name))
        stated = content["names"]
        pairs = stated.items() if isinstance(stated, dict) else enumerate(stated)
        names = {str(number): str(kind) for number, kind in pairs}
        if isinstance(stated, str):
            raise TypeError
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise UsageError(
            f"{folder.root / name}: has no list `names` of the classes; write it as names: [fracture]"
        ) from error
    return {**content, "names": names}


def _names_by_folder(folder: Folder, described: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, str]]:
    """Class names by the folder that they are for, by their number as text; empty where nobody wrote them down."""
    if described:
        if len(set(map(posixpath.dirname, described))) < len(described):
            raise UsageError(f"{folder.root}: a folder holds a data.yaml and a data.yml; keep the one that counts")
        return {posixpath.dirname(name): content["names"] for name, content in described.items()}
    lists = [name for name in folder.files if posixpath.basename(name) in _LISTS]
    return {
        posixpath.dirname(name): {str(n): kind for n, kind in enumerate(folder.read(name).splitlines()) if kind.strip()}
        for name in lists
    }


def _nearest(folder: Folder, name: str, by_folder: Mapping[str, dict[str, str]]) -> dict[str, str]:
    """The names for a file: of its folder or the next above it that has some; the only ones, wherever they lie."""
    above = posixpath.dirname(name)
    while above and above not in by_folder:
        above = posixpath.dirname(above)
    if above not in by_folder and len(by_folder) > 1:
        raise UsageError(
            f"{folder.root}: several folders hold names of classes ({', '.join(sorted(by_folder))}), and none lies "
            f"above {name}; put a data.yaml into the folder that it describes"
        )
    return by_folder.get(above) or next(iter(by_folder.values()), {})


# --- train, val and test of data.yaml --------------------------------------------------------------------------


def _splits(folder: Folder, described: Mapping[str, dict[str, Any]], problems: Problems) -> dict[str, str]:
    """The split of each picture that a data.yaml puts into one; the first counts where it puts it into several."""
    splits: dict[str, str] = {}
    for source, content in described.items():
        twice: dict[str, list[str]] = {}
        for key, stated in _stated(content):
            split = SPLITS[key.lower()]
            pictures = _pictures(folder, source, str(content.get("path") or ""), stated, problems)
            if not pictures:
                problems.append((source, f"says {key}: {stated}, and there is no picture"))
            for name in pictures:
                if (first := splits.setdefault(name, split)) != split:
                    twice.setdefault(f"{first} and {split}", []).append(name)
        problems += [
            (source, f"puts pictures into {both}: {len(names)}, the first of them {names[0]}")
            for both, names in twice.items()
        ]
    return splits


def _stated(content: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(`train` or the like, folder or list of pictures) of a data.yaml."""
    for key, value in content.items():
        if str(key).lower() in SPLITS:
            yield from ((str(key), str(one)) for one in (value if isinstance(value, list) else [value]) if one)


def _pictures(folder: Folder, source: str, path: str, stated: str, problems: Problems) -> list[str]:
    """The pictures below a folder that data.yaml states, or that a text file lists; empty where there is neither."""
    here = posixpath.dirname(source)
    for place in _places(here, path, stated):
        if place in folder.files and place.endswith(".txt"):
            lines = [line.strip() for line in folder.read(place).splitlines() if line.strip()]
            found = [folder.find(line, posixpath.dirname(place), here) for line in lines]
            problems += [(place, f"lists {line}, but there is no such file, or several")
                         for line, name in zip(lines, found, strict=True) if not name]  # fmt: skip
            return list(filter(None, found))
        if inside := [name for name in folder.pictures if place == "." or name.startswith(place + "/")]:
            return inside
    return []


def _places(here: str, path: str, stated: str) -> Iterable[str]:
    """Where a path of a data.yaml in `here` may lead: from its `path`, then from its own folder. Whatever leads out of
    the data is left out, for such files are written for another machine: of an absolute path its end counts."""
    stated = stated.replace("\\", "/")
    wholes = (posixpath.join(path.replace("\\", "/"), stated), stated)
    for whole in (*(posixpath.join(here, one) for one in wholes), re.sub(r"^(\.\./)+", "", stated)):
        parts = [part for part in posixpath.normpath(whole).split("/") if part not in ("", "..")]
        absolute = re.match("([a-z]:)?/", whole, re.IGNORECASE)
        for first in range(len(parts)) if absolute else (0,):
            end = posixpath.join(*parts[first:]) if parts else "."
            yield end
            yield posixpath.join(here, end) if here else end
