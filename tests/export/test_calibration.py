"""What each calibration method keeps of a tensor with outliers, and that int8 gets just that range."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization.calibrate import HistogramCollector
from scipy.special import logit

from bonefrac.errors import BonefracError, UsageError
from bonefrac_export.calibration import Extremes, Histogram, Method, entropy, minmax, percentile, ranges
from bonefrac_export.inside import inside
from bonefrac_export.quantize import (
    _with_weights,
    activation_ranges,
    conversions_inside,
    layers,
    quantize,
    quantize_within,
    rounded_weights,
)
from bonefrac_export.rounding import Rounded, rounded

Values = np.ndarray[Any, np.dtype[np.float32]]


def rectified() -> Values:
    """400,000 values: half of them nothing, the others |normal|, three far out."""
    values = np.random.default_rng(0).normal(size=400_000).astype(np.float32).clip(0)
    values[[7, 70_000, 300_000]] = (25, 30, 40)
    return values


def collected(values: Values) -> Histogram:
    found = Histogram()
    for part in np.array_split(values, 7):
        found.add(part)
    return found


def test_minmax_keeps_the_outliers() -> None:
    assert minmax(collected(rectified())) == (0, 40)


def test_percentile_cuts_as_many_values_as_it_says_on_both_sides() -> None:
    values = np.random.default_rng(0).normal(size=400_000).astype(np.float32)
    values[:3] = (-40, 30, 40)
    low, high = percentile(collected(values), 99.99)
    width = 64 / 4096  # of a bin, where the largest is 40
    wanted = np.quantile(values, (0.00005, 0.99995))
    assert np.abs(np.array([low, high]) - wanted).max() <= width
    assert np.abs(wanted - (-3.89, 3.89)).max() < 0.1  # what a normal distribution has there
    low, high = percentile(collected(values), 98)
    assert np.abs(np.array([low, high]) - (-2.326, 2.326)).max() <= 0.03


def test_a_skewed_tensor_is_cut_where_it_is_long() -> None:
    low, high = percentile(collected(rectified()), 99.99)
    assert low == 0
    assert high == pytest.approx(np.quantile(rectified(), 0.99995), abs=64 / 4096)


def test_entropy_cuts_the_outliers_where_onnx_runtime_cuts_none() -> None:
    values = rectified()
    low, high = entropy(collected(values))
    assert low == 0
    assert 3 < high < 6
    assert 1 <= (values > high).sum() <= 200
    of_its_own = HistogramCollector("entropy", symmetric=False, num_bins=128, num_quantized_bins=128,
                                    percentile=None, scenario=None)  # fmt: skip
    of_its_own.collect_value({"t": values})
    assert of_its_own.get_entropy_threshold(of_its_own.histogram_dict["t"], 128)[1] == 40, "its defaults work now"


def test_entropy_keeps_all_of_a_tensor_without_outliers() -> None:
    values = np.random.default_rng(0).uniform(-3, 3, 400_000).astype(np.float32)
    low, high = entropy(collected(values))
    assert (low, high) == pytest.approx((-3, 3), abs=0.02)


def test_zeros_do_not_move_the_threshold() -> None:
    """A rectified tensor is half zeros, which int8 has a level for."""
    values = rectified()
    more_zeros = np.concatenate([values, np.zeros(2_000_000, np.float32)])
    assert entropy(collected(more_zeros)) == entropy(collected(values))


@pytest.mark.parametrize("limits", [minmax, percentile, entropy])
def test_the_order_of_films_does_not_matter_and_zero_is_inside(limits: Any) -> None:
    values = np.random.default_rng(1).normal(5, 1, 20_000).astype(np.float32) ** 3
    one, other = Histogram(), Histogram()
    for part in np.array_split(values, 9):
        one.add(part)
    for part in np.array_split(np.sort(values)[::-1], 4):
        other.add(part)
    assert np.array_equal(one.counts, other.counts)
    assert one.counts.sum() == len(values)
    assert limits(one) == limits(other)
    assert limits(one)[0] == 0 < limits(one)[1]


@pytest.mark.parametrize("limits", [minmax, percentile, entropy])
def test_a_tensor_of_zeros_has_a_range(limits: Any) -> None:
    assert limits(collected(np.zeros(100, np.float32))) == (0, 0)


def test_what_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="not finite"):
        Extremes().add(np.array([1, np.nan], np.float32))


# ---- in a network


@pytest.fixture(scope="module")
def network() -> onnx.ModelProto:
    return tiny_network()


@pytest.fixture(scope="module")
def films() -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Films of noise, one pixel in each of them white on a black border: an outlier for every filter."""
    pixels = np.random.default_rng(4).integers(100, 156, (32, 32, 32, 1)).astype(np.uint8)
    pixels[:, :4], pixels[:, 2, 2] = 0, 255
    return pixels


