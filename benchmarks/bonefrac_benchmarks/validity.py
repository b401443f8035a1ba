"""Whether a measurement may be believed, in one line: enough samples, warmed up, windows that agree.

The three questions are those of MLPerf Inference (its rules ask for samples, a duration and a warm-up that does not
count) and of Triton's perf_analyzer, which takes a figure for stable when three windows in a row lie within 10 %.
Neither's rules are followed to the letter, and no figure here is an MLPerf result.
"""

from __future__ import annotations

from dataclasses import dataclass

from bonefrac_benchmarks.figures import Spread

FEWEST_WINDOWS = 3


@dataclass(frozen=True)
class Validity:
    """`samples` of which `needed` are needed, of what they are (`kind`), what was done beforehand, and one figure for
    each window, in the order in which they were measured."""

    samples: int
    needed: int
    kind: str
    warm_up: str
    windows: Spread

    @property
    def enough(self) -> bool:
        return self.samples >= self.needed

    @property
    def unstable(self) -> bool:
        """Fewer than three windows, or windows that differ by more than 10 % of their median."""
        return len(self.windows.samples) < FEWEST_WINDOWS or self.windows.unstable

    @property
    def valid(self) -> bool:
        return self.enough and not self.unstable

    def line(self) -> str:
        samples = f"{self.samples} {self.kind}, {self.needed} needed"
        count, apart = len(self.windows.samples), (self.windows.high - self.windows.low) / self.windows.median
        windows = f"{count} windows within {apart:.1%} of their median, 10 % allowed, {FEWEST_WINDOWS} windows needed"
        words = [word for word, wrong in (("TOO FEW", not self.enough), ("UNSTABLE", self.unstable)) if wrong]
        advice = "; quiet the machine and measure again before trusting any of this" if self.unstable else ""
        return f"{' and '.join(words) or 'Valid'}: {samples}; {self.warm_up}; {windows}{advice}"

    def record(self) -> dict[str, object]:
        """For JSON."""
        return {
            "valid": self.valid,
            "enough": self.enough,
            "unstable": self.unstable,
            "windows": self.windows.record(),
            "line": self.line(),
        }
