"""What a model is worth on labelled films: one measurement for a bundle's card and for `bonefrac-bench accuracy`.

Export's door into this room, with `statistics`: nothing here needs more than ONNX Runtime, SciPy and the engine.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bonefrac_benchmarks.judged import Films, Judged, judge, judge_again, load, predict_all, regions_of
from bonefrac_benchmarks.localisation import centre_hits, false_regions, localise, maps_agree
from bonefrac_benchmarks.statistics import (
    BINS,
    Weights,
    auprc,
    auroc,
    brier,
    by_group,
    calibration_error,
    delong_interval,
    delong_test,
    f1,
    mcnemar,
    mean,
    predictive_values,
    reliability,
    sensitivity_at,
)
from bonefrac_benchmarks.wording import counted, interval, share, shown

__all__ = [
    "Films",
    "Judged",
    "centre_hits",
    "compare",
    "counted",
    "false_regions",
    "judge",
    "judge_again",
    "load",
    "maps_agree",
    "measure",
    "predict_all",
    "regions_of",
    "shown",
]

SPECIFICITY = 0.90
FEWEST = 10  # films of a class; below, a figure says more of the films than of the model


def measure(judged: Judged, prevalences: Sequence[float] = ()) -> dict[str, Any]:
    """Every figure, for JSON: shares of films with Wilson's interval and their count, the others with a bootstrap over
    groups. Raises ValueError with fewer than two films with, or without, a fracture."""
    films, points = judged.films, judged.model.manifest.operating_points
    thresholds = {"sensitive": points.sensitive, "specific": points.specific}
    return {
        "films": len(films.labels),
        "fractured": int(films.fractured.sum()),
        "groups": len(set(films.groups)),
        "points": {name: _at_point(judged, threshold) for name, threshold in thresholds.items()},
        "ranking": _ranking(judged),
        "prevalence": [
            {"prevalence": part, **{name: _predictive(judged, t, part) for name, t in thresholds.items()}}
            for part in prevalences
        ],
        "calibration": {
            "bins": BINS,
            "ece": calibration_error(films.fractured, judged.probability),
            "brier": brier(films.fractured, judged.probability),
            "reliability": [dataclasses.asdict(b) for b in reliability(films.fractured, judged.probability)],
        },
        "body_regions": _body_regions(judged),
        "hardware": _hardware(judged),
        "localisation": localise(judged),
    }


def compare(judged: Judged, again: Judged) -> dict[str, Any]:
    """The same films by another file of the bundle, from `judge_again`: which decisions differ, whether that is chance,
    and whether the heat maps of films with a fracture agree.

    McNemar's p is of being right equally often, DeLong's of equal AUROCs.
    """
    truth, points = judged.films.fractured, judged.model.manifest.operating_points
    name_of, other_name = judged.model.precision, again.model.precision
    other = again.probability
    exact_last = (judged, again) if other_name == "float32" else (again, judged)
    difference, p = delong_test(truth, judged.probability, other)
    found: dict[str, Any] = {
        "precisions": [name_of, other_name],
        "other_sha256": again.model.sha256,
        "films": len(truth),
        "auroc_difference": difference,
        "delong_p": p,
        "heatmaps": maps_agree(*(of.heatmaps[truth] for of in exact_last)),
        "points": {},
    }
    for name, threshold in (("sensitive", points.sensitive), ("specific", points.specific)):
        called, otherwise = judged.called(threshold), other >= threshold
        flips = np.flatnonzero(called != otherwise)
        right = int((called == truth)[flips].sum())
        found["points"][name] = {
            "flips": len(flips),
            "right": {name_of: right, other_name: len(flips) - right},
            "mcnemar_p": mcnemar(right, len(flips) - right),
            "films": [
                {
                    "film": judged.films.labels[row].path.name,
                    "fractured": bool(truth[row]),
                    name_of: float(judged.probability[row]),
                    other_name: float(other[row]),
                }
                for row in flips
            ],
        }
    return found


def _at_point(judged: Judged, threshold: float) -> dict[str, Any]:
    truth, called = judged.films.fractured, judged.called(threshold)
    return {
        "threshold": threshold,
        "confusion": {
            "true_positive": int((called & truth).sum()),
            "false_negative": int((~called & truth).sum()),
            "false_positive": int((called & ~truth).sum()),
            "true_negative": int((~called & ~truth).sum()),
        },
        "sensitivity": share(called[truth]),
        "specificity": share(~called[~truth]),
        "precision": share(truth[called]),
        "accuracy": share(called == truth),
        "f1": interval(by_group(lambda weights: f1(truth, called, weights), judged.films.groups)),
    }


def _ranking(judged: Judged) -> dict[str, Any]:
    truth, scores, groups = judged.films.fractured, judged.probability, judged.films.groups
    return {
        "auroc": interval(by_group(lambda weights: auroc(truth, scores, weights), groups)),
        "auroc_delong": interval(delong_interval(truth, scores)),
        "auprc": interval(by_group(lambda weights: auprc(truth, scores, weights), groups)),
        f"sensitivity_at_specificity_{SPECIFICITY:.2f}": interval(
            by_group(lambda weights: sensitivity_at(truth, scores, weights, specificity=SPECIFICITY), groups)
        ),
    }


def _predictive(judged: Judged, threshold: float, prevalence: float) -> dict[str, Any]:
    truth, called = judged.films.fractured, judged.called(threshold)

    def values(weights: Weights) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        sensitivity, specificity = mean(called[truth], weights[:, truth]), mean(~called[~truth], weights[:, ~truth])
        return predictive_values(sensitivity, specificity, prevalence)

    return {
        "ppv": interval(by_group(lambda weights: values(weights)[0], judged.films.groups)),
        "npv": interval(by_group(lambda weights: values(weights)[1], judged.films.groups)),
    }


def _body_regions(judged: Judged) -> list[dict[str, Any]]:
    """A row for each body region; a film that shows two counts in both."""
    regions = sorted({region for film in judged.films.labels for region in film.regions})
    return [_row(judged, region, [region in film.regions for film in judged.films.labels]) for region in regions]


def _hardware(judged: Judged) -> list[dict[str, Any]]:
    """Rows with and without hardware; none where the collection does not say."""
    known = [film.hardware for film in judged.films.labels]
    rows = [("with hardware", [has is True for has in known]), ("without hardware", [has is False for has in known])]
    return [_row(judged, name, these) for name, these in rows if any(these)]


def _row(judged: Judged, name: str, these: list[bool]) -> dict[str, Any]:
    """AUROC, and sensitivity and specificity at the specific point, of some of the films; None where fewer than
    `FEWEST` films carry the figure."""
    some = np.array(these)
    truth, scores = judged.films.fractured[some], judged.probability[some]
    groups = [group for group, one in zip(judged.films.groups, these, strict=True) if one]
    called = scores >= judged.model.manifest.operating_points.specific
    enough, enough_others = truth.sum() >= FEWEST, (~truth).sum() >= FEWEST
    area = by_group(lambda weights: auroc(truth, scores, weights), groups) if enough and enough_others else None
    return {
        "of": name,
        "films": len(truth),
        "fractured": int(truth.sum()),
        "auroc": area and interval(area),
        "sensitivity": share(called[truth]) if enough else None,
        "specificity": share(~called[~truth]) if enough_others else None,
    }
