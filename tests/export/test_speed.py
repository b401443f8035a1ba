"""Models take turns, and their ratio is that of a usual round."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bonefrac_export.speed import interleaved, times_faster


def test_models_take_turns_and_the_first_round_does_not_count() -> None:
    now = [0.0]
    order: list[str] = []

    def model(name: str, seconds: float) -> Callable[[Any], None]:
        def predict(films: Any) -> None:
            slow_start = 100 if order.count(name) == 0 else 0
            order.append(name)
            now[0] += len(films) * (seconds + slow_start)

        return predict

    films = np.zeros((4, 8, 8, 1), np.uint8)
    found = interleaved({"a": model("a", 0.5), "b": model("b", 0.25)}, films, rounds=5, clock=lambda: now[0])
    assert order == ["a", "b"] * 6
    assert found["a"] == pytest.approx([0.5] * 5)
    assert found["b"] == pytest.approx([0.25] * 5)


def test_a_moody_machine_does_not_move_the_ratio() -> None:
    rng = np.random.default_rng(0)
    moods = rng.choice([1, 1, 1, 3], 15)  # of both models in a round
    slow, fast = 0.2 * moods * rng.uniform(0.98, 1.02, 15), 0.1 * moods * rng.uniform(0.98, 1.02, 15)
    fast[3] *= 50  # one hiccup
    found = times_faster(slow, fast)
    assert found.value == pytest.approx(2, abs=0.1)
    assert found.low <= found.value <= found.high
    assert found.low > 1.9
    assert found.high < 2.1
    assert times_faster(fast, slow).value == pytest.approx(0.5, abs=0.05)


def test_equal_models_are_not_told_apart() -> None:
    rng = np.random.default_rng(1)
    found = times_faster(rng.uniform(0.1, 0.12, 15), rng.uniform(0.1, 0.12, 15))
    assert found.low < 1 < found.high


def test_the_ratio_is_of_seconds_a_film() -> None:
    assert times_faster(np.array([3.0, 3.0, 3.0]), np.array([1.0, 1.0, 1.0])).value == 3
    assert times_faster(np.array([1.0, 2.0, 9.0]), np.array([1.0, 1.0, 1.0])).value == 2
