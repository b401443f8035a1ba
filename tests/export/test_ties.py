"""Sums in int8 are rounded alike in fixed and in floating point."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

pytest.importorskip("tf2onnx", reason='needs the extra: pip install ".[export]"')

from onnx import TensorProto, helper

from bonefrac_export.calibration import Range
from bonefrac_export.ties import Step, ambiguous, steps


def step(scale: float, zero: int) -> Step:
    return np.array(scale, np.float32), np.array(zero, np.uint8)


def both_ways(one: Step, two: Step, total: Step) -> int:
    """Sums that end on different levels, as mlas' two kernels compute them: in float32 rounded to even, and with
    22-bit multipliers, rounded away from zero."""
    ratios = [np.float32(scale / total[0]) for scale, _ in (one, two)]
    shift = 21 - int(np.floor(np.log2(max(ratios))))
    levels = np.arange(256, dtype=np.int64)
    first, second = (levels - int(zero) for _, zero in (one, two))
    fixed_part = np.float32(total[1]) - (ratios[0] * np.float32(one[1]) + ratios[1] * np.float32(two[1]))
    sums = ratios[0] * levels[:, None].astype(np.float32) + fixed_part
    floats = np.rint(sums + ratios[1] * levels[None].astype(np.float32))
    multipliers = [int(np.rint(ratio * 2.0**shift)) for ratio in ratios]
    products = first[:, None] * multipliers[0] + second[None] * multipliers[1]
    away = np.sign(products) * ((np.abs(products) + (1 << (shift - 1))) >> shift)
    return int((np.clip(floats, 0, 255) != np.clip(away + int(total[1]), 0, 255)).sum())


def sum_of(ranges: dict[str, Range]) -> tuple[onnx.ModelProto, dict[str, Range]]:
    """c = a + b, d = c + b; p holds what c holds."""
    nodes = [
        helper.make_node("Add", ["a", "b"], ["c"]),
        helper.make_node("MaxPool", ["c"], ["p"], kernel_shape=[2, 2]),
        helper.make_node("Add", ["c", "b"], ["d"]),
    ]
    values = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 1, 4, 4]) for name in "abpd"}
    graph = helper.make_graph(nodes, "sums", [values["a"], values["b"]], [values["p"], values["d"]])
    return helper.make_model(graph), ranges


@pytest.mark.parametrize("seed", range(12))
def test_no_sum_is_rounded_in_two_ways(seed: int) -> None:
    rng = np.random.default_rng(seed)
    ranges = {name: (np.float32(-rng.uniform(0.5, 4)), np.float32(rng.uniform(0.5, 4))) for name in "abcd"}
    ranges["p"] = ranges["c"]
    model, ranges = sum_of(ranges)
    found = steps(model, ranges)
    assert both_ways(found["a"], found["b"], found["c"]) == 0
    assert both_ways(found["c"], found["b"], found["d"]) == 0
    assert found["p"] == found["c"], "what shares a range shares a scale"
    plain = {name: _plain(limits) for name, limits in ranges.items()}
    for name in "abcd":
        assert found[name][1] == plain[name][1]
        assert 1 <= found[name][0] / plain[name][0] <= 1.001 + 1e-6
    assert all(found[name] == plain[name] for name in "ab"), "what is added stays as it was calibrated"


def _plain(limits: Range) -> Any:
    return steps(helper.make_model(helper.make_graph([], "none", [], [])), {"x": limits})["x"]


def test_the_sums_that_differ_are_among_those_that_are_ambiguous() -> None:
    rng = np.random.default_rng(0)
    differing = 0
    for _ in range(40):
        one, two, total = (step(rng.uniform(0.01, 0.03), int(rng.integers(0, 256))) for _ in range(3))
        differing += both_ways(one, two, total)
        assert both_ways(one, two, total) <= ambiguous(one, two, total)
    assert differing > 10, "the two ways of rounding differ indeed"


def test_halves_are_ambiguous() -> None:
    assert ambiguous(step(0.5, 0), step(0.5, 0), step(1.0, 0)) == 256 * 256 // 2
    assert ambiguous(step(1.0, 0), step(1.0, 0), step(1.0, 0)) == 0
