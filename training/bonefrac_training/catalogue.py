"""One film of a labelled collection, and how the names of classes, splits and files are understood."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bonefrac.errors import UsageError
from bonefrac.labelled import Box

Label = Literal["fractured", "normal", "unknown"]
Polygon = tuple[tuple[float, float], ...]

_MOST_CHOICES = 12  # that a refusal names

PICTURES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".dcm"})
SPLITS = {
    "train": "train", "training": "train", "val": "validation", "valid": "validation", "validation": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip
_FRACTURED = frozenset({"fractured", "fracture", "fractures", "positive", "abnormal", "broken"})
_NORMAL = frozenset({"normal", "negative", "healthy", "intact"})
_NOT = ("not", "non", "un", "no")  # "not" before "no": the longer one is tried first
_NEUTRAL = frozenset({
    "a", "ankle", "arm", "bone", "bones", "class", "elbow", "femur", "finger", "fingers", "foot", "forearm", "hand",
    "hip", "humerus", "image", "images", "knee", "leg", "of", "pelvis", "radius", "ray", "shoulder", "spine", "the",
    "tibia", "ulna", "with", "wrist", "x", "xray",
})  # fmt: skip


@dataclass(frozen=True)
class Film:
    """One film and what its owner says of it.

    `name` is relative to the collection, with `/`. `split`: the part of the data that it was put into ("train",
    "validation", "test", "fold 0", or "" where nobody said). `group`: what may show one patient, or "". `boxes`
    (x_min, y_min, x_max, y_max) and `polygons` are of fractures alone, in pixels of the file, or, where `relative`,
    in shares of its width and height. `use` is False where the owner's table sorts the film out.
    """

    path: Path
    name: str
    label: Label
    split: str = ""
    group: str = ""
    region: str = ""
    boxes: tuple[Box, ...] = ()
    polygons: tuple[Polygon, ...] = ()
    relative: bool = False
    use: bool = True

    def boxes_px(self, width: int, height: int) -> tuple[Box, ...]:
        """The boxes in pixels of a file of this size."""
        if not self.relative:
            return self.boxes
        return tuple((x0 * width, y0 * height, x1 * width, y1 * height) for x0, y0, x1, y1 in self.boxes)


@dataclass(frozen=True)
class Collection:
    """All films of a folder. `classes`: how each class' name was read. `problems`: (file, what is wrong) of labels that
    cannot be read or that speak of no film. `notes`: sentences on what was understood."""

    root: Path
    layout: str
    films: tuple[Film, ...]
    classes: dict[str, Label]
    problems: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()


class Folder:
    """What lies below a folder: `files` and `pictures`, relative names with `/`. `positive`: the classes that the user
    calls fractured."""

    def __init__(self, root: Path, files: Iterable[str], positive: tuple[str, ...] = ()) -> None:
        self.root, self.positive = root, positive
        self.files = sorted(files)
        self.pictures = [name for name in self.files if posixpath.splitext(name)[1].lower() in PICTURES]
        self._there = frozenset(self.pictures)
        self._by_base: dict[str, list[str]] = {}
        for name in self.pictures:
            self._by_base.setdefault(posixpath.basename(name), []).append(name)

    def find(self, stated: str, *folders: str) -> str:
        """The picture that a label file means by `stated`, seen from one of `folders`; "" where there is none, or
        where only the base name fits, and fits several."""
        stated = stated.replace("\\", "/")
        for folder in (*folders, "", "images"):
            name = posixpath.normpath(posixpath.join(folder, stated))
            if name in self._there:
                return name
        same = self._by_base.get(posixpath.basename(stated), [])
        return same[0] if len(same) == 1 else ""

    def read(self, name: str) -> str:
        """A label file's text. Raises UsageError where it cannot be read."""
        try:
            return (self.root / name).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{self.root / name}: cannot be read as text: {error}") from error


def polarity(name: str) -> Label:
    """Whether a class' name means a fracture: by its words, never by its place in a list.

    "unknown" where a word is not known, so that a person is asked, or where the words contradict each other.
    """
    words = re.findall(r"[a-z]+|\d+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())
    negated, said = False, set[Label]()
    for word in words:
        if word in (*_NOT, "without"):
            negated = True
            continue
        prefix = next((p for p in _NOT if word.startswith(p) and word[len(p) :] in _FRACTURED), "")
        if prefix:
            said.add("normal")
        elif word in _FRACTURED:
            said.add("normal" if negated else "fractured")
        elif word in _NORMAL and not negated:
            said.add("normal")
        elif word not in _NEUTRAL:
            return "unknown"
    return said.pop() if len(said) == 1 else "unknown"


def read_classes(names: Iterable[str], positive: tuple[str, ...], *, others: bool = False) -> dict[str, Label]:
    """What each class' name means; `positive` overrides the words, and all other classes are normal then.

    `others`: classes that are neither may stand beside the fractures, as in a detector's data. Raises UsageError with
    the choices where the names do not tell.
    """
    known = sorted(set(names))
    choices = ", ".join(f'"{name}"' for name in known[:_MOST_CHOICES])
    choices += f" and {len(known) - _MOST_CHOICES} more" if len(known) > _MOST_CHOICES else ""
    if positive:
        wanted = {name.casefold() for name in positive}
        if missing := wanted - {name.casefold() for name in known}:
            raise UsageError(f'--positive-class "{sorted(missing)[0]}": there is no such class; there are {choices}')
        return {name: "fractured" if name.casefold() in wanted else "normal" for name in known}
    meanings: dict[str, Label] = {name: polarity(name) for name in known}
    unclear = [name for name, label in meanings.items() if label == "unknown"]
    if "fractured" not in meanings.values() or (unclear and not others):
        raise UsageError(
            f"the classes' names do not tell which of them means a fracture; say --positive-class with one of {choices}"
        )
    return meanings


def split_of(name: str) -> str:
    """The split that a file's folders name, the innermost first, or ""."""
    return next((SPLITS[p] for p in reversed(name.lower().split("/")[:-1]) if p in SPLITS), "")