def tiny_network() -> onnx.ModelProto:
    """What bonefrac-train's networks look like to `quantize`: cast, scale, offset, convolutions with Clip, a sum of two
    branches, a heat map's logits in float and a probability."""
    rng = np.random.default_rng(3)
    constants: dict[str, Any] = {
        "scale": np.float32(1 / 128), "offset": np.float32(-127 / 128), "shape": np.array([-1, 1, 32, 32], np.int64),
        "zero": np.float32(0), "six": np.float32(6),
        "stem/w": rng.normal(0, 0.4, (8, 1, 3, 3)), "stem/b": rng.normal(0, 0.2, 8),
        "depth/w": rng.normal(0, 0.4, (8, 1, 3, 3)), "depth/b": rng.normal(0, 0.2, 8),
        "one/w": rng.normal(0, 0.4, (8, 8, 1, 1)), "one/b": rng.normal(0, 0.2, 8),
        "two/w": rng.normal(0, 0.4, (8, 8, 1, 1)), "two/b": rng.normal(0, 0.2, 8),
        "heat_logit/w": rng.normal(0, 0.4, (1, 8, 1, 1)), "heat_logit/b": np.zeros(1),
    }  # fmt: skip

    def conv(source: str, name: str, **attributes: Any) -> onnx.NodeProto:
        return helper.make_node("Conv", [source, f"{name}/w", f"{name}/b"], [name], name, **attributes)

    def clip(source: str) -> onnx.NodeProto:
        return helper.make_node("Clip", [source, "zero", "six"], [f"{source}/clip"], f"{source}/clip")

    nodes = [
        helper.make_node("Cast", ["pixels"], ["cast"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Mul", ["cast", "scale"], ["scaled"], "mul"),
        helper.make_node("Add", ["scaled", "offset"], ["seen"], "offset"),
        helper.make_node("Reshape", ["seen", "shape"], ["entry"], "entry"),
        conv("entry", "stem", strides=[2, 2], pads=[1, 1, 1, 1]),
        clip("stem"),
        conv("stem/clip", "depth", group=8, pads=[1, 1, 1, 1]),
        clip("depth"),
        conv("depth/clip", "one"),
        conv("one", "two"),
        helper.make_node("Add", ["one", "two"], ["sum"], "sum"),
        conv("sum", "heat_logit"),
        helper.make_node("Sigmoid", ["heat_logit"], ["heatmap"], "heatmap"),
        helper.make_node("ReduceMax", ["heat_logit"], ["logit"], "pool", axes=[1, 2, 3], keepdims=0),
        helper.make_node("Sigmoid", ["logit"], ["probability"], "probability"),
    ]
    tensors = [
        numpy_helper.from_array(np.asarray(value, np.int64 if name == "shape" else np.float32), name)
        for name, value in constants.items()
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["N", 32, 32, 1])],
        [
            helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["N"]),
            helper.make_tensor_value_info("heatmap", TensorProto.FLOAT, ["N", 1, 16, 16]),
        ],
        tensors,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def scale_of(model: onnx.ModelProto, tensor: str) -> tuple[float, int]:
    constants = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    quantizer = next(n for n in model.graph.node if n.op_type == "QuantizeLinear" and n.input[0].startswith(tensor))
    return float(constants[quantizer.input[1]]), int(constants[quantizer.input[2]])


@pytest.mark.parametrize("method", ["minmax", "percentile", "entropy"])
def test_int8_has_the_range_that_the_method_found(network: onnx.ModelProto, films: Any, method: Method) -> None:
    found = activation_ranges(network, films, method)
    low, high = found["one"]
    scale, zero = scale_of(quantize(network, films, method), "one")
    assert scale == pytest.approx((high - low) / 255)
    assert zero == pytest.approx(-low / scale, abs=0.51)
    shown = onnx.ModelProto()
    shown.CopyFrom(network)
    shown.graph.output.append(helper.make_tensor_value_info("one", TensorProto.FLOAT, None))
    session = ort.InferenceSession(shown.SerializeToString(), providers=["CPUExecutionProvider"])
    values = session.run(["one"], {"pixels": films})[0]
    limits = {"minmax": minmax, "percentile": percentile, "entropy": entropy}[method](collected(values))
    assert (low, high) == pytest.approx(limits, abs=1e-6)
    if method == "entropy":
        assert high - low < values.max() - values.min()


