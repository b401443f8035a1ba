"""What ONNX Runtime has no int8 for becomes what it has; the function stays."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from bonefrac_export.quantizable import quantizable, shared_ranges, with_pads_in_int8

SIDE = 16
Array = np.ndarray[Any, Any]
SCALINGS = {
    "unit": (1 / 255, 0.0),
    "signed": (1 / 127.5, -1.0),
    "ours": (1 / 128, -127 / 128),
    "caffe": (1.0, (-103.939, -116.779, -123.68)),
    "torch": ((1 / 58.395, 1 / 57.12, 1 / 57.375), (-2.1179, -2.0357, -1.8044)),
}
RNG = np.random.default_rng(4)
FILMS = RNG.integers(0, 256, (3, SIDE, SIDE, 1)).astype(np.uint8)


def graph(nodes: list[onnx.NodeProto], constants: dict[str, Any]) -> onnx.ModelProto:
    """uint8 (N, SIDE, SIDE, 1) `pixels` in, `features` out."""
    return helper.make_model(
        helper.make_graph(
            nodes,
            "network",
            [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["N", SIDE, SIDE, 1])],
            [helper.make_tensor_value_info("features", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )


def node(kind: str, inputs: str, output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, inputs.split(), [output], output, **attributes)


def floats(*shape: int) -> Array:
    return RNG.normal(size=shape).astype(np.float32)


def entry(scaling: str, channels: int = 3, pads: list[int] | None = None) -> onnx.ModelProto:
    """Grey repeated, scaled, turned, convolved."""
    scale, offset = (np.array(values, np.float32) for values in SCALINGS[scaling])
    repeated = [node("Concat", " ".join(["float"] * channels), "grey", axis=3)]
    return graph(
        [node("Cast", "pixels", "float", to=TensorProto.FLOAT), *repeated, node("Mul", "grey scale", "scaled"),
         node("Add", "scaled offset", "moved"), node("Transpose", "moved", "nchw", perm=[0, 3, 1, 2]),
         node("Conv", "nchw weights bias", "features", pads=pads or [0] * 4, strides=[2, 2])],
        {"scale": scale, "offset": offset, "weights": floats(4, channels, 3, 3), "bias": floats(4)},
    )  # fmt: skip


def trunk(nodes: list[onnx.NodeProto], constants: dict[str, Any]) -> onnx.ModelProto:
    """A first convolution to `stem` (N, 4, SIDE, SIDE), values of both signs, and what follows."""
    first = [
        node("Cast", "pixels", "float", to=TensorProto.FLOAT),
        node("Mul", "float scale", "small"),
        node("Reshape", "small shape", "nchw"),
        node("Conv", "nchw weights bias", "stem", pads=[1] * 4),
    ]
    own = {"scale": np.float32(1 / 255), "shape": np.array([-1, 1, SIDE, SIDE]), "weights": floats(4, 1, 3, 3)}
    return graph([*first, *nodes], own | {"bias": np.array([-9, -1, 0, 1], np.float32)} | constants)


def features(model: onnx.ModelProto, optimised: bool = True) -> Array:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    if not optimised:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"pixels": FILMS})[0])


def same(one: onnx.ModelProto, other: onnx.ModelProto) -> None:
    exact = features(one, optimised=False)
    assert np.ptp(exact) > 0
    assert np.abs(features(other) - exact).max() <= 1e-5 * np.abs(exact).max()


def kinds(model: onnx.ModelProto) -> Counter[str]:
    return Counter(n.op_type for n in model.graph.node)


@pytest.mark.parametrize("pads", [[0] * 4, [1] * 4, [0, 0, 1, 1]])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("scaling", SCALINGS)
def test_a_first_convolution_reads_the_pixels_themselves(scaling: str, channels: int, pads: list[int]) -> None:
    if channels == 1 and scaling in ("caffe", "torch"):
        return
    model = entry(scaling, channels, pads)
    found = quantizable(model)
    if any(pads) and scaling == "signed":  # 127.5 is padded, and becomes 128
        exact, near = features(model), features(found)
        assert np.abs(near - exact)[:, :, 1:-1, 1:-1].max() <= 1e-5 * np.abs(exact).max()
        kernel = numpy_helper.to_array(next(t for t in model.graph.initializer if t.name == "weights"))
        assert 0 < np.abs(near - exact).max() <= np.abs(kernel).sum(axis=(1, 2, 3)).max() * 0.5 / 127.5
    else:
        same(model, found)
    # a second channel only where what is padded is another grey in each of three
    told = {"Pad": 1} if any(pads) and scaling in ("caffe", "torch") else {}
    assert kinds(found) == {"Reshape": 1, "DequantizeLinear": 1, "Conv": 1, **told}
    assert str(quantizable(found).graph.node) == str(found.graph.node), "done twice is done once"


def test_the_pixels_of_the_flagship_keep_their_zero() -> None:
    found = quantizable(entry("ours", 1, [1] * 4))
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in found.graph.initializer}
    (entered,) = [n for n in found.graph.node if n.op_type == "DequantizeLinear"]
    step, zero = (constants[name] for name in entered.input[1:])
    assert step == pytest.approx(1 / 128)
    assert (zero.item(), zero.dtype) == (127, np.uint8)


def test_other_arithmetic_on_pixels_stays() -> None:
    model = entry("unit", 1)
    model.graph.node[2].op_type = "Pow"  # no longer a straight line
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.array(0.5, np.float32), "scale"))
    assert kinds(quantizable(model))["Cast"] == 1


def test_scale_and_offset_behind_an_addition_become_a_convolution() -> None:
    model = trunk(
        [node("Add", "stem stem", "sum"), node("Mul", "sum gamma", "scaled"), node("Add", "scaled beta", "normed"),
         node("Relu", "normed", "features")],
        {"gamma": floats(1, 4, 1, 1), "beta": floats(1, 4, 1, 1)},
    )  # fmt: skip
    found = quantizable(model)
    same(model, found)
    assert kinds(found) == {"Reshape": 1, "DequantizeLinear": 1, "Conv": 2, "Add": 1, "Relu": 1}


def test_a_scale_alone_becomes_a_convolution_and_what_else_reads_it_stays() -> None:
    model = trunk(
        [node("Add", "stem stem", "sum"), node("Mul", "sum gamma", "scaled"), node("Add", "scaled beta", "normed"),
         node("Concat", "scaled normed", "features", axis=1)],
        {"gamma": floats(1, 4, 1, 1), "beta": floats(4, 1, 1)},
    )  # fmt: skip
    found = quantizable(model)
    same(model, found)
    assert kinds(found)["Mul"] == 0


def test_batch_normalization_that_nothing_could_take_becomes_a_convolution() -> None:
    constants = {"gamma": floats(8), "beta": floats(8), "mean": floats(8), "variance": np.abs(floats(8)) + 0.1}
    model = trunk(
        [node("Concat", "stem stem", "both", axis=1),
         node("BatchNormalization", "both gamma beta mean variance", "features", epsilon=1e-3)],
        constants,
    )  # fmt: skip
    found = quantizable(model)
    same(model, found)
    assert kinds(found)["BatchNormalization"] == 0


def test_the_head_keeps_its_arithmetic() -> None:
    model = trunk(
        [node("GlobalAveragePool", "stem", "pooled"), node("Mul", "pooled gamma", "features")],
        {"gamma": floats(1, 4, 1, 1)},
    )
    assert kinds(quantizable(model))["Mul"] == 1


def test_what_is_pooled_joined_and_padded_has_one_range() -> None:
    model = trunk(
        [node("MaxPool", "stem", "pool", kernel_shape=[2, 2]), node("Pad", "pool pads", "padded"),
         node("Concat", "padded padded", "one", axis=1), node("Relu", "one", "two"),
         node("Concat", "two two", "features", axis=1)],
        {"pads": np.zeros(8, np.int64)},
    )  # fmt: skip
    assert sorted(map(sorted, shared_ranges(model))) == [["features", "two"], ["one", "padded", "pool", "stem"]]


@pytest.mark.parametrize("other", [False, True])
def test_a_pad_between_equal_scales_pads_bytes(other: bool) -> None:
    second = "other" if other else "step"
    model = graph(
        [node("DequantizeLinear", "pixels step zero", "float"), node("Pad", "float pads", "padded"),
         node("QuantizeLinear", f"padded {second} zero", "bytes"),
         node("DequantizeLinear", f"bytes {second} zero", "features")],
        {"pads": np.array([0, 1, 1, 0, 0, 1, 1, 0]), "zero": np.uint8(9)}
        | {"step": np.float32(0.5), "other": np.float32(0.7)},
    )  # fmt: skip
    exact = features(model, optimised=False)
    found = with_pads_in_int8(model)
    assert kinds(found) == ({"DequantizeLinear": 2, "Pad": 1, "QuantizeLinear": 1} if other
                            else {"DequantizeLinear": 1, "Pad": 1})  # fmt: skip
    assert np.array_equal(features(found, optimised=False), exact)
