"""What a bundle's card states: figures on films that training never saw, each with its 95 % interval."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from bonefrac.errors import BonefracError
from bonefrac.labelled import LabelledFilm
from bonefrac.model import Model
from bonefrac.preprocess import ToFilm
from bonefrac.regions import find_regions
from bonefrac.results import Region

_DRAWS = 2000
_FALSE_REGIONS = 0.3


@dataclass(frozen=True)
class Films:
    """Films as the model sees them: `pixels` uint8 (n, height, width, 1), maps back and sizes (width, height)."""

    labels: list[LabelledFilm]
    pixels: NDArray[np.uint8]
    to_film: list[ToFilm]
    sizes: list[tuple[int, int]]

    @property
    def fractured(self) -> NDArray[np.bool_]:
        return np.array([film.fractured for film in self.labels])

    @property
    def groups(self) -> list[str]:
        return [film.group for film in self.labels]


def predict(model: Model, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Probabilities (n,) as the engine's rows have them, to four digits, and heat maps (n, h, w)."""
    parts = [model.predict(pixels[at : at + 4]) for at in range(0, len(pixels), 4)]
    probability = np.concatenate([part[0] for part in parts])
    return np.array([round(float(p), 4) for p in probability]), np.concatenate([part[1] for part in parts])


def operating_points(fractured: NDArray[np.bool_], probability: NDArray[np.float64]) -> tuple[float, float]:
    """(sensitive, specific): the highest threshold with sensitivity >= 0.95, the lowest with specificity >= 0.95.

    Raises BonefracError where there is none.
    """
    candidates = np.unique(np.round(np.concatenate([probability, probability + 1e-4]), 4))
    candidates = candidates[(candidates > 0) & (candidates < 1)]
    sensitivity = np.array([(probability[fractured] >= point).mean() for point in candidates])
    specificity = np.array([(probability[~fractured] < point).mean() for point in candidates])
    if not (sensitivity >= 0.95).any() or not (specificity >= 0.95).any():
        raise BonefracError("no threshold reaches a sensitivity or a specificity of 0.95: the network is not trained")
    sensitive, specific = candidates[sensitivity >= 0.95].max(), candidates[specificity >= 0.95].min()
    return float(min(sensitive, specific)), float(specific)


def regions_of(films: Films, heatmaps: NDArray[np.float32], model: Model, level: float) -> list[tuple[Region, ...]]:
    """Every film's regions at `level`, whatever its probability."""
    spec = model.manifest.input
    return [
        find_regions(heatmap, level, spec, to_film, size)
        for heatmap, to_film, size in zip(heatmaps, films.to_film, films.sizes, strict=True)
    ]


def centre_hits(films: Films, regions: list[tuple[Region, ...]]) -> NDArray[np.bool_]:
    """For each fractured film with boxes: does the best region's centre lie in a true box? No region is a miss."""
    return np.array([
        any(
            x0 <= (r.box[0] + r.box[2]) / 2 <= x1 and y0 <= (r.box[1] + r.box[3]) / 2 <= y1
            for r in found[:1]
            for x0, y0, x1, y1 in film.boxes
        )
        for film, found in zip(films.labels, regions, strict=True)
        if film.fractured and film.boxes
    ])  # fmt: skip


def region_level(films: Films, probability: NDArray[np.float64], heatmaps: NDArray[np.float32], model: Model) -> float:
    """The level at which the most best regions have their centre in a true box while films without fracture show fewer
    than `_FALSE_REGIONS` regions in the mean; of equals, the highest."""
    found = []
    for level in (round(0.05 * step, 2) for step in range(2, 17)):
        regions = regions_of(films, heatmaps, model, level)
        if false_regions(films, regions, probability >= model.manifest.operating_points.sensitive) < _FALSE_REGIONS:
            found.append((float(centre_hits(films, regions).mean()), level))
    return max(found)[1]


def false_regions(films: Films, regions: list[tuple[Region, ...]], shown: NDArray[np.bool_]) -> float:
    """Regions on a film without fracture, in the mean; only films that are `shown` to be suspicious have any."""
    counts = [len(found) if seen else 0 for found, seen in zip(regions, shown, strict=True)]
    return float(np.mean(np.array(counts)[~films.fractured]))


def wilson(successes: int, trials: int) -> str:
    """A share with its Wilson score interval, 95 % (Wilson, JASA 22:209, 1927)."""
    interval = binomtest(successes, trials).proportion_ci(method="wilson")
    return f"{successes / trials:.3f} ({interval.low:.3f} to {interval.high:.3f}), {successes} of {trials}"


def by_group(
    statistic: Callable[[NDArray[np.bool_], NDArray[np.float64]], float],
    films: Films,
    probability: NDArray[np.float64],
) -> tuple[float, float, float]:
    """(value, low, high): 95 % percentile bootstrap over groups, for films of one group are not independent."""
    names, group_of = np.unique(films.groups, return_inverse=True)
    members = [np.flatnonzero(group_of == index) for index in range(len(names))]
    fractured, rng = films.fractured, np.random.default_rng(0)
    draws = []
    for _ in range(_DRAWS):
        rows = np.concatenate([members[index] for index in rng.integers(0, len(names), len(names))])
        if 0 < fractured[rows].sum() < len(rows):
            draws.append(statistic(fractured[rows], probability[rows]))
    low, high = np.percentile(draws, (2.5, 97.5))
    return float(statistic(fractured, probability)), float(low), float(high)


def figures(films: Films, model: Model) -> dict[str, str]:
    """The card's figures of a finished bundle, measured through the engine."""
    probability, heatmaps = predict(model, films.pixels)
    fractured, points = films.fractured, model.manifest.operating_points
    value, low, high = by_group(lambda truth, p: float(roc_auc_score(truth, p)), films, probability)
    found: dict[str, str] = {
        "films": f"{len(fractured)}, {int(fractured.sum())} with a fracture, in {len(set(films.groups))} groups",
        "AUROC": f"{value:.3f} ({low:.3f} to {high:.3f}, bootstrap over groups)",
    }
    for name, point in (("specific", points.specific), ("sensitive", points.sensitive)):
        called = probability >= point
        found[f"sensitivity at the {name} point"] = wilson(int((called & fractured).sum()), int(fractured.sum()))
        found[f"specificity at the {name} point"] = wilson(int((~called & ~fractured).sum()), int((~fractured).sum()))
    regions = regions_of(films, heatmaps, model, model.manifest.region_level)
    hits = centre_hits(films, regions)
    found["best region's centre in a true box"] = wilson(int(hits.sum()), len(hits))
    shown = false_regions(films, regions, probability >= points.sensitive)
    found["regions shown on a film without fracture"] = f"{shown:.2f} in the mean"
    return found