def test_an_unknown_method_and_no_films_are_refused(network: onnx.ModelProto, films: Any) -> None:
    with pytest.raises(UsageError, match="choose minmax, percentile, entropy"):
        ranges(network, films, ["one"], "guess")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no films"):
        quantize(network, films[:0])
    broken = onnx.ModelProto()
    broken.CopyFrom(network)
    bias = next(item for item in broken.graph.initializer if item.name == "one/b")
    bias.CopyFrom(numpy_helper.from_array(np.full(8, np.nan, np.float32), "one/b"))
    with pytest.raises(BonefracError, match="tensor one holds values that are not finite"):
        quantize(broken, films)


# ---- layers in float, and weights of 7 bits


def test_a_layer_and_its_clip_are_one(network: onnx.ModelProto) -> None:
    assert {name: len(nodes) for name, nodes in layers(network).items()} == {
        "stem": 2, "depth": 2, "one": 1, "two": 1, "sum": 1
    }  # fmt: skip


@pytest.mark.parametrize("in_float", [["stem"], ["depth"], ["two"], ["one", "two", "sum"], ["stem", "depth"]])
def test_a_layer_in_float_is_computed_in_float(
    network: onnx.ModelProto, films: Any, tmp_path: Path, in_float: list[str]
) -> None:
    """Also in the graph that ONNX Runtime makes of the file, where it would quantize the weights again."""
    freed = quantize(network, films, in_float=in_float)
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.log_severity_level = 3
    ort.InferenceSession(freed.SerializeToString(), options, providers=["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]
    convolutions = [name for name in in_float if name != "sum"]
    assert kinds.count("QLinearConv") == 4 - len(convolutions)
    assert kinds.count("Conv") + kinds.count("FusedConv") == 1 + len(convolutions)
    assert conversions_inside(freed, len(in_float)) == []
    if in_float == ["depth"]:
        assert conversions_inside(freed), "a layer in float is not noticed"


def test_all_layers_in_float_give_the_float32_scores(network: onnx.ModelProto, films: Any) -> None:
    limits = activation_ranges(network, films)
    exact = scores(network, films)
    assert scores(quantize_within(network, limits, list(layers(network))), films) == pytest.approx(exact, abs=1e-6)
    plain = np.abs(scores(quantize_within(network, limits), films) - exact).max()
    assert np.abs(scores(quantize_within(network, limits, ["stem", "depth"]), films) - exact).max() < plain
    with pytest.raises(ValueError, match="no layer stemm"):
        quantize_within(network, limits, ["stemm"])


def scores(model: onnx.ModelProto, films: Any) -> Values:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(["probability"], {"pixels": film[None]})[0] for film in films])


def test_weights_of_a_reduced_range_cannot_saturate_a_16_bit_sum(network: onnx.ModelProto, films: Any) -> None:
    """Two neighbours as they lie in memory; but for the depthwise kernel, whose products are not added in 16 bits."""

    def largest_sum(model: onnx.ModelProto) -> int:
        constants = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
        found = 0
        for name in ("stem", "one", "two"):
            steps = np.moveaxis(constants[f"{name}/w_quantized"].astype(int), 1, -1).reshape(8, -1)
            pairs = np.pad(steps, ((0, 0), (0, steps.shape[1] % 2))).reshape(8, -1, 2)
            for sign in (1, -1):
                found = max(found, int((sign * pairs).clip(0).sum(axis=2).max()))
        return 255 * found

    limits = activation_ranges(network, films)
    assert largest_sum(quantize(network, films)) >= 2**15
    assert 2**14 < largest_sum(quantize(network, films, reduce_range=True)) < 2**15
    assert 2**14 < largest_sum(quantize_within(network, limits, reduce_range=True)) < 2**15, "nor the nearest ones"
    depthwise, free = (rounded_weights(network, films, reduce_range=reduced)["depth"] for reduced in (True, False))
    assert np.array_equal(depthwise.weights, free.weights)


# ---- weights whose errors cancel out


