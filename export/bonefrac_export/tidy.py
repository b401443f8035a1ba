"""What tf2onnx leaves behind where a feature map is flattened, shapes computed anew for each film and a Transpose; and
zeros round a picture that ONNX Runtime would take for nothing."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray

from bonefrac_export.graph import Graph, attribute, without_unused

_NEARLY_ZERO = 1e-30
_EACH = ("Add", "Clip", "Div", "Max", "Min", "Mul", "Relu", "Sub")  # on each value by itself


def tidy(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same function: dense layers on a flattened map read it in ONNX's order, their weights sorted to match."""
    graph = Graph(model)
    _keep_zeros(graph)
    for flatten in [node for node in model.graph.node if node.op_type == "Reshape"]:
        turn, sides = graph.maker(flatten.input[0]), graph.shape(flatten.input[0])[1:]
        if len(sides) != 3 or not all(sides):
            continue
        turned = turn is not None and turn.op_type == "Transpose" and attribute(turn, "perm") == [0, 2, 3, 1]
        places = np.arange(int(np.prod(sides))).reshape(sides)
        exchanges = _exchanges(
            graph, flatten.output[0], places.transpose(2, 0, 1).ravel() if turned else places.ravel()
        )
        if not exchanges:
            continue
        flatten.input[1] = graph.add_constant(f"{flatten.name}_flat", np.array([-1, places.size], np.int64))
        if turn is not None and turned:
            flatten.input[0] = turn.input[0]
            for node, slot, values in exchanges:
                node.input[slot] = graph.add_constant(f"{node.name}_{slot}", values)
    return without_unused(model)


def _keep_zeros(graph: Graph) -> None:
    """ONNX Runtime fuses a Pad by 0 into a MaxPool, which ignores what is padded: another number where all others are
    negative, as in ResNet50V2. What is not quite 0 it leaves alone."""
    for pad in [node for node in graph.model.graph.node if node.op_type == "Pad"]:
        maker = graph.maker(pad.input[0])
        if maker is not None and maker.op_type in ("Relu", "Clip"):
            continue
        value = graph.constant(pad.input[2]) if len(pad.input) > 2 else np.float32(0)
        if value == 0 and any(node.op_type == "MaxPool" for node in graph.readers(pad.output[0])):
            nearly = graph.add_constant(f"{pad.name}_value", np.array(_NEARLY_ZERO, np.float32))
            del pad.input[2:]
            pad.input.append(nearly)


def _exchanges(
    graph: Graph, tensor: str, order: NDArray[np.intp]
) -> list[tuple[onnx.NodeProto, int, NDArray[np.generic]]]:
    """Which constants to exchange, so that all that reads the flattened `tensor` (N, n) may get it in another order;
    none where something may not."""
    found: list[tuple[onnx.NodeProto, int, NDArray[np.generic]]] = []
    for node in graph.readers(tensor):
        others = [(slot, graph.constant(name)) for slot, name in enumerate(node.input) if name != tensor]
        rows = [(slot, values) for slot, values in others if values is not None and values.size > 1]
        if node.op_type == "MatMul" and rows and rows[0][1].shape[:-1] == order.shape:
            found.append((node, rows[0][0], rows[0][1][order]))
            continue
        deeper = _exchanges(graph, node.output[0], order) if node.op_type in _EACH else []
        if not deeper or any(values is None for _, values in others) or any(v.size != order.size for _, v in rows):
            return []
        found += deeper + [(node, slot, values.reshape(-1)[order]) for slot, values in rows]
    return found
