"""What a bundle's card states: figures on films that training never saw, each with its 95 % interval.

They are those of `bonefrac-bench accuracy`; here points and level are chosen, and figures become the card's words.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bonefrac.errors import BonefracError
from bonefrac.model import Model
from bonefrac_benchmarks.accuracy import (
    Films,
    centre_hits,
    counted,
    false_regions,
    regions_of,
    shown,
)

_FALSE_REGIONS = 0.3
_LEVELS = [round(0.05 * step, 2) for step in range(2, 17)]


def operating_points(fractured: NDArray[np.bool_], probability: NDArray[np.float64]) -> tuple[float, float]:
    """(sensitive, specific): the highest threshold with sensitivity >= 0.95, the lowest with specificity >= 0.95, each
    in the middle between two scores, so that no film lies on it. `probability` (n,) has four digits, as rows have.

    Raises BonefracError where there is none.
    """
    scores = np.concatenate([[0.0], np.unique(probability), [1.0]])
    candidates = np.round((scores[1:] + scores[:-1]) / 2, 5)
    candidates = candidates[(candidates > 0) & (candidates < 1)]
    sensitivity = np.array([(probability[fractured] >= point).mean() for point in candidates])
    specificity = np.array([(probability[~fractured] < point).mean() for point in candidates])
    if not (sensitivity >= 0.95).any() or not (specificity >= 0.95).any():
        raise BonefracError("no threshold reaches a sensitivity or a specificity of 0.95: the network is not trained")
    sensitive, specific = candidates[sensitivity >= 0.95].max(), candidates[specificity >= 0.95].min()
    return float(min(sensitive, specific)), float(specific)


def region_level(films: Films, probability: NDArray[np.float64], heatmaps: NDArray[np.float32], model: Model) -> float:
    """The level at which the most best regions have their centre in a true box while films without fracture show fewer
    than `_FALSE_REGIONS` regions in the mean; of equals, the highest. Half of the scale where no film has a box, or the
    model no heat map, and the highest of all where every level shows more."""
    if not any(film.fractured and film.boxes for film in films.labels) or not heatmaps.size:
        return 0.5
    found = [(-1.0, _LEVELS[-1])]
    for level in _LEVELS:
        regions = regions_of(films, heatmaps, model, level)
        if false_regions(films, regions, probability >= model.manifest.operating_points.sensitive) < _FALSE_REGIONS:
            found.append((float(centre_hits(films, regions).mean()), level))
    return max(found)[1]


def wilson(successes: int, trials: int) -> str:
    """A share with its Wilson score interval, 95 %, and the count."""
    return shown(counted(successes, trials))


def figures(measured: dict[str, Any], *, heatmap: bool) -> dict[str, str]:
    """The card's figures, from those of `bonefrac_benchmarks.accuracy.measure`. What begins with `among` is of a part
    of the films, at the specific point: parts of a sentence between semicolons, which the card makes cells of."""
    found = {
        "films": f"{measured['films']}, {measured['fractured']} with a fracture, in {measured['groups']} groups",
        "AUROC": f"{shown(measured['ranking']['auroc'])}, bootstrap over groups",
    }
    at = measured["ranking"]["sensitivity_at_specificity_0.90"]
    found["sensitivity at a specificity of 0.90"] = f"{shown(at)}, bootstrap over groups"
    for name in ("specific", "sensitive"):
        for figure in ("sensitivity", "specificity"):
            found[f"{figure} at the {name} point"] = shown(measured["points"][name][figure])
    places = measured["localisation"]
    shown_regions = places["regions_on_a_film_without_fracture"]["value"]
    if heatmap:
        found["best region's centre in a true box"] = shown(places["best_region_centre_in_box"])
        found["regions shown on a film without fracture"] = f"{shown_regions:.2f} in the mean"
    parts = [(f"of the {row['of']}", row) for row in measured["body_regions"]]
    parts += [(row["of"], row) for row in measured["hardware"]]
    for part, row in parts:
        found[f"among films {part}"] = "; ".join([
            f"{row['films']}, {row['fractured']} with a fracture",
            *(f"{name} {shown(row[name.lower()])}" for name in ("AUROC", "sensitivity", "specificity")),
        ])  # fmt: skip
    return found