def layer_error(network: onnx.ModelProto, other: onnx.ModelProto, tensor: str, films: Any) -> tuple[float, float]:
    """Of `tensor` in the other network: root mean square, and the largest mean of a channel."""
    one, two = (np.concatenate([values[tensor] for values in inside(m, [tensor], films)]) for m in (network, other))
    return float(np.sqrt(np.square(two - one).mean())), float(np.abs((two - one).mean(axis=(0, 2, 3))).max())


def test_rounded_weights_do_less_harm_than_the_nearest(network: onnx.ModelProto, films: Any) -> None:
    """With 4 levels, where it is seen best; on films that the rounding did not see."""
    found = rounded(network, films[:16], ["stem", "depth", "one", "two", "sum"], levels=4)
    assert set(found) == {"stem", "depth", "one", "two"}
    for name, of_layer in found.items():
        weights = {item.name: numpy_helper.to_array(item) for item in network.graph.initializer}[f"{name}/w"]
        scale = of_layer.scale[:, None, None, None]
        steps = of_layer.weights / scale
        assert np.abs(steps - np.rint(steps)).max() < 1e-4
        assert np.abs(steps).max() <= 4.001
        bias = {item.name: numpy_helper.to_array(item) for item in network.graph.initializer}[f"{name}/b"]
        nearest = Rounded((np.rint(weights / scale) * scale).astype(np.float32), of_layer.scale, bias)
        ours, plain = (
            layer_error(network, _with_weights(network, {name: choice}), name, films[16:])
            for choice in (of_layer, nearest)
        )
        assert ours[0] < 0.9 * plain[0]
        assert ours[1] < 0.05 * plain[1]


def test_int8_has_the_rounded_weights_and_biases(network: onnx.ModelProto, films: Any) -> None:
    weights = rounded_weights(network, films)
    one, half = weights["one"], 2 * weights["one"].scale
    coarse = (np.rint(one.weights / half[:, None, None, None]) * half[:, None, None, None]).astype(np.float32)
    weights["one"] = Rounded(coarse, half, one.bias)  # its largest weight is at 64 of 127 levels
    model = quantize_within(network, activation_ranges(network, films), ["two"], weights=weights)
    constants = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    for name in ("stem", "depth", "one"):
        scale = constants[f"{name}/w_scale"]
        assert np.array_equal(scale, weights[name].scale)
        steps = np.rint(weights[name].weights / scale[:, None, None, None])
        assert np.array_equal(constants[f"{name}/w_quantized"], steps)
    before = next(numpy_helper.to_array(item) for item in network.graph.initializer if item.name == "two/w")
    assert np.array_equal(constants["two/w"], before)


def test_quantize_is_nearer_to_float32_than_the_nearest_levels(network: onnx.ModelProto, films: Any) -> None:
    """Where they cannot saturate: with 8 bits, most of so small a network's error is that of activations."""
    exact = logit(scores(network, films))
    nearest = quantize_within(network, activation_ranges(network, films), reduce_range=True)
    ours = quantize(network, films, reduce_range=True)
    of_nearest, of_ours = (np.sqrt(np.square(logit(scores(m, films)) - exact).mean()) for m in (nearest, ours))
    assert of_ours < 0.8 * of_nearest


def test_weights_that_two_convolutions_share_stay_as_they_are(network: onnx.ModelProto, films: Any) -> None:
    shared = onnx.ModelProto()
    shared.CopyFrom(network)
    next(node for node in shared.graph.node if node.name == "two").input[1] = "one/w"
    assert set(rounded(shared, films, ["stem", "one", "two"], levels=127)) == {"stem"}


_EXPORT = """
import hashlib, sys, numpy, onnx
from bonefrac_export.canonical import canonical
from bonefrac_export.quantize import quantize
model = canonical(quantize(onnx.load(sys.argv[1]), numpy.load(sys.argv[2]), "percentile"))
print(hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest())
"""


def test_two_processes_make_the_same_file(network: onnx.ModelProto, films: Any, tmp_path: Path) -> None:
    """Whatever order sets of names have in them, and whatever the time is."""
    onnx.save(network, tmp_path / "float32.onnx")
    np.save(tmp_path / "films.npy", films)
    command = [sys.executable, "-c", _EXPORT, str(tmp_path / "float32.onnx"), str(tmp_path / "films.npy")]
    hashes = [
        subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True).stdout
        for seed in ("1", "2")
    ]
    assert len(hashes[0].split()[-1]) == 64
    assert hashes[0] == hashes[1]
