"""Sums of int8 tensors that every processor rounds alike.

ONNX Runtime adds two quantized tensors in fixed point with 22-bit multipliers where there is AVX2 or NEON, and in
floating point elsewhere (mlas, qladd.cpp): sums that lie close to the middle between two levels then end one level
apart, and the layers behind them carry that to the probability. An output scale larger by less than a thousandth
leaves no sum there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization.quant_utils import compute_scale_zp

from bonefrac_export.calibration import Range

_MOST, _TRIES = 1e-3, 2000  # how much larger a scale may become, and in how many steps
_FLOAT_ERROR = 6e-5  # of a sum in float32, in levels: two units in the last place of 511
Step = tuple[NDArray[np.float32], NDArray[np.uint8]]  # scale and zero point


def steps(model: onnx.ModelProto, limits: Mapping[str, Range]) -> dict[str, Step]:
    """Scale and zero point of uint8 tensors with the ranges `limits`, by their names.

    What two tensors sum up to has a scale with which no sum is ambiguous, as far as one is found; tensors that share a
    range go on sharing it.
    """
    ranges = dict(limits)
    for node in model.graph.node:  # in topological order: a sum may be added to another
        if node.op_type != "Add" or not {*node.input, *node.output} <= set(ranges):
            continue
        one, two = (_step(ranges[name]) for name in node.input)
        before = ranges[node.output[0]]
        best = _clearest(one, two, before)
        ranges = {name: best if found == before else found for name, found in ranges.items()}
    return {name: _step(found) for name, found in ranges.items()}


def _clearest(one: Step, two: Step, limits: Range) -> Range:
    """The first range from `limits` on with which no sum is ambiguous, or that with the fewest."""
    best, fewest = limits, 256 * 256 + 1
    for factor in np.linspace(1, 1 + _MOST, _TRIES):
        wider = limits[0] * float(factor), limits[1] * float(factor)
        if (count := ambiguous(one, two, _step(wider))) < fewest:
            best, fewest = wider, count
        if fewest == 0:
            break
    return best


def _step(limits: Range) -> Step:
    """As ONNX Runtime's quantization makes it of a range."""
    low, high = (np.array(limit, np.float32) for limit in limits)
    zero, scale = compute_scale_zp(low, high, np.array(0, np.uint8), np.array(255, np.uint8))
    return np.asarray(scale, np.float32), np.asarray(zero, np.uint8)


def ambiguous(one: Step, two: Step, total: Step) -> int:
    """How many of the 65,536 pairs of levels of `one` and `two` have a sum that fixed point and floating point round to
    another level of `total`, or that floating point alone may."""
    ratios = [float(np.float32(scale) / np.float32(total[0])) for scale, _ in (one, two)]
    unit = 2.0 ** (21 - int(np.floor(np.log2(max(ratios)))))
    first, second = (np.arange(256.0) - float(zero) for _, zero in (one, two))
    exact = first[:, None] * ratios[0] + second[None] * ratios[1]
    fixed = (first[:, None] * np.rint(ratios[0] * unit) + second[None] * np.rint(ratios[1] * unit)) / unit
    differ: NDArray[Any] = np.floor(fixed + 0.5) != np.floor(exact + 0.5)
    differ |= np.abs(exact - np.floor(exact) - 0.5) < _FLOAT_ERROR
    level = exact + float(total[1])
    return int((differ & (level > -1) & (level < 256)).sum())
