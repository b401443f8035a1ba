"""Hand-made features of films and how they are spread over the classes: bone contours by segmentation, their chain
code, SIFT key points, and the textures of GLCM and LBP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.feature import graycomatrix, graycoprops, local_binary_pattern
from skimage.filters import threshold_multiotsu
from tqdm import tqdm

from bonefrac.decode import decode
from bonefrac.preprocess import to_8_bit
from bonefrac_benchmarks.statistics import Interval
from bonefrac_training.facts import Facts
from bonefrac_training.shortcuts import auroc

SIDE = 512  # px, the long side that features are measured at
_GREYS = 32  # levels of the co-occurrence matrix
_LBP_BINS = 10  # uniform patterns of 8 neighbours (Ojala et al., IEEE PAMI 24, 971, 2002)
_SHORTEST = 40  # px of a contour that is looked at

Grey8 = NDArray[np.uint8]
Contour = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Features:
    """One film's features. `values` by their name; `chain` (8,) and `lbp` (10,) are histograms that sum to 1."""

    values: dict[str, float]
    chain: NDArray[np.float64]
    lbp: NDArray[np.float64]


@dataclass(frozen=True)
class Spread:
    """One feature over the classes: (5, 25, 50, 75, 95 %) of each, and the AUROC at which it tells them apart."""

    name: str
    fractured: tuple[float, ...]
    normal: tuple[float, ...]
    auroc: Interval


@dataclass(frozen=True)
class FeaturePage:
    """What the page shows: how many films of each class, the spreads, and the mean histograms of each class."""

    films: dict[str, int]
    spreads: list[Spread]
    histograms: dict[str, dict[str, list[float]]]


def open_film(fact: Facts, side: int = SIDE) -> Grey8:
    """A film, uint8 (h, w), its long side at most `side` px."""
    grey = to_8_bit(decode(fact.film.path.read_bytes(), long_side=side).pixels)
    scale = min(1.0, side / max(grey.shape))
    size = max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale))
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8)


def bone_contours(grey: Grey8) -> list[Contour]:
    """Outlines of what is brighter than its neighbourhood, as bone is, the longest first, int32 (n, 2) as x, y: the
    brightest of three classes (Otsu's criterion, IEEE SMC 9, 62, 1979), without specks and the film's edge."""
    even = cv2.GaussianBlur(grey.astype(np.float32), (0, 0), 1.5)
    around = cv2.GaussianBlur(even, (0, 0), max(grey.shape) / 14)
    local = np.clip((even - around) / (around + 8) * 128 + 128, 0, 255).astype(np.uint8)
    try:
        level = threshold_multiotsu(local, classes=3)[-1]
    except ValueError:  # fewer than three grey levels
        return []
    edge = max(grey.shape) // 50
    mask = np.zeros(grey.shape, np.uint8)
    mask[edge:-edge, edge:-edge] = local[edge:-edge, edge:-edge] > level
    mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    found, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    contours = [np.asarray(contour, np.int32).reshape(-1, 2) for contour in found if len(contour) >= _SHORTEST]
    return sorted(contours, key=len, reverse=True)


def chain_code(contour: Contour) -> NDArray[np.intp]:
    """Freeman's directions 0 (right), 1 (right and up) to 7 from each point to the next (IRE Trans. 10, 260, 1961)."""
    steps = np.diff(np.vstack([contour, contour[:1]]), axis=0)
    angle = np.arctan2(-steps[:, 1], steps[:, 0])
    return np.asarray(np.round(angle / (np.pi / 4)), np.intp) % 8


