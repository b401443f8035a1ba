"""What a run is worth on films that it never trained with: figures with 95 % intervals, drawn over groups."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from bonefrac_training.films import Inputs
from bonefrac_training.kinds import Arrays, best_iou

_DRAWS = 2000
SPECIFICITY = 0.90
ENOUGH_IOU = 0.3
Rows = NDArray[np.intp]


def sensitivity_at(truth: NDArray[np.bool_], scores: NDArray[np.floating[Any]], specificity: float) -> float:
    """The highest sensitivity of all thresholds with at least that specificity."""
    false_positive, true_positive, _ = roc_curve(truth, scores)
    return float(true_positive[false_positive <= 1 - specificity + 1e-12].max())


def by_group(statistic: Callable[[Rows], float | None], groups: Sequence[str]) -> dict[str, float]:
    """`value`, `low`, `high`: a statistic of rows, and its 95 % percentile bootstrap over groups, for films of one
    group are not independent (Efron and Tibshirani, 1993, chapter 13). Draws that give None do not count."""
    names, group_of = np.unique(groups, return_inverse=True)
    members = [np.flatnonzero(group_of == index) for index in range(len(names))]
    rng = np.random.default_rng(0)
    draws = []
    for _ in range(_DRAWS):
        found = statistic(np.concatenate([members[index] for index in rng.integers(0, len(names), len(names))]))
        if found is not None:
            draws.append(found)
    value = statistic(np.arange(len(groups)))
    low, high = np.percentile(draws, (2.5, 97.5)) if draws else (np.nan, np.nan)
    return {
        "value": round(np.nan if value is None else float(value), 4),
        "low": round(float(low), 4),
        "high": round(float(high), 4),
    }


def classifier_figures(outputs: Arrays, films: Inputs) -> dict[str, Any]:
    """AUROC with its interval, AUPRC, sensitivity at a specificity of 0.90."""
    truth, scores = films.fractured, outputs["logit"].astype(np.float64)

    def auroc(rows: Rows) -> float | None:
        some = truth[rows]
        return float(roc_auc_score(some, scores[rows])) if 0 < some.sum() < len(some) else None

    return {
        "auroc": by_group(auroc, films.groups),
        "auprc": round(float(average_precision_score(truth, scores)), 4),
        "sensitivity_at_specificity_0.90": round(sensitivity_at(truth, scores, SPECIFICITY), 4),
    }


def box_figures(outputs: Arrays, films: Inputs) -> dict[str, Any]:
    """On films with a fracture: the mean IoU with the box met best, and how many boxes have at least 0.3 of it."""
    overlap = best_iou(outputs["box"], films)
    groups = [group for group, boxed in zip(films.groups, films.boxed, strict=True) if boxed]
    return {
        "mean_iou": by_group(lambda rows: float(overlap[rows].mean()), groups),
        "iou_from_0.3": by_group(lambda rows: float((overlap[rows] >= ENOUGH_IOU).mean()), groups),
    }


def figures(outputs: Arrays, films: Inputs) -> dict[str, Any]:
    """The figures that these outputs allow, and what they were measured on."""
    measured = box_figures(outputs, films) if "box" in outputs else classifier_figures(outputs, films)
    on = {"films": len(films.fractured), "fractured": int(films.fractured.sum()), "groups": len(set(films.groups))}
    return {**measured, "validated_on": on}
