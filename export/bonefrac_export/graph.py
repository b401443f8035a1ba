"""An ONNX graph to walk and to mend."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper


class Graph:
    """`makers`: which node gives a tensor. Shapes hold 0 where a side is not fixed."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.makers = {output: node for node in model.graph.node for output in node.output}
        self._constants = {item.name: item for item in model.graph.initializer}
        inferred = onnx.shape_inference.infer_shapes(model).graph
        self._shapes = {
            value.name: tuple(side.dim_value for side in value.type.tensor_type.shape.dim)
            for value in (*inferred.value_info, *inferred.input, *inferred.output)
        }

    def maker(self, tensor: str) -> onnx.NodeProto | None:
        """The node that gives this tensor; None for an input or a constant."""
        return self.makers.get(tensor)

    def readers(self, tensor: str) -> list[onnx.NodeProto]:
        """The nodes that read this tensor."""
        return [node for node in self.model.graph.node if tensor in node.input]

    def constant(self, tensor: str) -> NDArray[np.generic] | None:
        """A constant's values; None where the tensor is computed."""
        if tensor in self._constants:
            return numpy_helper.to_array(self._constants[tensor])
        node = self.maker(tensor)
        if node is not None and node.op_type == "Constant" and node.attribute[0].name == "value":
            return numpy_helper.to_array(node.attribute[0].t)
        return None

    def shape(self, tensor: str) -> tuple[int, ...]:
        """() where nothing is known of it."""
        return self._shapes.get(tensor, ())

    def add_constant(self, name: str, values: NDArray[np.generic]) -> str:
        """Add a constant; returns its name."""
        self.model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def add(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Add a node at the end, named as its output; returns that."""
        self.model.graph.node.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output


def attribute(node: onnx.NodeProto, name: str, default: object = None) -> object:
    """The value of a node's attribute."""
    return next((helper.get_attribute_value(item) for item in node.attribute if item.name == name), default)


def without_unused(model: onnx.ModelProto) -> onnx.ModelProto:
    """Drop nodes and constants that no output needs; changes the model itself."""
    graph, needed = model.graph, {output.name for output in model.graph.output}
    kept = []
    for node in reversed(graph.node):  # in topological order
        if needed & set(node.output):
            needed |= set(node.input)
            kept.append(node)
    constants = [item for item in graph.initializer if item.name in needed]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(reversed(kept))
    graph.initializer.extend(constants)
    return model
