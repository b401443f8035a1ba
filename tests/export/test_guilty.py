"""Which layers spoil int8 is found, and the fewest are taken back."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bonefrac_export.guilty import Freed, free_fewest, layer_errors
from bonefrac_export.quantize import activation_ranges, quantize_within


def search(
    needed: Collection[str], guilty: Sequence[str], most: int = 16
) -> tuple[Freed | None, list[tuple[str, ...]]]:
    """free_fewest where a model passes as soon as all of `needed` are in float; and what it asked about."""
    asked: list[tuple[str, ...]] = []

    def make(in_float: Sequence[str]) -> onnx.ModelProto:
        return onnx.ModelProto(doc_string=",".join(in_float))

    def passes(model: onnx.ModelProto) -> bool:
        asked.append(tuple(model.doc_string.split(",")))
        return set(needed) <= set(asked[-1])

    return free_fewest(make, guilty, passes, most), asked


LAYERS = [f"layer{at:02}" for at in range(30)]


def test_nothing_is_freed_where_int8_passes() -> None:
    found, asked = search([], LAYERS)
    assert found is not None
    assert (found.layers, found.bytes_more) == ((), 0)
    assert len(asked) == 1


@pytest.mark.parametrize(
    "needed", [["layer00"], ["layer04"], ["layer00", "layer06"], ["layer02", "layer03", "layer11"], LAYERS[:16]]
)
def test_just_the_needed_layers_are_freed(needed: list[str]) -> None:
    found, asked = search(needed, LAYERS)
    assert found is not None
    assert list(found.layers) == needed
    assert found.model.doc_string == ",".join(needed)
    assert found.bytes_more == found.model.ByteSize() - search([], LAYERS)[0].model.ByteSize() > 0  # type: ignore[union-attr]
    freed = LAYERS.index(needed[-1]) + 1
    assert len(asked) <= 3 + 2 * np.log2(freed) + freed


def test_the_limit_holds() -> None:
    assert search(["layer16"], LAYERS)[0] is None
    assert search(["layer16"], LAYERS, most=17)[0] is not None
    found, asked = search(["layer02"], LAYERS[:3], most=16)
    assert found is not None
    assert found.layers == ("layer02",)
    assert max(map(len, asked)) == 3
    assert search(["elsewhere"], LAYERS[:3])[0] is None
    assert search(["elsewhere"], [])[0] is None


def chain() -> onnx.ModelProto:
    """Three convolutions one after another. The second one's channels have ranges as far apart as 1 and 300, and the
    third makes up for that: its input is coarse in int8."""
    rng = np.random.default_rng(0)
    spread = np.geomspace(1, 300, 8)
    constants: dict[str, Any] = {
        "scale": np.float32(1 / 128), "offset": np.float32(-127 / 128), "shape": np.array([-1, 1, 16, 16], np.int64),
        "zero": np.float32(0), "six": np.float32(6),
        "first/w": rng.normal(0, 0.5, (8, 1, 3, 3)),
        "wide/w": rng.normal(0, 0.4, (8, 8, 1, 1)) * spread[:, None, None, None],
        "after/w": rng.normal(0, 0.4, (8, 8, 1, 1)) / spread[:, None, None], "last/w": rng.normal(0, 0.4, (8, 8, 1, 1)),
        "heat_logit/w": rng.normal(0, 0.4, (1, 8, 1, 1)),
    }  # fmt: skip
    names = ["first", "wide", "after", "last", "heat_logit"]
    constants |= {f"{name}/b": np.zeros(len(constants[f"{name}/w"])) for name in names}
    nodes = [
        helper.make_node("Cast", ["pixels"], ["cast"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Mul", ["cast", "scale"], ["scaled"], "mul"),
        helper.make_node("Add", ["scaled", "offset"], ["seen"], "offset"),
        helper.make_node("Reshape", ["seen", "shape"], ["entry"], "entry"),
    ]
    source = "entry"
    for name in names:
        inputs, pads = [source, f"{name}/w", f"{name}/b"], [1, 1, 1, 1] if name == "first" else [0, 0, 0, 0]
        nodes.append(helper.make_node("Conv", inputs, [name], name, pads=pads))
        source = name
        if name in ("first", "after", "last"):
            source = f"{name}/clip"
            nodes.append(helper.make_node("Clip", [name, "zero", "six"], [source], source))
    nodes += [
        helper.make_node("ReduceMax", ["heat_logit"], ["logit"], "pool", axes=[1, 2, 3], keepdims=0),
        helper.make_node("Sigmoid", ["logit"], ["probability"], "probability"),
    ]
    tensors = [
        numpy_helper.from_array(np.asarray(value, np.int64 if name == "shape" else np.float32), name)
        for name, value in constants.items()
    ]
    pixels = helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["N", 16, 16, 1])
    probability = helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["N"])
    graph = helper.make_graph(nodes, "chain", [pixels], [probability], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_the_layers_about_a_coarse_tensor_are_guilty() -> None:
    model = chain()
    films = np.random.default_rng(1).integers(0, 256, (12, 16, 16, 1)).astype(np.uint8)
    limits = activation_ranges(model, films)

    def make(in_float: Collection[str]) -> onnx.ModelProto:
        return quantize_within(model, limits, in_float)

    errors = layer_errors(model, make, films)
    assert set(list(errors)[:2]) == {"wide", "after"}
    assert list(errors.values()) == sorted(errors.values(), reverse=True)
    assert errors["wide"] > 2 * errors["last"] > 0
