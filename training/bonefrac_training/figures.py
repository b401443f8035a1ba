"""What a run is worth on films that it never trained with: figures with 95 % intervals, drawn over groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bonefrac_benchmarks.statistics import Statistic, auprc, auroc, by_group, mean, sensitivity_at
from bonefrac_training.films import Inputs
from bonefrac_training.kinds import Arrays, best_iou

SPECIFICITY = 0.90
ENOUGH_IOU = 0.3


def classifier_figures(outputs: Arrays, films: Inputs) -> dict[str, Any]:
    """AUROC with its interval, AUPRC, sensitivity at a specificity of 0.90."""
    truth, scores = films.fractured, outputs["logit"].astype(np.float64)
    once = np.ones((1, len(truth)))
    at_specificity = sensitivity_at(truth, scores, once, specificity=SPECIFICITY)
    return {
        "auroc": _interval(lambda weights: auroc(truth, scores, weights), films.groups),
        "auprc": round(float(auprc(truth, scores, once)[0]), 4),
        "sensitivity_at_specificity_0.90": round(float(at_specificity[0]), 4),
    }


def box_figures(outputs: Arrays, films: Inputs) -> dict[str, Any]:
    """On films with a fracture: the mean IoU with the box met best, and how many boxes have at least 0.3 of it."""
    overlap = best_iou(outputs["box"], films)
    groups = [group for group, boxed in zip(films.groups, films.boxed, strict=True) if boxed]
    return {
        "mean_iou": _interval(lambda weights: mean(overlap, weights), groups),
        "iou_from_0.3": _interval(lambda weights: mean(overlap >= ENOUGH_IOU, weights), groups),
    }


def figures(outputs: Arrays, films: Inputs) -> dict[str, Any]:
    """The figures that these outputs allow, and what they were measured on."""
    measured = box_figures(outputs, films) if "box" in outputs else classifier_figures(outputs, films)
    on = {"films": len(films.fractured), "fractured": int(films.fractured.sum()), "groups": len(set(films.groups))}
    return {**measured, "validated_on": on}


def _interval(statistic: Statistic, groups: Sequence[str]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in vars(by_group(statistic, groups)).items()}
