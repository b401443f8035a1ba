"""The learning rate of every step, from nothing but the step: a resumed run cannot stray from it."""

from __future__ import annotations

import math
from dataclasses import dataclass

_WARM_UP = 200  # steps, or a fifth of a short phase
_FINE_TUNING = 0.3  # of the first phase's rate, once the trunk learns too


@dataclass(frozen=True)
class Schedule:
    """First phase, if any: the trunk is frozen, warm-up to `peak`, then constant. Second phase: warm-up, then a half
    cosine to 0 (Loshchilov and Hutter, *SGDR*, arXiv 1608.03983)."""

    steps_per_epoch: int
    epochs: int
    peak: float
    frozen_epochs: int = 0

    @property
    def steps(self) -> int:
        return self.steps_per_epoch * self.epochs

    @property
    def thaw(self) -> int:
        """The step from which the trunk learns."""
        return self.steps_per_epoch * self.frozen_epochs

    def frozen(self, step: int) -> bool:
        return step < self.thaw

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        if self.frozen(step):
            return self.peak * min(1.0, _ramp(step, _warm_up(self.thaw)))
        step, length = step - self.thaw, self.steps - self.thaw
        peak = self.peak * (_FINE_TUNING if self.thaw else 1.0)
        warm_up = _warm_up(length)
        if step < warm_up:
            return peak * _ramp(step, warm_up)
        return peak * 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm_up) / max(1, length - warm_up))))


def _warm_up(length: int) -> int:
    return min(_WARM_UP, length // 5)


def _ramp(step: int, warm_up: int) -> float:
    """From a hundredth to 1."""
    return 0.01 + 0.99 * step / warm_up if warm_up else 1.0
