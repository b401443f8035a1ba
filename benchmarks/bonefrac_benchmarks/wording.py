"""A figure as JSON has it, and as a person reads it: in the card, the report and the terminal alike."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bonefrac_benchmarks.statistics import Interval, wilson

NOTHING = "–"  # too few films, or nothing to count


def interval(found: Interval) -> dict[str, Any]:
    """`value`, `low`, `high`; None for what is not a number, which JSON does not know."""
    return {name: None if math.isnan(value) else value for name, value in vars(found).items()}


def share(hits: NDArray[np.bool_]) -> dict[str, Any] | None:
    """A share of films with Wilson's interval, and of how many; None for no films."""
    return counted(int(hits.sum()), len(hits)) if len(hits) else None


def counted(count: int, of: int) -> dict[str, Any]:
    """The same of two numbers; `of` may not be 0."""
    return {**vars(wilson(count, of)), "count": count, "of": of}


def shown(figure: dict[str, Any] | None, digits: int = 3) -> str:
    """`0.743 (0.665 to 0.808), 104 of 140`, as far as the figure goes."""
    if figure is None or figure["value"] is None:
        return NOTHING
    text = f"{figure['value']:.{digits}f}"
    if figure["low"] is not None:
        text += f" ({figure['low']:.{digits}f} to {figure['high']:.{digits}f})"
    return text + (f", {figure['count']} of {figure['of']}" if "of" in figure else "")
