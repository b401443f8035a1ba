"""`box`: one box for a film, regressed; the simplest localiser there is.

It always gives a box, on a healthy bone too: show it only where a classifier says fracture. Huber's loss: Huber,
*Robust estimation of a location parameter*, Ann. Math. Statist. 35 (1964).
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from bonefrac_training.frame import grey_input, scaled

LEAST_SIDE = 1 / 64  # of the input's side: a box is never empty


def box(size: int) -> keras.Model:
    """Convolution and max pooling, pooling, dense -> `box` (N, 4): x0, y0, x1, y1 in parts of the input's side."""
    grey = grey_input(size)
    x = scaled(grey, "unit", channels=1)
    for number, width in enumerate((32, 64, 128, 128, 256), 1):
        x = layers.Conv2D(width, 3, padding="same", activation="relu", name=f"block{number}_conv")(x)
        x = layers.MaxPooling2D(2, name=f"block{number}_pool")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dense(128, activation="relu", name="dense")(x)
    place = layers.Dense(2, dtype="float32", name="head_place")(x)
    extent = layers.Dense(2, dtype="float32", name="head_extent")(x)
    return keras.Model(grey, {"box": ordered_corners(place, extent)}, name="box")


def ordered_corners(place: Any, extent: Any) -> Any:
    """Logits (N, 2) of place and extent -> (N, 4) in 0..1 with x0 < x1 and y0 < y1, whatever the logits.

    Four sigmoids: two for the sides, two for where in the room that is left the box begins.
    """
    sides = LEAST_SIDE + (1 - LEAST_SIDE) * ops.sigmoid(extent)
    first = (1 - sides) * ops.sigmoid(place)
    return ops.concatenate([first, first + sides], axis=-1)


def iou(one: Any, other: Any) -> Any:
    """Intersection over union of boxes (…, 4) and (…, 4), x0, y0, x1, y1."""
    low, high = ops.maximum(one[..., :2], other[..., :2]), ops.minimum(one[..., 2:], other[..., 2:])
    shared = ops.prod(ops.maximum(high - low, 0.0), axis=-1)
    areas = [ops.prod(boxes[..., 2:] - boxes[..., :2], axis=-1) for boxes in (one, other)]
    return shared / ops.maximum(areas[0] + areas[1] - shared, 1e-12)
