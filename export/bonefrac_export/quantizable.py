"""A network in operators that ONNX Runtime has in int8, so that it need not go back to float32 between any two."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from bonefrac_export.graph import Graph, attribute, without_unused
from bonefrac_export.inside import inside

_EXACT = 1e-5  # of the largest value: what float32 makes of an equality
_HALF = 0.501  # a grey level that lies between two is half a level from both
POOLS = ("GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceMax")  # what follows is of the film: float32

Values = NDArray[np.float64]


def quantizable(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same function, but for half a grey level of what is padded round the picture.

    `model`: a graph in which BatchNormalization is folded where it can be (`quantize.folded`).

    What first convolutions read is a DequantizeLinear of the pixels themselves, where scale and offset are all that is
    done to them; and a scale and an offset for each channel, what is left of a BatchNormalization behind Add, Concat or
    a pool, is a 1x1 convolution of each channel by itself.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = Graph(copy)
    for conv in [node for node in copy.graph.node if node.op_type == "Conv"]:
        _pixels_as_they_are(graph, conv)
    for node in [node for node in copy.graph.node if node.op_type in ("Mul", "BatchNormalization")]:
        _as_convolution(graph, node)
    without_unused(copy)
    del copy.graph.value_info[:]
    copy = onnx.shape_inference.infer_shapes(copy)
    onnx.checker.check_model(copy, full_check=True)
    return copy


def shared_ranges(model: onnx.ModelProto) -> list[set[str]]:
    """Tensors that hold the same values, or parts of them, on their way through Concat, MaxPool and Pad: with one range
    for them all, int8 has nothing to convert between them."""
    found: list[set[str]] = []
    for node in model.graph.node:
        if node.op_type in ("Concat", "MaxPool", "Pad"):
            inputs = node.input if node.op_type == "Concat" else node.input[:1]
            family = {*inputs, *node.output}
            for other in [other for other in found if family & other]:
                found.remove(other)
                family |= other
            found.append(family)
    return found


def with_pads_in_int8(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same quantized graph, in which a Pad with zeros pads uint8: ONNX Runtime would do that in float32.

    Changes the model itself.
    """
    graph = Graph(model)
    for pad in [node for node in model.graph.node if node.op_type == "Pad"]:
        before, after = graph.maker(pad.input[0]), graph.readers(pad.output[0])
        if before is None or before.op_type != "DequantizeLinear" or [n.op_type for n in after] != ["QuantizeLinear"]:
            continue
        scales = [[graph.constant(name) for name in node.input[1:]] for node in (before, after[0])]
        if any(not np.array_equal(one, other) for one, other in zip(*scales, strict=True)):
            continue
        pad.input[:] = [before.input[0], pad.input[1], before.input[2]]
        pad.output[0] = after[0].output[0]
        model.graph.node.remove(after[0])
    return without_unused(model)


def _pixels_as_they_are(graph: Graph, conv: onnx.NodeProto) -> None:
    """Let a first convolution read uint8: the pixels, and where zeros that are padded stand for another grey in each
    channel, a second channel that tells the picture from what is round it.

    The convolution of scale * grey + offset for each channel, all of the same grey, is one of grey - zero, and one of a
    constant that stands inside the picture alone: scale * zero + offset. Where that is half a grey level or less, it
    stands outside too: in int8 what is padded cannot lie between two levels, and a channel more takes time.
    """
    weights, made = graph.constant(conv.input[1]), graph.maker(conv.input[0])
    if weights is None or attribute(conv, "group", 1) != 1 or made is None or made.op_type == "DequantizeLinear":
        return
    arithmetic = _arithmetic(graph, conv.input[0])
    if arithmetic is None:
        return
    (scale, offset), kernel = arithmetic, weights.astype(np.float64)
    zero = int(np.clip(np.rint(np.mean(-offset / scale)), 0, 255))
    rest = scale * zero + offset
    of_grey = (kernel * scale[:, None, None]).sum(axis=1, keepdims=True)
    of_rest = (kernel * rest[:, None, None]).sum(axis=1, keepdims=True)
    nodes, name = graph.model.graph.node, conv.name or conv.output[0]
    before = len(nodes)
    rows, columns = graph.shape(conv.input[0])[2:]
    entry = graph.add("Reshape", ["pixels", graph.add_constant(f"{name}_shape", np.array([-1, 1, rows, columns]))],
                      f"{name}_pixels")  # fmt: skip
    if np.abs(rest / scale).max() > _EXACT * 255:
        padded = any(attribute(conv, "pads", [])) or attribute(conv, "auto_pad", b"NOTSET") != b"NOTSET"  # type: ignore[arg-type]
        if padded and np.abs(rest / scale).max() > _HALF:
            there = 255 if zero < 128 else 0
            ends = graph.add_constant(f"{name}_ends", np.array([0, 0, 0, 0, 0, 1, 0, 0]))
            value = graph.add_constant(f"{name}_there", np.array(there, np.uint8))
            entry = graph.add("Pad", [entry, ends, value], f"{name}_picture")
            of_grey = np.concatenate([of_grey, of_rest / (there - zero)], axis=1)
        else:
            bias = graph.constant(conv.input[2]) if len(conv.input) > 2 else np.zeros(len(kernel))
            if bias is None:
                return
            bias = (bias + of_rest.sum(axis=(1, 2, 3))).astype(np.float32)
            conv.input[:] = [*conv.input[:2], graph.add_constant(f"{name}_offset", bias)]
    step = float(np.mean(scale))
    limits = [graph.add_constant(f"{name}_step", np.array(step, np.float32)),
              graph.add_constant(f"{name}_zero", np.array(zero, np.uint8))]  # fmt: skip
    conv.input[0] = graph.add("DequantizeLinear", [entry, *limits], f"{name}_grey")
    if of_grey.shape != kernel.shape or not np.allclose(of_grey / step, kernel, rtol=1e-6, atol=0):
        conv.input[1] = graph.add_constant(f"{name}_of_grey", (of_grey / step).astype(np.float32))
    _move_before(nodes, before, conv)


