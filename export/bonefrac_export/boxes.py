"""A box as a heat map: 1 inside it, so that the engine draws it, and only where the classifier finds something."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from bonefrac.preprocess import InputSpec

CELL = 4  # px of input
_LEAST = 2  # cells of a side: one of them is then covered whole, and reaches every level


def box_heat(box: tf.Tensor, spec: InputSpec) -> tf.Tensor:
    """Boxes (N, 4), x0, y0, x1, y1 in parts of the input's sides, in any order -> float32 (N, height / 4, width / 4):
    the part of each cell that lies in the box."""
    box = tf.clip_by_value(box, 0.0, 1.0)
    rows, columns = spec.height // CELL, spec.width // CELL
    across, down = _covered(box[:, 0:1], box[:, 2:3], columns), _covered(box[:, 1:2], box[:, 3:4], rows)
    return down[:, :, None] * across[:, None, :]


def _covered(one: tf.Tensor, other: tf.Tensor, cells: int) -> tf.Tensor:
    """The part of each cell (N, cells) between two ends (N, 1) in parts of the side."""
    middle, half = (one + other) * (cells / 2), tf.maximum(tf.abs(one - other) * (cells / 2), _LEAST / 2)
    middle = tf.clip_by_value(middle, half, cells - half)
    first = np.arange(cells, dtype=np.float32)[None]
    return tf.clip_by_value(tf.minimum(first + 1, middle + half) - tf.maximum(first, middle - half), 0.0, 1.0)
