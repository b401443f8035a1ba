"""Two exports of one network are one file, whatever their tools called things."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from bonefrac_export.canonical import canonical

_WEIGHTS = np.random.default_rng(1).normal(size=(4, 1, 3, 3)).astype(np.float32)


def branches(prefix: str, *, turned: bool = False, doc: str = "") -> onnx.ModelProto:
    """Two branches from one convolution to two outputs, with what two runs of a converter give differently: every name,
    the order of branches and constants, notes, a shared constant or two equal ones, a node that leads nowhere."""

    def named(name: str) -> str:
        return f"{prefix}/{name}"

    nodes = [
        helper.make_node("Cast", ["pixels"], [named("float")], named("Cast"), to=TensorProto.FLOAT),
        helper.make_node("Transpose", [named("float")], [named("nchw")], named("T"), perm=[0, 3, 1, 2], doc_string=doc),
        helper.make_node("Conv", [named("nchw"), named("weights")], [named("conv")], named("Conv"), pads=[1, 1, 1, 1]),
    ]
    attributes = [helper.make_attribute("group", 1, doc), helper.make_attribute("strides", [1, 1])]
    nodes[-1].attribute.extend(attributes[::-1] if turned else attributes)
    left = [
        helper.make_node("Clip", [named("conv"), named("zero"), named("six")], [named("clip")], named("Clip")),
        helper.make_node("GlobalAveragePool", [named("clip")], [named("pool")], named("Pool")),
        helper.make_node("ReduceSum", [named("pool"), named("axes")], ["probability"], named("Sum"), keepdims=0),
    ]
    second_zero = named("zero again") if turned else named("zero")
    right = [
        helper.make_node("Clip", [named("conv"), second_zero, named("six")], [named("heat")], named("Heat")),
        helper.make_node("Sigmoid", [named("heat")], ["heatmap"], named("Sigmoid")),
    ]
    constants = {
        "weights": _WEIGHTS, "zero": np.float32(0), "six": np.float32(6), "axes": np.array([1, 2, 3], np.int64)
    }  # fmt: skip
    if turned:
        constants["zero again"] = np.float32(0)
        nodes.append(helper.make_node("Neg", [named("conv")], [named("nowhere")], named("Neg")))
    tensors = [numpy_helper.from_array(np.asarray(value), named(name)) for name, value in constants.items()]
    graph = helper.make_graph(
        nodes + (right + left if turned else left + right),
        prefix,
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["N", 8, 8, 1])],
        [
            helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["N"]),
            helper.make_tensor_value_info("heatmap", TensorProto.FLOAT, ["N", 4, 8, 8]),
        ],
        tensors[::-1] if turned else tensors,
        doc_string=doc,
    )
    opsets = [helper.make_opsetid("", 17), *([helper.make_opsetid("com.microsoft", 1)] if turned else [])]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, doc_string=doc)


def as_bytes(model: onnx.ModelProto) -> bytes:
    return model.SerializeToString(deterministic=True)


def test_other_names_and_another_order_are_the_same_bytes() -> None:
    one, other = branches("functional_1"), branches("functional_7", turned=True, doc="made in a folder, at a time")
    assert as_bytes(one) != as_bytes(other)
    assert as_bytes(canonical(one)) == as_bytes(canonical(other))
    assert as_bytes(canonical(canonical(one))) == as_bytes(canonical(one))


def test_nothing_of_the_tools_names_is_left() -> None:
    found = canonical(branches("functional_7", turned=True, doc="made in a folder, at a time"))
    assert b"functional" not in as_bytes(found)
    assert b"folder" not in as_bytes(found)
    assert [node.name for node in found.graph.node] == [
        "Cast_0", "Transpose_1", "Conv_2", "Clip_3", "GlobalAveragePool_4", "ReduceSum_5", "Clip_6", "Sigmoid_7"
    ]  # fmt: skip
    assert [value.name for value in found.graph.output] == ["probability", "heatmap"]
    assert [tensor.name for tensor in found.graph.initializer] == ["Conv_2_in1", "Clip_3_in1", "Clip_3_in2",
                                                                   "ReduceSum_5_in1"]  # fmt: skip
    assert [opset.domain for opset in found.opset_import] == [""]


def test_outputs_are_the_same_to_the_last_bit() -> None:
    model = branches("functional_7", turned=True)
    pixels = np.random.default_rng(2).integers(0, 256, (3, 8, 8, 1)).astype(np.uint8)
    before, after = (
        ort.InferenceSession(m.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"pixels": pixels})
        for m in (model, canonical(model))
    )
    assert all(np.array_equal(one, other) for one, other in zip(before, after, strict=True))
    assert np.ptp(before[0]) > 0


def test_what_differs_stays_different() -> None:
    other = branches("functional_1")
    clip = next(node for node in other.graph.node if node.op_type == "Clip")
    clip.input[2] = clip.input[1]
    assert as_bytes(canonical(other)) != as_bytes(canonical(branches("functional_1")))


def test_a_deep_network_is_walked_and_metadata_stays() -> None:
    nodes = [helper.make_node("Neg", [f"t{at}"], [f"t{at + 1}"]) for at in range(2000)]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("t0", "t2000")]
    model = helper.make_model(helper.make_graph(nodes, "deep", ends[:1], ends[1:]), ir_version=8)
    helper.set_model_props(model, {"b": "2", "a": "1"})
    found = canonical(model)
    assert len(found.graph.node) == 2000
    assert [(entry.key, entry.value) for entry in found.metadata_props] == [("a", "1"), ("b", "2")]


def test_a_graph_within_a_node_is_refused() -> None:
    model = branches("functional_1")
    model.graph.node[0].attribute.append(helper.make_attribute("body", model.graph))
    with pytest.raises(ValueError, match="graphs within nodes"):
        canonical(model)