def measure(grey: Grey8) -> Features:
    """All features of a film, uint8 (h, w)."""
    contours = bone_contours(grey)
    codes = np.concatenate([chain_code(contour) for contour in contours]) if contours else np.zeros(0, np.intp)
    turns = np.concatenate([_turns(chain_code(contour)) for contour in contours]) if contours else np.zeros(1)
    chain = np.bincount(codes, minlength=8) / max(len(codes), 1)
    points = cv2.SIFT.create().detect(grey, None)
    lbp = np.bincount(lbp_map(grey).ravel(), minlength=_LBP_BINS) / grey.size
    side = float(max(grey.shape))
    values = {
        "bone contours": float(len(contours)),
        "contour length, film sides": sum(map(len, contours)) / side,
        "chain code: sharp turns": float(np.mean(np.abs(turns) >= 2)),
        "chain code: entropy": _entropy(chain),
        "SIFT key points": float(len(points)),
        "SIFT mean response": float(np.mean([point.response for point in points])) if points else 0.0,
        "SIFT mean size, px": float(np.mean([point.size for point in points])) if points else 0.0,
        **_glcm(grey),
        "LBP entropy": _entropy(lbp),
        "LBP not uniform": float(lbp[-1]),
    }
    return Features(values, chain, lbp)


def lbp_map(grey: Grey8) -> NDArray[np.uint8]:
    """Uniform local binary patterns of 8 neighbours at 1 px: uint8 (h, w), 0 to 9; 9 is any that is not uniform."""
    return np.asarray(local_binary_pattern(grey, 8, 1, method="uniform"), np.uint8)


def _turns(codes: NDArray[np.intp]) -> NDArray[np.intp]:
    """From one step to the next, in eighths of a circle, -4 to 3."""
    return (np.diff(codes) + 4) % 8 - 4


def _entropy(shares: NDArray[np.float64]) -> float:
    present = shares[shares > 0]
    return float(-(present * np.log2(present)).sum())


def _glcm(grey: Grey8) -> dict[str, float]:
    """Haralick's texture (IEEE SMC 3, 610, 1973) from neighbours 2 px apart in four directions."""
    matrix = graycomatrix(grey // (256 // _GREYS), [2], np.arange(4) * np.pi / 4, _GREYS, symmetric=True, normed=True)
    names = ("contrast", "homogeneity", "energy", "correlation")
    return {f"GLCM {name}": float(graycoprops(matrix, name).mean()) for name in names}


def pick(facts: Sequence[Facts], each: int, *, seed: int = 1) -> list[int]:
    """Places of at most `each` readable films in use of each class, drawn by `seed`."""
    rng = np.random.default_rng(seed)
    chosen: list[int] = []
    for label in ("fractured", "normal"):
        places = [n for n, fact in enumerate(facts) if fact.readable and fact.film.use and fact.film.label == label]
        chosen += [places[n] for n in rng.permutation(len(places))[:each]]
    return chosen


def feature_page(facts: Sequence[Facts], groups: Sequence[str], *, each: int, seed: int = 1) -> FeaturePage | None:
    """The features of at most `each` films of each class; None where a class has fewer than five."""
    places = pick(facts, each, seed=seed)
    truth = np.array([facts[n].film.label == "fractured" for n in places], np.bool_)
    if min(truth.sum(), (~truth).sum()) < 5:
        return None
    found = [measure(open_film(facts[n])) for n in tqdm(places, desc="features", mininterval=1)]
    inside = [groups[n] for n in places]
    spreads = []
    for name in found[0].values:
        column = np.array([one.values[name] for one in found])
        fractured, normal = (
            tuple(map(float, np.percentile(column[side], (5, 25, 50, 75, 95)))) for side in (truth, ~truth)
        )
        spreads.append(Spread(name, fractured, normal, auroc(truth, column, inside)))
    histograms = {
        title: {
            label: np.mean([getattr(one, title) for one, hit in zip(found, truth, strict=True) if hit == side], axis=0)
            .round(5).tolist()
            for label, side in (("fractured", True), ("normal", False))
        }
        for title in ("chain", "lbp")
    }  # fmt: skip
    films = {"fractured": int(truth.sum()), "normal": int((~truth).sum())}
    return FeaturePage(films, sorted(spreads, key=lambda one: -abs(one.auroc.value - 0.5)), histograms)