def _arithmetic(graph: Graph, tensor: str) -> tuple[Values, Values] | None:
    """Scale and offset of grey 0..255 for each channel where `tensor` (N, c, h, w) is just that: read off a film that
    holds every grey level, in places without order."""
    source = graph.model.graph.input[0]
    _, rows, columns, _ = (side.dim_value for side in source.type.tensor_type.shape.dim)
    if source.name != "pixels" or not _comes_from_pixels(graph, tensor):
        return None
    levels = np.random.default_rng(0).permutation(np.arange(rows * columns) % 256).reshape(rows, columns)
    (found,) = inside(graph.model, [tensor], levels[None, :, :, None].astype(np.uint8))
    values = found[tensor][0].astype(np.float64)
    if values.ndim != 3 or values.shape[1:] != levels.shape:
        return None
    white, black = (values[:, levels == level][:, 0] for level in (levels.max(), 0))
    scale = (white - black) / levels.max()
    line = levels * scale[:, None, None] + black[:, None, None]
    return (scale, black) if scale.all() and np.abs(values - line).max() <= _EXACT * np.abs(values).max() else None


def _comes_from_pixels(graph: Graph, tensor: str) -> bool:
    """Is there no convolution on the way, and nothing that is slow to compute?"""
    ahead, seen = [tensor], set[str]()
    while ahead:
        node = graph.maker(ahead.pop())
        if node is not None and node.op_type in ("Conv", "MatMul", "Gemm"):
            return False
        ahead += [name for name in node.input if name not in seen] if node is not None else []
        seen.update(ahead)
    return "pixels" in seen


def _as_convolution(graph: Graph, node: onnx.NodeProto) -> None:
    """A Mul by channel and the Add that reads it, or a BatchNormalization, as a depthwise 1x1 convolution."""
    ends = _scale_and_offset(graph, node)
    if ends is None:
        return
    tensor, scale, offset, last = ends
    channels, name = len(scale), f"{node.name or node.output[0]}_by_channel"
    inputs = [tensor, graph.add_constant(f"{name}_scale", scale.reshape(-1, 1, 1, 1).astype(np.float32)),
              graph.add_constant(f"{name}_offset", offset.astype(np.float32))]  # fmt: skip
    made: dict[str, Any] = {"group": channels, "kernel_shape": [1, 1], "pads": [0] * 4, "strides": [1, 1]}
    nodes = graph.model.graph.node
    at = list(nodes).index(last)
    nodes.remove(last)
    nodes.insert(at, helper.make_node("Conv", inputs, [last.output[0]], name=name, **made))


def _scale_and_offset(graph: Graph, node: onnx.NodeProto) -> tuple[str, Values, Values, onnx.NodeProto] | None:
    """What is read, scale and offset (channels,), and the node that gives the result; None where it is something else,
    or not inside the network's trunk."""
    if node.op_type == "BatchNormalization":
        constants = [graph.constant(name) for name in node.input[1:]]
        if any(value is None for value in constants) or not _in_trunk(graph, node.input[0]):
            return None
        gamma, beta, mean, variance = (np.asarray(value, np.float64) for value in constants)
        scale = gamma / np.sqrt(variance + float(attribute(node, "epsilon", 1e-5)))  # type: ignore[arg-type]
        return node.input[0], scale, beta - mean * scale, node
    scaled = _by_channel(graph, node)
    if scaled is None or not _in_trunk(graph, scaled[0]):
        return None
    readers = graph.readers(node.output[0])
    shown = node.output[0] in {output.name for output in graph.model.graph.output}
    if len(readers) == 1 and readers[0].op_type == "Add" and not shown:
        moved = _by_channel(graph, readers[0])
        if moved is not None and len(moved[1]) == len(scaled[1]):
            return *scaled, moved[1], readers[0]
    return *scaled, np.zeros_like(scaled[1]), node


def _by_channel(graph: Graph, node: onnx.NodeProto) -> tuple[str, Values] | None:
    """What a Mul or an Add reads, and its one number for each channel; None where it has none."""
    for tensor, other in (tuple(node.input), tuple(node.input)[::-1]):
        values, shape = graph.constant(other), graph.shape(tensor)
        if values is not None and len(shape) == 4 and shape[1] > 1 and values.shape[-3:] == (shape[1], 1, 1):
            return tensor, values.reshape(-1).astype(np.float64)
    return None


def _in_trunk(graph: Graph, tensor: str) -> bool:
    """Does it come from a convolution, with no pooling of the whole film between?"""
    ahead, seen = [tensor], {tensor}
    convolved = False
    while ahead:
        node = graph.maker(ahead.pop())
        if node is not None and node.op_type in POOLS:
            return False
        convolved |= node is not None and node.op_type == "Conv"
        ahead += [name for name in node.input if name not in seen] if node is not None else []
        seen.update(ahead)
    return convolved


def _move_before(nodes: Any, first: int, reader: onnx.NodeProto) -> None:
    """A node stands before what reads it: those from `first` on go before `reader`."""
    moved = [nodes.pop() for _ in range(len(nodes) - first)]
    at = list(nodes).index(reader)
    for node in moved:
        nodes.insert(at, node)
