"""What training does differently for a classifier, for a box, and for a heat map trained from boxes: one table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import keras
import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from bonefrac_training.augment import moved
from bonefrac_training.box import iou
from bonefrac_training.films import Inputs
from bonefrac_training.flagship import STRIDE, focal_loss, for_export

Arrays = dict[str, NDArray[np.float32]]
Corners = NDArray[np.float64]  # (n, 4, 2): what `augment.moved` gives for one film
_STAY = np.eye(2, 3)


def uncompiled(model: keras.Model) -> keras.Model:
    """The same layers and weights, without loss and optimiser: what a file for others holds."""
    return keras.Model(model.input, model.output, name=model.name)


@dataclass(frozen=True)
class Kind:
    """targets: label (b,), corners of each film and the input's size -> arrays by the name of the output. measure: a
    row of the history from validation's outputs. watched: the column by which the best epoch is chosen, and training
    stopped. fractured: their share of a batch; for 1.0 only films with boxes train. exported: the network without what
    only training needs."""

    watched: str
    losses: Mapping[str, Any]
    targets: Callable[[NDArray[np.float32], Sequence[Corners], int], Arrays]
    measure: Callable[[Arrays, Inputs], dict[str, float]]
    loss_weights: Mapping[str, float] | None = None
    fractured: float = 6 / 16
    exported: Callable[[keras.Model], keras.Model] = uncompiled


def heat_target(corners: Corners, size: int) -> NDArray[np.uint8]:
    """Cells that a box touches: uint8 (size/16, size/16), 0 or 1."""
    cells = np.zeros((size // STRIDE, size // STRIDE), np.uint8)
    for box in corners:
        cv2.fillConvexPoly(cells, np.floor(box / STRIDE).astype(np.int32), 1)
    return cells


def box_target(corners: Corners, size: int) -> NDArray[np.float32]:
    """The upright box round the largest of a film's boxes: x0, y0, x1, y1 in parts of the side, clipped to 0..1."""
    low, high = corners.min(axis=1), corners.max(axis=1)
    largest = np.prod(high - low, axis=1).argmax()
    return np.clip(np.concatenate([low[largest], high[largest]]) / size, 0, 1).astype(np.float32)


def best_iou(boxes: NDArray[np.float32], films: Inputs) -> NDArray[np.float64]:
    """For each film with boxes: how well `boxes` (n, 4), a row a film, meets the one it meets best."""
    found = []
    for row in np.flatnonzero(films.boxed):
        truth = np.array(films.boxes[row], np.float32) / films.size
        found.append(float(np.max(np.asarray(iou(np.tile(boxes[row], (len(truth), 1)), truth)))))
    return np.array(found, np.float64)


def _classifier_targets(label: NDArray[np.float32], corners: Sequence[Corners], size: int) -> Arrays:
    return {"logit": label}


def _box_targets(label: NDArray[np.float32], corners: Sequence[Corners], size: int) -> Arrays:
    return {"box": np.stack([box_target(film, size) for film in corners])}


def _heatmap_targets(label: NDArray[np.float32], corners: Sequence[Corners], size: int) -> Arrays:
    heat = np.stack([heat_target(film, size) for film in corners]).astype(np.float32)
    return {"heatmap": heat, "local": label, "whole": label}


def _auroc(outputs: Arrays, films: Inputs) -> dict[str, float]:
    return {"auroc": round(float(roc_auc_score(films.fractured, outputs["logit"])), 4)}


def _box_row(outputs: Arrays, films: Inputs) -> dict[str, float]:
    overlap = best_iou(outputs["box"], films)
    return {"mean_iou": round(float(overlap.mean()), 4), "iou_from_0.3": round(float((overlap >= 0.3).mean()), 4)}


def _heatmap_row(outputs: Arrays, films: Inputs) -> dict[str, float]:
    """AUROC, and how often the map's peak lies in a cell that a box touches."""
    hits = [
        heat_target(moved(films.boxes[row], _STAY), films.size).flat[outputs["heatmap"][row].argmax()]
        for row in np.flatnonzero(films.boxed)
    ]
    return {**_auroc(outputs, films), "peak_in_box": round(float(np.mean(hits)), 4) if hits else 0.0}


def _cross_entropy() -> Any:
    return keras.losses.BinaryCrossentropy(from_logits=True)


KINDS = {
    "classifier": Kind("auroc", {"logit": _cross_entropy()}, _classifier_targets, _auroc),
    "box": Kind("mean_iou", {"box": keras.losses.Huber(delta=0.1)}, _box_targets, _box_row, fractured=1.0),
    "heatmap": Kind(
        "auroc",
        {"heatmap": focal_loss, "local": _cross_entropy(), "whole": _cross_entropy()},
        _heatmap_targets,
        _heatmap_row,
        loss_weights={"heatmap": 1.0, "local": 0.5, "whole": 0.5},
        exported=for_export,
    ),
}
