"""Which layers spoil int8, and the fewest of them to leave in float32 until it is good enough."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from scipy.special import logit

from bonefrac_export.quantize import layers

_EDGE = 1e-6  # a probability of 0 or 1 has no logit
Make = Callable[[Sequence[str]], onnx.ModelProto]


@dataclass(frozen=True)
class Freed:
    """An int8 model that passes, the layers that it took back to float, and the bytes that they cost."""

    model: onnx.ModelProto
    layers: tuple[str, ...]
    bytes_more: int


def layer_errors(float32: onnx.ModelProto, make: Make, films: NDArray[np.uint8]) -> dict[str, float]:
    """What each layer alone in int8 does to the decision, by the layer's name, worst first: the root mean square
    difference of the probability's logit from `float32`'s.

    `make` quantizes `float32` with the layers that it is given in float; `films` is uint8 (n, height, width, 1). The
    error of tensors inside would not do: what most disturbs the next layer need not reach the end.
    """
    names = list(layers(float32))
    exact = _logits(float32, films)
    errors = {
        name: float(np.sqrt(np.square(_logits(make([n for n in names if n != name]), films) - exact).mean()))
        for name in names
    }
    return dict(sorted(errors.items(), key=lambda item: -item[1]))


def _logits(model: onnx.ModelProto, films: NDArray[np.uint8]) -> NDArray[np.float64]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = [session.run(["probability"], {"pixels": film[None]})[0] for film in films]
    return logit(np.clip(np.concatenate(found).astype(np.float64), _EDGE, 1 - _EDGE))


def free_fewest(
    make: Make, guilty: Sequence[str], passes: Callable[[onnx.ModelProto], bool], most: int = 16
) -> Freed | None:
    """An int8 model that `passes`, with as few of `guilty` in float as this search finds; None where `most` do not
    help.

    `make` quantizes with the layers that it is given in float; `guilty` are layers, worst first. The worst 1, 2, 4 …
    are freed until the model passes, the smallest number is found between the last two by halving, and then each but
    the last is put back, least guilty first, where the model passes without it. With k layers freed that asks `passes`
    about 2 log2 k + k times. It need not be the true least: that would ask for every set of layers.
    """
    plain = make(())
    if passes(plain):
        return Freed(plain, (), 0)
    fails, enough, limit = 0, 1, min(most, len(guilty))
    while not passes(make(guilty[:enough])):
        if enough >= limit:
            return None
        fails, enough = enough, min(2 * enough, limit)
    while enough - fails > 1:
        middle = (fails + enough) // 2
        fails, enough = (fails, middle) if passes(make(guilty[:middle])) else (middle, enough)
    freed = list(guilty[:enough])
    for name in freed[-2::-1]:
        without = [other for other in freed if other != name]
        if passes(make(without)):
            freed = without
    model = make(freed)
    return Freed(model, tuple(freed), model.ByteSize() - plain.ByteSize())
