"""How much faster is one model than another: in turns, on the same films, so that the machine's moods cancel out."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bonefrac_benchmarks.statistics import Interval, Weights, by_group

TIMED = 4  # films of a race

Predict = Callable[[NDArray[np.uint8]], Any]


def interleaved(
    models: Mapping[str, Predict],
    films: NDArray[np.uint8],
    *,
    rounds: int = 15,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, NDArray[np.float64]]:
    """Seconds a film (rounds,) of each model, which take turns: A B C, A B C …; one round before these warms them up.

    Give `Model(...).predict` of the engine, whose sessions have one thread unless told otherwise. `films` is uint8
    (n, height, width, 1), predicted in one batch.
    """
    found: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(rounds + 1):
        for name, predict in models.items():
            start = clock()
            predict(films)
            found[name].append((clock() - start) / len(films))
    return {name: np.array(seconds[1:]) for name, seconds in found.items()}


def times_faster(slow: NDArray[np.float64], fast: NDArray[np.float64]) -> Interval:
    """Median over the rounds of the ratio of seconds (rounds,), and a bootstrap over the rounds: a mood that lasts a
    round is in both of them."""
    return by_group(partial(_medians, slow / fast), [str(round_) for round_ in range(len(slow))])


def _medians(values: NDArray[np.float64], weights: Weights) -> NDArray[np.float64]:
    """The lower median of `values` (n,) in each draw of whole `weights` (draws, n): (draws,)."""
    order = np.argsort(values)
    below = np.cumsum(weights[:, order], axis=1)
    return values[order][np.argmax(below >= below[:, -1:] / 2, axis=1)]
