"""Every gate holds where int8 does what float32 does, and falls where it does not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest

pytest.importorskip("tf2onnx", reason='needs the extra: pip install ".[export]"')

from onnx import TensorProto, helper, numpy_helper

from bonefrac.model import OperatingPoints
from bonefrac_benchmarks.statistics import Interval
from bonefrac_export.cpus import OtherCpu
from bonefrac_export.gates import Agreement, Gate, cpu_checks, say, some_of_both, speed_check

SIDE, FILMS = 8, 200


def graph(*, wrong: int = 0, turned: bool = False, shift: int = 0, heatmap: bool = True) -> onnx.ModelProto:
    """Probability = brightness of the film, but for `wrong` grey levels that are added; the heat map is the film, its
    columns rolled by `shift`."""
    constants = {"ones": np.full((1, 1, SIDE, SIDE), 1 / 255 / SIDE**2), "wrong": np.full(1, wrong / 255)}
    constants |= {"grey": np.full(1, 1 / 255), "one": np.ones(1)}
    nodes = [
        helper.make_node("Cast", ["pixels"], ["film"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["film", "nchw"], ["picture"]),
        helper.make_node("Conv", ["picture", "ones"], ["mean"]),
        helper.make_node("Reshape", ["mean", "flat"], ["brightness"]),
        helper.make_node("Add", ["brightness", "wrong"], ["raised"]),
        helper.make_node("Sub", ["one", "raised"] if turned else ["raised", "zero"], ["probability"]),
        helper.make_node("Mul", ["film", "grey"], ["scaled"]),
        helper.make_node("Reshape", ["scaled", "map"], ["square"]),
        helper.make_node("Gather", ["square", "columns"], ["heatmap"], axis=2),
    ]
    shapes = {"nchw": [-1, 1, SIDE, SIDE], "flat": [-1], "map": [-1, SIDE, SIDE],
              "columns": np.roll(np.arange(SIDE), shift).tolist()}  # fmt: skip
    initializers = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()]
    initializers += [numpy_helper.from_array(np.array(value, np.int64), name) for name, value in shapes.items()]
    initializers.append(numpy_helper.from_array(np.zeros(1, np.float32), "zero"))
    outputs = [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["N"])]
    if heatmap:
        outputs.append(helper.make_tensor_value_info("heatmap", TensorProto.FLOAT, ["N", SIDE, SIDE]))
    pixels = helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["N", SIDE, SIDE, 1])
    made = helper.make_graph(nodes, "network", [pixels], outputs, initializers)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture(scope="module")
def films() -> np.ndarray:
    """Films of brightness 20 to 219, one grey level apart, with one brighter cell each: uint8 (200, 8, 8, 1)."""
    rng = np.random.default_rng(0)
    pixels = np.repeat(np.arange(20, 20 + FILMS, dtype=np.uint8), SIDE * SIDE).reshape(FILMS, SIDE, SIDE, 1)
    for film in pixels:
        film[rng.integers(2, 6), rng.integers(2, 6)] += 30
    return pixels


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    return np.arange(FILMS) >= 100


def test_what_a_graph_says_is_what_onnx_runtime_says(films: np.ndarray) -> None:
    said = say(graph(), films)
    assert said.probability == pytest.approx(films.mean(axis=(1, 2, 3)) / 255, abs=6e-5)
    assert said.heatmap == pytest.approx(films[:, :, :, 0] / 255, abs=1e-6)
    assert say(graph(heatmap=False), films).heatmap.shape == (FILMS, 0, 0)


def test_a_graph_holds_against_itself(films: np.ndarray, truth: np.ndarray) -> None:
    gate = Gate(graph(), films, truth, None)
    agreement = gate.agreement(graph())
    assert agreement.auroc_difference == 0
    assert dict(agreement.flips) == {"sensitive": 0, "specific": 0}
    assert not gate.faults(graph())
    assert len(agreement.checks()) == 4


def test_decisions_that_change_are_counted_and_a_hundredth_is_the_limit(films: np.ndarray) -> None:
    points = OperatingPoints(0.4, 0.6, "by hand")
    gate = Gate(graph(), films, None, points)
    assert gate.limits(graph()) == {"sensitive": 0.4, "specific": 0.6}
    for levels, holds in ((2, True), (3, False)):  # films are a level apart: as many change at each point
        agreement = gate.agreement(graph(wrong=levels))
        assert dict(agreement.flips) == {"sensitive": levels, "specific": levels}
        assert agreement.auroc_difference is None
        assert f"{2 * levels} of 400" in str(agreement.checks()[0])
        assert bool(gate.faults(graph(wrong=levels))) == (not holds)


def test_both_points_share_the_limit() -> None:
    assert Agreement(777, None, {"sensitive": 10, "specific": 4}, None).checks()[0].holds
    assert not Agreement(777, None, {"sensitive": 10, "specific": 6}, None).checks()[0].holds


def test_a_turned_ranking_falls_at_the_auroc(films: np.ndarray, truth: np.ndarray) -> None:
    points = OperatingPoints(0.0001, 0.9999, "nothing changes there")
    faults = Gate(graph(), films, truth, points).faults(graph(turned=True))
    assert [fault.what for fault in faults] == ["AUROC less float32's"]
    assert "-1.0000" in str(faults[0])


@pytest.mark.parametrize(("shift", "holds"), [(0, True), (1, False), (2, False)])
def test_heat_maps_that_moved_fall(films: np.ndarray, truth: np.ndarray, shift: int, holds: bool) -> None:
    """By one cell the peaks still hold, the correlation does not."""
    faults = [fault.what for fault in Gate(graph(), films, truth, None).faults(graph(shift=shift))]
    assert ("heat maps' correlation" in faults) == (not holds)
    assert ("heat maps' peaks in one cell or neighbours" in faults) == (shift == 2)


def test_a_network_without_a_heat_map_is_asked_for_none(films: np.ndarray, truth: np.ndarray) -> None:
    plain = graph(heatmap=False)
    assert len(Gate(plain, films, truth, None).agreement(plain).checks()) == 2


def test_films_for_other_processors_are_of_both_classes(films: np.ndarray) -> None:
    truth = np.arange(FILMS) < 12
    some = some_of_both(films, truth, 64)
    assert len(some) == len({film.tobytes() for film in some}) == 64
    assert sum((some == film).all(axis=(1, 2, 3)).any() for film in films[:12]) == 12
    assert len(some_of_both(films[:20], truth[:20], 64)) == 20
    assert len(some_of_both(films, None, 64)) == 64


def test_speed_and_other_processors() -> None:
    assert speed_check(Interval(1.1, 1.0, 1.2)).holds
    assert not speed_check(Interval(1.09, 1.0, 1.2)).holds
    same = OtherCpu("SSE", 200, 0.01, {"sensitive": [3], "specific": []})
    assert [check.holds for check in cpu_checks([same])] == [True]
    assert [check.holds for check in cpu_checks([replace(same, difference=0.011)])] == [False]
    assert [check.holds for check in cpu_checks([replace(same, flips={"sensitive": [3, 4], "specific": []})])] == [
        False
    ]
    assert cpu_checks(None) == []


def test_each_limit_is_where_the_words_say() -> None:
    near = {"count": 9, "of": 10, "value": 0.9}
    edge = Agreement(1000, -0.005, {"sensitive": 15, "specific": 5}, {"correlation": 0.95, "peak_within_a_cell": near})
    assert all(check.holds for check in edge.checks())
    over = Agreement(
        1000,
        -0.0051,
        {"sensitive": 15, "specific": 6},
        {"correlation": 0.949, "peak_within_a_cell": near | {"value": 0.89}},
    )
    assert not any(check.holds for check in over.checks())
