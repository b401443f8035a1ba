"""One film of a labelled collection, and how the names of classes, splits and files are understood."""

from __future__ import annotations

import math
import posixpath
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import takewhile
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
    "dev": "validation", "test": "test", "testing": "test",
}  # fmt: skip
_PLACES = frozenset({
    "data", "dataset", "file", "files", "film", "films", "folder", "image", "images", "img", "imgs", "jpegimages",
    "picture", "pictures", "set", "sets", "split", "subset",
})  # fmt: skip
_SAYS = {  # what a word in a class' name says, as one letter
    "f": "fracture fractured fractures broken abnormal",
    "p": "positive pos",
    "y": "yes present visible true",
    "n": "normal healthy intact",
    "g": "negative neg",
    "x": "no not non un without none absent free false",
    "": "a ankle arm bone bones class elbow femur finger fingers foot forearm hand hip humerus image images knee leg "
    "of pelvis radius ray shoulder spine the tibia ulna with wrist x xray",
}
_LETTERS = {word: letter for letter, words in _SAYS.items() for word in words.split()}
_FRACTURED = re.compile("[fpy]*[fp][fpy]*")  # fracture, fracture positive, fracture present
_NORMAL = re.compile("(n|g|x[fp]+y?|gf+|f+[xg]y?)+")  # normal, negative, no fracture present, fracture not present
_GLUED = re.compile(  # nonfractured, fracturefree
    "(not|non|no|un)?({})({})?".format(*("|".join(w for w in _LETTERS if _LETTERS[w] in said) for said in (
        ("f", "p", "n", "g"), ("y", "x"))))
)  # fmt: skip
_OF_FRACTURES = re.compile("fract|broken|abnormal|positive")


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
    calls fractured. `doubts`: a sentence for each label file that was passed over."""

    def __init__(self, root: Path, files: Iterable[str], positive: tuple[str, ...] = ()) -> None:
        self.root, self.positive = root, positive
        self.files = sorted(files)
        self.pictures = [name for name in self.files if posixpath.splitext(name)[1].lower() in PICTURES]
        self.doubts: list[str] = []
        self._by_path: dict[str, list[str]] = {}  # with and without its ending
        self._by_base: dict[str, list[str]] = {}
        for name in self.pictures:
            for path in (name, posixpath.splitext(name)[0]):
                self._by_path.setdefault(path, []).append(name)
                self._by_base.setdefault(posixpath.basename(path), []).append(name)

    def find(self, stated: str, *folders: str) -> str:
        """The picture that a label file means by `stated`, with or without its ending, seen from one of `folders`; else
        the one of that base name, of several the one whose folders fit best; "" where there is none, or no single
        one."""
        stated = stated.replace("\\", "/")
        for folder in (*folders, "", "images"):
            found = self._by_path.get(posixpath.normpath(posixpath.join(folder, stated)), [])
            if len(found) == 1:
                return found[0]
        above = posixpath.dirname(stated).split("/")[::-1]
        same = self._by_base.get(posixpath.basename(stated), [])
        fits = [_shared(above, posixpath.dirname(name).split("/")[::-1]) for name in same]
        best = [name for name, fit in zip(same, fits, strict=True) if fit == max(fits)]
        return best[0] if len(best) == 1 else ""

    def read(self, name: str) -> str:
        """A label file's text. Raises UsageError where it cannot be read."""
        try:
            return (self.root / name).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(
                f"{self.root / name}: cannot be read as text: {error}; save it as UTF-8, or take it out of the folder"
            ) from error


def _shared(first: list[str], second: list[str]) -> int:
    """How many parts two paths begin with together."""
    return sum(1 for _ in takewhile(lambda parts: parts[0] == parts[1], zip(first, second, strict=False)))


def box(x_min: float, y_min: float, x_max: float, y_max: float) -> Box:
    """A box of four numbers. Raises ValueError where one is none."""
    if not all(map(math.isfinite, (x_min, y_min, x_max, y_max))):
        raise ValueError("a box has an edge that is no number")
    return x_min, y_min, x_max, y_max


def polarity(name: str) -> Label:
    """Whether a class' name means a fracture: by its words, never by its place in a list.

    "unknown" where a word is not known, so that a person is asked, or where the words contradict each other.
    """
    said = "".join(map(_letters, _words(name)))
    if _FRACTURED.fullmatch(said):
        return "fractured"
    return "normal" if _NORMAL.fullmatch(said) else "unknown"


def _words(name: str) -> list[str]:
    """Words and numbers, in small letters; `NotFractured` is two."""
    return re.findall(r"[^\W\d_]+|\d+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())


def _letters(word: str) -> str:
    """What a word says, as letters of `_SAYS`; "?" where it is not known."""
    if word in _LETTERS:
        return _LETTERS[word]
    glued = _GLUED.fullmatch(word)
    return "".join(_LETTERS[part] for part in glued.groups() if part) if glued else "?"


def read_classes(
    names: Iterable[str], positive: tuple[str, ...], *, others: bool = False, source: object = "the labels"
) -> dict[str, Label]:
    """What each class' name means; `positive` overrides the words, and all other classes are normal then.

    `others`: classes that speak of no fracture may stand beside the fractures, as in a detector's data. Raises
    UsageError with the choices where the names do not tell, or where `source` names no class.
    """
    known = sorted(set(names))
    if not known:
        raise UsageError(f"{source}: no film has a label of any class; label the films, or take this out of the folder")
    choices = ", ".join(f'"{name}"' for name in known[:_MOST_CHOICES])
    choices += f" and {len(known) - _MOST_CHOICES} more" if len(known) > _MOST_CHOICES else ""
    if positive:
        wanted = {name.casefold() for name in positive}
        if missing := wanted - {name.casefold() for name in known}:
            raise UsageError(f'--positive-class "{sorted(missing)[0]}": there is no such class; there are {choices}')
        return {name: "fractured" if name.casefold() in wanted else "normal" for name in known}
    meanings: dict[str, Label] = {name: polarity(name) for name in known}
    unclear = [name for name, label in meanings.items() if label == "unknown"]
    if others:
        unclear = [name for name in unclear if _OF_FRACTURES.search(name.lower())]
    if "fractured" not in meanings.values() or unclear:
        raise UsageError(
            f"the classes' names do not tell which of them means a fracture; say --positive-class with one of {choices}"
            + (", or once for each that does" if len(known) > 1 else "")
        )
    return meanings


def split_word(name: str) -> str:
    """The split that a name such as `train`, `TestSet`, `validation_set` or `val2017` means, or ""."""
    words = [word for word in _words(name) if word not in _PLACES and not word.isdigit()]
    return SPLITS.get(words[0].removesuffix("set"), "") if len(words) == 1 else ""


def split_of(name: str) -> str:
    """The split that a file's folders name, the innermost first, or ""."""
    return next(filter(None, map(split_word, reversed(name.split("/")[:-1]))), "")


def class_folders(name: str) -> list[str]:
    """The folders above a file, the outermost first, without those that name a split, or a place such as `images`."""
    return [part for part in name.split("/")[:-1] if not split_word(part) and part.lower() not in _PLACES]
