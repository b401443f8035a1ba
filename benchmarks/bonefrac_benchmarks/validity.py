"""Whether a measurement may be believed, in one line: enough samples, warmed up, windows that agree.

The three questions are those of MLPerf Inference (its rules ask for samples, a duration and a warm-up that does not
count) and of Triton's perf_analyzer, which takes a figure for stable when three windows in a row lie within 10 %.
Neither's rules are followed to the letter, and no figure here is an MLPerf result.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bonefrac_benchmarks.figures import Spread, listed

FEWEST_WINDOWS = 3


@dataclass(frozen=True)
class Validity:
    """`samples` of which `needed` are needed, of what they are (`kind`), what was done beforehand, and by name what was
    measured, one figure for each window, in the order in which they were measured; the chief one first. `needed_for`:
    which figure needs so many, where not all do."""

    samples: int
    needed: int
    kind: str
    warm_up: str
    windows: Mapping[str, Spread]
    needed_for: str = ""

    @property
    def enough(self) -> bool:
        return self.samples >= self.needed

    @property
    def unstable(self) -> bool:
        return bool(unstable(self.windows))

    @property
    def valid(self) -> bool:
        return self.enough and not self.unstable

    def line(self) -> str:
        samples = f"{self.samples} {self.kind}, {self.needed} needed{' for ' * bool(self.needed_for)}{self.needed_for}"
        each, several = list(self.windows.values()), len(self.windows) > 1
        count, apart = min(len(one.samples) for one in each), max(one.apart for one in each)
        windows = (
            f"{count} windows{' of each' * several} within {apart:.1%} of their median, 10 % allowed, {FEWEST_WINDOWS}"
            " windows needed"
        )
        named = f"; unstable: {listed(unstable(self.windows))}" if several and self.unstable else ""
        words = [word for word, wrong in (("TOO FEW", not self.enough), ("UNSTABLE", self.unstable)) if wrong]
        advice = "; quiet the machine and measure again before trusting any of this" if self.unstable else ""
        return f"{' and '.join(words) or 'Valid'}: {samples}; {self.warm_up}; {windows}{named}{advice}"

    def record(self) -> dict[str, object]:
        """For JSON; `windows` are the chief ones."""
        return {
            "valid": self.valid,
            "enough": self.enough,
            "unstable": self.unstable,
            "unstable_ones": list(unstable(self.windows)),
            "windows": next(iter(self.windows.values())).record(),
            "line": self.line(),
        }


def unstable(windows: Mapping[str, Spread]) -> tuple[str, ...]:
    """The names of those with fewer than three windows, or windows that differ by more than 10 % of their median."""
    return tuple(name for name, one in windows.items() if len(one.samples) < FEWEST_WINDOWS or one.unstable)
