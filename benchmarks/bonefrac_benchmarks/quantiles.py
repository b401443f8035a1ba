"""The quantiles of waiting times that a sample allows, each with its interval: what `latency` and `watch` tell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from bonefrac_benchmarks.figures import Spread, table
from bonefrac_benchmarks.statistics import fewest_for, quantile

SHARES = (0.50, 0.90, 0.95, 0.99)
WINDOWS = 3


def quantiles(samples: Sequence[float]) -> dict[str, dict[str, Any]]:
    """For JSON: `p50`, `p90`, `p95` and `p99` with `value`, `low` and `high`, which are None where the sample is
    smaller than `needs` (see `statistics.fewest_for`): a p99 of a hundred samples is their maximum and nothing else."""
    found = {}
    for share in SHARES:
        needs = fewest_for(share)
        figure = vars(quantile(samples, share)) if len(samples) >= needs else dict.fromkeys(("value", "low", "high"))
        found[f"p{share * 100:.0f}"] = {"needs": needs, **{name: _known(value) for name, value in figure.items()}}
    return found


def lines(found: dict[str, dict[str, Any]], unit: str, scale: float = 1.0, digits: int = 1) -> list[str]:
    """A table of `quantiles`, multiplied by `scale`; what the sample does not allow is said so."""
    rows = [("", unit, "95 % interval", "films needed")]
    for name, figure in found.items():
        if figure["value"] is None:
            rows.append((name, "not told", "", str(figure["needs"])))
            continue
        low, high = (f"{scale * end:.{digits}f}" if end is not None else "?" for end in (figure["low"], figure["high"]))
        rows.append((name, f"{scale * figure['value']:.{digits}f}", f"{low} to {high}", str(figure["needs"])))
    return table(rows)


def needed_for(share: float) -> str:
    """Which quantile a count of films is needed for, as a `Validity` tells it under a table of several."""
    return f"the p{share * 100:.0f}, each other quantile as its row says"


def windows(samples: Sequence[float]) -> Spread:
    """The medians of the first, the middle and the last third of the samples, in the order of time."""
    edges = [len(samples) * number // WINDOWS for number in range(WINDOWS + 1)]
    thirds = [samples[start:end] for start, end in pairwise(edges) if end > start]
    return Spread(tuple(Spread(tuple(third)).median for third in thirds))


def _known(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value
