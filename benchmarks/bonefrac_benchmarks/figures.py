"""A figure of several rounds, and what it is held against. Every sample is kept: a median alone hides the spread, and a
mean without its highest values hides what a person waits for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from bonefrac_benchmarks.statistics import quantile

_UNSTABLE = 0.10  # of the median, between the highest and the lowest round


@dataclass(frozen=True)
class Spread:
    """One quantity, measured once a round, in the order of the rounds; at least one sample."""

    samples: tuple[float, ...]

    @property
    def median(self) -> float:
        return median(self.samples)

    @property
    def low(self) -> float:
        return min(self.samples)

    @property
    def high(self) -> float:
        return max(self.samples)

    @property
    def apart(self) -> float:
        """How far the highest and the lowest round are from one another, as a share of the median."""
        return (self.high - self.low) / self.median

    @property
    def unstable(self) -> bool:
        """Whether the rounds differ by more than 10 % of their median; a single round proves nothing either."""
        return len(self.samples) < 2 or self.apart > _UNSTABLE

    @property
    def interval(self) -> tuple[float, float] | None:
        """Of the median, of at least 95 %, from the order of the rounds alone; None for fewer than six of them."""
        found = quantile(self.samples, 0.5)
        return None if math.isnan(found.low) or math.isnan(found.high) else (found.low, found.high)

    def over(self, other: Spread) -> Spread:
        """The ratio to another quantity, round by round: what slows a whole round down cancels out."""
        return Spread(tuple(a / b for a, b in zip(self.samples, other.samples, strict=True)))

    def text(self, digits: int = 1) -> str:
        """`median (min to max)`."""
        return f"{self.median:.{digits}f} ({self.low:.{digits}f} to {self.high:.{digits}f})"

    def record(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "median": self.median,
            "min": self.low,
            "max": self.high,
            "interval": self.interval and list(self.interval),
            "samples": list(self.samples),
        }


@dataclass(frozen=True)
class Goal:
    """A measured value and its target. `at_least` False: at most. `unstable` names what it was formed of whose windows
    differ too much: a ratio is as good as both its parts."""

    name: str
    value: Spread
    target: float
    at_least: bool = True
    unit: str = ""
    digits: int = 3  # 0.848 is below 0.85, and must not be shown as 0.85
    unstable: tuple[str, ...] = ()

    @property
    def reached(self) -> bool:
        """Judged by the median, before any rounding."""
        return self.value.median >= self.target if self.at_least else self.value.median <= self.target

    def line(self) -> str:
        measured = (
            self.value.text(self.digits) if len(self.value.samples) > 1 else f"{self.value.median:.{self.digits}f}"
        )
        if self.value.interval:
            measured += ", 95 % interval of the median {:.{d}f} to {:.{d}f}".format(*self.value.interval, d=self.digits)
        sign = ">=" if self.at_least else "<="
        verdict = "reached" if self.reached else "NOT reached"
        if self.unstable:
            verdict += f", but not valid: {listed(self.unstable)} unstable"
        return f"{self.name}: {measured}{self.unit}, target {sign} {self.target:g}{self.unit}: {verdict}"

    def record(self) -> dict[str, Any]:
        """For JSON."""
        bound = {"at_least": self.target} if self.at_least else {"at_most": self.target}
        return {"name": self.name, **self.value.record(), **bound, "unit": self.unit.strip(), "digits": self.digits,
                "reached": self.reached, "valid": not self.unstable, "unstable": list(self.unstable)}  # fmt: skip


def listed(names: Sequence[str]) -> str:
    """`'a', 'b' and 'c'`."""
    *some, last = [f"'{name}'" for name in names]
    return f"{', '.join(some)} and {last}" if some else last


def table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Lines with aligned columns: the first to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  "
        + "  ".join(cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    ]
