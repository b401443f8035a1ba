"""The first convolution on the grey film itself, where a network repeats it to three channels."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray

from bonefrac_export.graph import Graph, attribute, without_unused
from bonefrac_export.inside import inside

_EXACT = 1e-5  # of the largest value: what float32 makes of an equality


def grey_entry(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same function, one channel instead of three: as all are the same grey, the convolution's weights add up.

    Left as it is where zeros padded round the picture would stand for another grey in each channel (means of caffe and
    torch), and where something else than scale and offset comes before the convolution.
    """
    graph = Graph(model)
    for conv in [node for node in model.graph.node if node.op_type == "Conv"]:
        kernel = graph.constant(conv.input[1])
        if kernel is not None and kernel.shape[1] == 3 and attribute(conv, "group", 1) == 1:
            _to_grey(graph, conv, kernel)
    return without_unused(model)


def _to_grey(graph: Graph, conv: onnx.NodeProto, kernel: NDArray[np.generic]) -> None:
    pad = graph.maker(conv.input[0])
    first = pad if pad is not None and pad.op_type == "Pad" else conv
    cast = next(node for node in graph.model.graph.node if "pixels" in node.input)
    arithmetic = _arithmetic(graph.model, first.input[0])
    if arithmetic is None or len(graph.readers(conv.input[0])) > 1 or cast.op_type != "Cast":
        return
    nodes, name = graph.model.graph.node, f"{conv.name}_grey"
    at, before = list(nodes).index(first), len(nodes)
    grey = cast.output[0]
    for kind, value, nothing in zip(("Mul", "Add"), arithmetic, (1, 0), strict=True):
        if value != nothing:
            operand = graph.add_constant(f"{name}_{kind}_by", np.array(value, np.float32))
            grey = graph.add(kind, [grey, operand], f"{name}_{kind}")
    shape = graph.add_constant(f"{name}_shape", np.array([-1, 1, *graph.shape(first.input[0])[2:]]))
    first.input[0] = graph.add("Reshape", [grey, shape], f"{name}_nchw")
    for node in [nodes.pop() for _ in range(len(nodes) - before)]:  # a node stands before what reads it
        nodes.insert(at, node)
    conv.input[1] = graph.add_constant(f"{name}_kernel", kernel.sum(axis=1, keepdims=True))


def _arithmetic(model: onnx.ModelProto, tensor: str) -> tuple[float, float] | None:
    """Scale and offset of grey 0..255 where `tensor` (N, 3, h, w) is just that in all channels: read off a film that
    holds every grey level, in places without order."""
    _, rows, columns, _ = (side.dim_value for side in model.graph.input[0].type.tensor_type.shape.dim)
    levels = np.random.default_rng(0).permutation(np.arange(rows * columns) % 256).reshape(rows, columns)
    (found,) = inside(model, [tensor], levels[None, :, :, None].astype(np.uint8))
    values = found[tensor][0].astype(np.float64)
    if values.shape[1:] != levels.shape:
        return None
    white, black = (float(values[0][levels == level][0]) for level in (levels.max(), 0))
    scale = (white - black) / levels.max()
    exact = np.abs(values - (levels * scale + black)).max() <= _EXACT * np.abs(values).max()
    return (scale, black) if scale and exact else None
