"""Weights rounded to int8 so that their errors cancel out: what one is rounded up, those after it make good.

The nearest level for each weight alone is not the best for their sum. With the second moments of what a layer reads,
the weights of a channel are rounded one by one, and each time those not yet rounded, and the bias at last, move to
where the output's mean square error is least again (Frantar et al., GPTQ, ICLR 2023; the bias as in Nagel et al.,
Data-Free Quantization Through Weight Equalization and Bias Correction, ICCV 2019).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from bonefrac_export.inside import inside

_SAMPLED = 512  # places of each film that a kernel is looked at
_DAMPING = 0.001  # of the mean second moment, on all of them: directions that films do not have cannot run away
_PAIR = 128  # 255 * 128 is the most that 16 bits hold
_BLOCK = 64  # weights that are rounded before the rest is told

Moments = NDArray[np.float64]


@dataclass(frozen=True)
class Rounded:
    """A convolution's `weights` float32 (out, in, height, width), each a multiple of its channel's `scale` (out,), and
    the `bias` (out,) that goes with them."""

    weights: NDArray[np.float32]
    scale: NDArray[np.float32]
    bias: NDArray[np.float32]


def rounded(
    model: onnx.ModelProto, films: NDArray[np.uint8], nodes: Collection[str], levels: int = 127, in_pairs: bool = False
) -> dict[str, Rounded]:
    """The convolutions of `model` among `nodes`, by name, with at most `levels` steps of weight on both sides of 0.

    `in_pairs`: such that two products with uint8, which CPUs without VNNI add in 16 bits, never saturate: of weights
    that are neighbours in memory, the steps of one sign sum to at most 128. Depthwise kernels are not added that way.
    `films` is uint8 (n, height, width, 1). Left out are convolutions without bias, those that pad by themselves, and
    those whose weights or bias some other node reads too.
    """
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    readers = Counter(name for node in model.graph.node for name in node.input)
    layers = [
        node
        for node in model.graph.node
        if node.op_type == "Conv"
        and node.name in nodes
        and len(node.input) == 3
        and not any(attribute.name == "auto_pad" and attribute.s != b"NOTSET" for attribute in node.attribute)
        and all(name in constants and readers[name] == 1 for name in node.input[1:])
    ]
    if not layers:
        return {}
    moments: dict[str, Moments] = {}
    with threadpool_limits(1, "blas"):  # its threads wait for each other where other programs run; and sum otherwise
        for film, values in enumerate(inside(model, {node.input[0] for node in layers}, films)):
            for node in layers:
                kernel = constants[node.input[1]].shape[2:]
                seen = _seen(values[node.input[0]][0], node, kernel, np.random.default_rng(film))
                moment = (seen @ seen.transpose(0, 2, 1)).astype(np.float64)
                moments[node.name] = moments[node.name] + moment if film else moment
        return {
            node.name: _rounded(
                constants[node.input[1]], constants[node.input[2]], moments[node.name], levels, in_pairs
            )
            for node in layers
        }


def _seen(
    values: NDArray[np.float32], node: onnx.NodeProto, kernel: tuple[int, ...], rng: np.random.Generator
) -> NDArray[np.float32]:
    """What each kernel of `node` reads of `values` (channels, height, width) at some places, and 1 for the bias:
    (groups, kernel's height * width * channels of a group + 1, places), the order in which they are multiplied."""
    attributes: dict[str, Any] = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    groups, (down, right) = attributes.get("group", 1), attributes.get("strides", (1, 1))
    (tall, wide), (dy, dx) = kernel, attributes.get("dilations", (1, 1))
    above, before, below, behind = attributes.get("pads", (0, 0, 0, 0))
    padded = np.pad(values, ((0, 0), (above, below), (before, behind)))
    height = (padded.shape[1] - dy * (tall - 1) - 1) // down + 1
    width = (padded.shape[2] - dx * (wide - 1) - 1) // right + 1
    places = rng.permutation(height * width)[:_SAMPLED]
    y, x = places // width * down, places % width * right
    seen = np.empty((groups, tall * wide, len(values) // groups, len(places)), np.float32)
    for at in range(tall * wide):
        seen[:, at] = padded[:, y + at // wide * dy, x + at % wide * dx].reshape(groups, -1, len(places))
    seen = seen.reshape(groups, -1, len(places))
    return np.concatenate([seen, np.ones((groups, 1, len(places)), np.float32)], axis=1)


def _rounded(
    weights: NDArray[np.float32], bias: NDArray[np.float32], moments: Moments, levels: int, in_pairs: bool
) -> Rounded:
    """`moments` (groups, k + 1, k + 1) are sums over films; the last row is that of the bias."""
    groups, size = len(moments), moments.shape[1] - 1
    in_pairs = in_pairs and (groups == 1 or weights.shape[1] > 1)
    kernels = np.moveaxis(weights, 1, -1)  # (out, height, width, in), as it lies in memory
    left = np.concatenate([kernels.reshape(groups, -1, size), bias.reshape(groups, -1, 1)], axis=2).astype(np.float64)
    scale = np.abs(left[..., :size]).max(axis=2) / levels
    if in_pairs:
        scale = np.maximum(scale, _largest_pair(left[..., :size]) / _PAIR)
    scale = np.where(scale == 0, 1, scale).astype(np.float32)

    moments = moments / moments[:, -1:, -1:]
    every = np.arange(size)
    moments[:, every, every] += _DAMPING * moments[:, every, every].mean(axis=1, keepdims=True) + 1e-12
    upper = np.linalg.cholesky(np.linalg.inv(moments)).transpose(0, 2, 1)

    steps = np.zeros_like(left[..., :size])
    for start in range(0, size, _BLOCK):
        stop = min(start + _BLOCK, size)
        errors = np.zeros((*left.shape[:2], stop - start))
        for at in range(start, stop):
            lowest, highest = -levels, levels
            if in_pairs and at % 2:
                lowest = np.maximum(lowest, -_PAIR - np.minimum(steps[..., at - 1], 0))
                highest = np.minimum(highest, _PAIR - np.maximum(steps[..., at - 1], 0))
            steps[..., at] = np.clip(np.rint(left[..., at] / scale), lowest, highest)
            error = (left[..., at] - steps[..., at] * scale) / upper[:, None, at, at]
            left[..., at:stop] -= error[..., None] * upper[:, None, at, at:stop]
            errors[..., at - start] = error
        left[..., stop:] -= errors @ upper[:, start:stop, stop:]
    found = np.moveaxis((steps * scale[..., None]).reshape(kernels.shape), -1, 1)
    return Rounded(found.astype(np.float32), scale.ravel(), left[..., size].ravel().astype(np.float32))


def _largest_pair(kernels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Largest sum of neighbours 0 and 1, 2 and 3 … of one sign, in `kernels` (groups, out, k): (groups, out)."""
    size = kernels.shape[2]
    pairs = np.pad(kernels, ((0, 0), (0, 0), (0, size % 2))).reshape(*kernels.shape[:2], -1, 2)
    return np.maximum(pairs.clip(0).sum(axis=3), (-pairs).clip(0).sum(axis=3)).max(axis=2)
