"""The range of every tensor over some films: what int8 spreads its 256 levels over.

ONNX Runtime's own `entropy` clips nothing at its defaults: it has as many bins as levels, so the whole range is its
only candidate, and `quantize_static` passes it no other number; its `percentile` looks at one side only. Both keep
every tensor of every film in memory. Here a tensor is counted film by film, and the order of the films does not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Literal, get_args

import numpy as np
import onnx
from numpy.typing import NDArray
from scipy.special import rel_entr

from bonefrac.errors import BonefracError, UsageError
from bonefrac_export.inside import inside

Method = Literal["minmax", "percentile", "entropy"]
Range = tuple[np.float32, np.float32]

PERCENTILE = 99.999  # of the values lie inside, as many of the others below as above; 99.9 and 99.99 clip what decides
_BINS = 8192  # over [-bound, bound]: at least a quarter of half of them lie within the largest value
_EXPONENT = -60  # a bound so small that every tensor outgrows it, unless it is all but zero
_LEVELS = 256
_STRIDE = 16  # bins from one candidate of `entropy` to the next
_SMALLEST = 1e-9  # share of a bin that holds nothing: no value is impossible


class Extremes:
    """The smallest and the largest value of a tensor so far, and 0, which int8 always holds."""

    def __init__(self) -> None:
        self.low = self.high = np.float32(0)

    def add(self, values: NDArray[np.float32]) -> None:
        """Any shape, at least one value. Raises ValueError where one is not finite."""
        low, high = values.min(), values.max()
        if not np.isfinite([low, high]).all():
            raise ValueError("holds values that are not finite")
        self.low, self.high = min(self.low, low), max(self.high, high)


class Histogram(Extremes):
    """Also how many values lie where: `counts` int64 (bins,) over [-bound, bound], `bound` a power of two.

    When values outgrow the bound, it doubles and neighbours merge, so edges stay edges.
    """

    def __init__(self) -> None:
        super().__init__()
        self.counts = np.zeros(_BINS, np.int64)
        self._exponent = _EXPONENT

    @property
    def bound(self) -> float:
        return 2.0**self._exponent

    @property
    def edges(self) -> NDArray[np.float64]:
        """(bins + 1,), ascending, 0 in the middle."""
        return np.linspace(-self.bound, self.bound, _BINS + 1)

    def add(self, values: NDArray[np.float32]) -> None:
        super().add(values)
        while max(-self.low, self.high) >= self.bound:
            merged = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.pad(merged, _BINS // 4)
            self._exponent += 1
        bins = (values.ravel() * np.float32(_BINS / 2 / self.bound) + _BINS // 2).astype(np.int32)
        self.counts += np.bincount(np.minimum(bins, _BINS - 1), minlength=_BINS)  # the sum above may round up


def minmax(seen: Extremes) -> Range:
    """Everything."""
    return seen.low, seen.high


def percentile(seen: Histogram, percent: float = PERCENTILE) -> Range:
    """The middle `percent` of the values, to the width of a bin."""
    below = np.cumsum(seen.counts) / seen.counts.sum()
    tail = (100 - percent) / 200
    first, last = np.searchsorted(below, tail, "right"), np.searchsorted(below, 1 - tail)
    return _cut(seen, float(seen.edges[first]), float(seen.edges[last + 1]))


def entropy(seen: Histogram) -> Range:
    """What is cut off where |x| keeps most of its information: the least Kullback-Leibler divergence of the levels from
    the values, those cut off counted at the end (Migacz, 8-bit Inference with TensorRT, GTC 2017, S7310).

    Values about zero count as their neighbours do: zero is a level of its own, however many activations are off.
    """
    half = _BINS // 2
    counts = seen.counts[half:] + seen.counts[:half][::-1]
    counts[0] = counts[1]
    levels = _LEVELS if seen.low >= 0 else _LEVELS // 2
    last = np.flatnonzero(counts).max(initial=0) + 1
    candidates = [*range(levels, last, _STRIDE), max(last, 1)]
    best = min(candidates, key=lambda bins: _divergence(counts, bins, levels))
    bound = float(seen.edges[half + best])
    return _cut(seen, -bound, bound)


def _divergence(counts: NDArray[np.int64], bins: int, levels: int) -> float:
    """Of the first `bins` spread over `levels` from themselves with all that lies beyond in the last one."""
    inside = counts[:bins].astype(np.float64)
    reference = inside.copy()
    reference[-1] += counts[bins:].sum()
    level = np.arange(bins) * levels // bins
    there = reference > 0
    shared = np.bincount(level, inside) / np.maximum(np.bincount(level, there), 1)
    spread = np.where(there, shared[level], 0)
    spread = np.maximum(spread / max(spread.sum(), 1), _SMALLEST)
    return float(rel_entr(reference / max(reference.sum(), 1), spread).sum())


def _cut(seen: Extremes, low: float, high: float) -> Range:
    return np.float32(min(max(low, seen.low), 0)), np.float32(max(min(high, seen.high), 0))


_METHODS: dict[str, tuple[type[Extremes], Callable[..., Range]]] = {
    "minmax": (Extremes, minmax),
    "percentile": (Histogram, percentile),
    "entropy": (Histogram, entropy),
}


def ranges(
    model: onnx.ModelProto, films: NDArray[np.uint8], tensors: Collection[str], method: Method = "minmax"
) -> dict[str, Range]:
    """Lowest and highest value to keep of each of the float32 `tensors` over `films`, 0 always between them.

    `films` is uint8 (n, height, width, 1) for the model's one input. Raises UsageError for an unknown method or without
    films, BonefracError where a tensor is not finite.
    """
    if method not in get_args(Method):
        raise UsageError(f"unknown calibration method '{method}': choose {', '.join(get_args(Method))}")
    if not len(films):
        raise UsageError("there are no films to calibrate int8 with")
    kind, limits = _METHODS[method]
    seen = {name: kind() for name in sorted(tensors)}
    for values in inside(model, seen, films):
        for name, found in seen.items():
            try:
                found.add(values[name])
            except ValueError as error:
                raise BonefracError(f"int8 cannot be calibrated: tensor {name} {error}") from error
    return {name: limits(found) for name, found in seen.items()}
