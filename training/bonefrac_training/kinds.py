"""What training does differently for a classifier, for a box, and for a heat map trained from boxes: one table."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import keras
import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from bonefrac_training.box import iou
from bonefrac_training.films import Inputs
from bonefrac_training.flagship import STRIDE, focal_loss, for_export

Arrays = dict[str, NDArray[np.float32]]
Corners = NDArray[np.float64]  # (n, 4, 2): what `augment.moved` gives for one film


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


def heat_target(corners: Corners, size: int) -> NDArray[np.int8]:
    """What each cell of the map shall say: int8 (size/STRIDE, size/STRIDE), 1 in the middle half of a box, -1 (nothing:
    no loss) where the rest of one touches, 0 elsewhere. A box is drawn wider than its fracture."""
    cells = np.zeros((size // STRIDE, size // STRIDE), np.int8)
    for part, says in ((1.0, -1), (0.5, 1)):
        for box in corners:
            centre = box.mean(axis=0)
            touched = np.zeros(cells.shape, np.uint8)
            cv2.fillConvexPoly(touched, np.floor((centre + (box - centre) * part) / STRIDE).astype(np.int32), 1)
            cells[touched == 1] = says
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
    """Of a fracture whose place nobody drew the map learns nothing: it may be in any cell."""
    heat = np.stack([heat_target(film, size) for film in corners]).astype(np.float32)
    heat[[fractured > 0 and not len(film) for fractured, film in zip(label, corners, strict=True)]] = -1
    return {"heatmap": heat, "local": label, "whole": label}


def _auroc(outputs: Arrays, films: Inputs) -> dict[str, float]:
    return {"auroc": round(float(roc_auc_score(films.fractured, outputs["logit"])), 4)}


def _box_row(outputs: Arrays, films: Inputs) -> dict[str, float]:
    overlap = best_iou(outputs["box"], films)
    return {"mean_iou": round(float(overlap.mean()), 4), "iou_from_0.3": round(float((overlap >= 0.3).mean()), 4)}


def _heatmap_row(outputs: Arrays, films: Inputs) -> dict[str, float]:
    """AUROC, and on how many films with boxes the centre of the map's highest cell lies inside one: NaN of none."""
    hits = []
    for row in np.flatnonzero(films.boxed):
        heat = outputs["heatmap"][row]
        y, x = (np.array(np.unravel_index(heat.argmax(), heat.shape)) + 0.5) * STRIDE
        hits.append(any(x0 <= x <= x1 and y0 <= y <= y1 for x0, y0, x1, y1 in films.boxes[row]))
    return {**_auroc(outputs, films), "peak_in_box": round(float(np.mean(hits)), 4) if hits else math.nan}


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
