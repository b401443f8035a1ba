"""Films that are one film: the same bytes, the same pixels, or a copy that was resized, re-encoded, mirrored or turned.

A perceptual hash under the eight flips and quarter turns proposes pairs; the correlation of fine detail confirms them.
Neither a file's name nor the hash alone is proof: two hands on one cassette have the same hash.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from bonefrac_training.facts import VIEW, Facts, View

Kind = Literal["bytes", "pixels", "copy"]
Floats = NDArray[np.float32]

HASH_BITS = 63  # the signs of the lowest 8 x 8 cosine coefficients but the mean
_FARTHEST = 12  # bits; FracAtlas' true copies are 0 to 6 apart, cut ones up to 11
_ALIKE = 0.85  # correlation of two 32 x 32 views that are worth a closer look
CONFIRMED = 0.7  # correlation of detail; on FracAtlas true pairs begin at 0.73, films of other patients end at 0.68
TURNED = 0.8  # the same under a flip or turn: seven more chances to agree by accident, which reach 0.72 there
_SHIFT = VIEW // 8  # px by which a copy may be moved; beyond some 3 % the hash does not propose it
_SMALL, _LOW, _BLOCK = 32, 8, 512


@dataclass(frozen=True)
class Turn:
    """One of the eight flips and quarter turns: transposed first, then mirrored up-down and left-right."""

    transposed: bool
    up_down: bool
    left_right: bool

    def __call__(self, view: NDArray[np.generic]) -> NDArray[np.generic]:
        """The array (h, w) turned."""
        view = view.T if self.transposed else view
        return view[:: -1 if self.up_down else 1, :: -1 if self.left_right else 1]

    def __str__(self) -> str:
        return {
            (False, False, False): "as it is", (False, False, True): "mirrored",
            (False, True, False): "upside down and mirrored", (False, True, True): "turned by 180°",
            (True, False, False): "mirrored and turned by 90°", (True, True, True): "mirrored and turned by 90°",
            (True, True, False): "turned by 90°", (True, False, True): "turned by 90°",
        }[self.transposed, self.up_down, self.left_right]  # fmt: skip


TURNS = tuple(Turn(t, u, m) for t in (False, True) for u in (False, True) for m in (False, True))


@dataclass(frozen=True)
class Pair:
    """Two films, by their place in the list, that are one; `turn` says how the second became the first.

    `likeness` is 1 for the same bytes and pixels, else the correlation of detail, at least 0.7.
    """

    first: int
    second: int
    kind: Kind
    turn: str = "as it is"
    likeness: float = 1.0


def same_content(facts: Sequence[Facts]) -> list[Pair]:
    """Files with the same bytes, readable or not, and films with the same pixels. Of n equal ones each of the others is
    paired with the first, so that `unite` gives the groups."""
    by_bytes, by_pixels = defaultdict[str, list[int]](list), defaultdict[str, list[int]](list)
    for place, fact in enumerate(facts):
        if fact.size:  # empty files are no copies of one another
            by_bytes[fact.sha256].append(place)
    for first, *_ in by_bytes.values():
        if facts[first].readable:
            by_pixels[facts[first].pixels_sha256].append(first)
    pairs = [Pair(first, other, "bytes") for first, *others in by_bytes.values() for other in others]
    return pairs + [Pair(first, other, "pixels") for first, *others in by_pixels.values() for other in others]


def find_copies(views: Sequence[View]) -> Iterator[tuple[int, int, Turn, float]]:
    """Pairs of places in `views`, uint8 (128, 128) each, that show one film; each pair once, with its best turn."""
    if len(views) < 2:
        return
    best: dict[tuple[int, int], tuple[float, Turn]] = {}

    @lru_cache(maxsize=4096)
    def detailed(place: int) -> Floats:
        return detail(views[place])

    for a, b, turn in propose(views):
        alike = likeness(detailed(a), np.ascontiguousarray(turn(detailed(b)), np.float32))
        if alike >= (TURNED if turn != TURNS[0] else CONFIRMED) and alike > best.get((a, b), (0.0, turn))[0]:
            best[a, b] = alike, turn
    yield from ((a, b, turn, alike) for (a, b), (alike, turn) in sorted(best.items(), key=lambda item: item[0]))


def propose(views: Sequence[View]) -> Iterator[tuple[int, int, Turn]]:
    """Pairs whose hashes and rough views agree under a turn: (first, second, turn of the second)."""
    small = np.stack([cv2.resize(view, (_SMALL, _SMALL), interpolation=cv2.INTER_AREA) for view in views])
    rough = small.astype(np.float32) - small.mean(axis=(1, 2), keepdims=True, dtype=np.float32)
    rough /= np.linalg.norm(rough, axis=(1, 2), keepdims=True) + 1e-6
    signs = hash_signs(small.astype(np.float32))
    for turn in TURNS:
        turned = _turn_signs(signs, turn).reshape(len(views), -1).T
        for start in range(0, len(views), _BLOCK):
            apart = (HASH_BITS - signs[start : start + _BLOCK].reshape(-1, _LOW * _LOW) @ turned) / 2
            firsts, seconds = np.nonzero(apart <= _FARTHEST)
            later = firsts + start < seconds
            yield from _alike(rough, firsts[later] + start, seconds[later], turn)


def _alike(
    rough: Floats, firsts: NDArray[np.intp], seconds: NDArray[np.intp], turn: Turn
) -> Iterator[tuple[int, int, Turn]]:
    for at in range(0, len(firsts), 4096):
        a, b = firsts[at : at + 4096], seconds[at : at + 4096]
        turned = rough[b].transpose(0, 2, 1) if turn.transposed else rough[b]
        turned = turned[:, :: -1 if turn.up_down else 1, :: -1 if turn.left_right else 1]
        near = np.einsum("nij,nij->n", rough[a], turned) >= _ALIKE
        yield from ((int(i), int(j), turn) for i, j in zip(a[near], b[near], strict=True))


def hash_signs(small: Floats) -> Floats:
    """The perceptual hash of views (n, 32, 32) as signs: (n, 8, 8) of -1 and 1, the mean's place 0.

    Signs of cosine coefficients: a mirrored film has the odd ones negated, a transposed film the array transposed, so
    that all eight hashes come from one transform.
    """
    places = np.arange(_SMALL)
    waves = np.cos(np.pi * (2 * places + 1) * np.arange(_LOW)[:, None] / (2 * _SMALL)).astype(np.float32)
    signs = np.where(np.einsum("ka,nab,lb->nkl", waves, small, waves, optimize=True) < 0, -1, 1).astype(np.float32)
    signs[:, 0, 0] = 0
    return signs


def _turn_signs(signs: Floats, turn: Turn) -> Floats:
    odd = np.where(np.arange(_LOW) % 2, -1, 1).astype(np.float32)
    signs = signs.transpose(0, 2, 1) if turn.transposed else signs
    signs = signs * odd[:, None] if turn.up_down else signs
    return signs * odd if turn.left_right else signs


def detail(view: View) -> Floats:
    """What is fine in a view, everywhere as strong: so that neither exposure nor a bright edge decides."""
    grey = view.astype(np.float32)
    fine = grey - cv2.GaussianBlur(grey, (0, 0), 2)
    strength = np.sqrt(cv2.GaussianBlur(fine * fine, (0, 0), 4))
    return np.asarray(fine / (strength + 2), np.float32)


def likeness(first: Floats, second: Floats) -> float:
    """Normalised correlation of two details (128, 128), as they lie or after the shift that fits best."""
    window = cv2.createHanningWindow((VIEW, VIEW), cv2.CV_32F)
    (x, y), _ = cv2.phaseCorrelate(first, second, window)
    x, y = round(x), round(y)
    plain = _correlation(first, second)
    if max(abs(x), abs(y)) > _SHIFT:
        return plain
    here = first[max(0, -y) : VIEW - max(0, y), max(0, -x) : VIEW - max(0, x)]
    there = second[max(0, y) : VIEW - max(0, -y), max(0, x) : VIEW - max(0, -x)]
    return max(plain, _correlation(here, there))


def _correlation(first: Floats, second: Floats) -> float:
    first, second = first - first.mean(), second - second.mean()
    return float((first * second).sum() / (np.sqrt((first * first).sum() * (second * second).sum()) + 1e-9))


def unite(count: int, pairs: Iterable[tuple[int, int]]) -> list[int]:
    """Union-find: for each of `count` places the smallest place that it is connected with."""
    parent = list(range(count))

    def root(place: int) -> int:
        while parent[place] != place:
            parent[place] = parent[parent[place]]
            place = parent[place]
        return place

    for first, second in pairs:
        low, high = sorted((root(first), root(second)))
        parent[high] = low
    return [root(place) for place in range(count)]
