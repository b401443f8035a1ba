"""The same network in the same bytes, whatever names and order its converters gave it.

tf2onnx numbers its names from a counter of the process, Keras numbers its layers, and both walk through sets, whose
order changes from run to run. So this comes last: `quantize` still finds the head by its layers' names.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx
from onnx import AttributeProto, numpy_helper


def canonical(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with nodes in an order, and tensors by names, that only its structure decides.

    Nodes come as a walk back from the outputs reaches them, inputs first, and those that reach no output not at all;
    node and tensor are named by operator and position, equal constants are one. Inputs and outputs of the graph keep
    names and order; doc strings, shapes of tensors inside and domains that no node uses go. Serialize with
    `deterministic=True`.
    Raises ValueError for graphs within nodes and functions, which no network here has, and onnx.checker's error for a
    graph that is not valid.
    """
    if model.functions or any(a.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS) for a in _attributes(model)):
        raise ValueError("the model holds functions or graphs within nodes")
    nodes, graph = list(_walk(model.graph)), model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    names = {value.name: value.name for value in (*graph.input, *graph.output)} | {"": ""}

    result = onnx.ModelProto(ir_version=model.ir_version, producer_name=model.producer_name,
                             producer_version=model.producer_version, model_version=model.model_version)  # fmt: skip
    used = {node.domain for node in nodes}
    result.opset_import.extend(sorted((o for o in model.opset_import if o.domain in used), key=lambda o: o.domain))
    result.metadata_props.extend(sorted(model.metadata_props, key=lambda entry: entry.key))
    result.graph.name = "network"
    for kept, values in ((result.graph.input, graph.input), (result.graph.output, graph.output)):
        kept.extend(onnx.ValueInfoProto(name=value.name, type=value.type) for value in values)

    contents: dict[bytes, str] = {}
    for index, node in enumerate(nodes):
        name = f"{node.op_type}_{index}"
        for slot, tensor in enumerate(node.input):
            if tensor in names:
                continue
            constant = _nameless(constants[tensor])
            names[tensor] = contents.setdefault(constant.SerializeToString(deterministic=True), f"{name}_in{slot}")
            if names[tensor] == f"{name}_in{slot}":
                constant.name = names[tensor]
                result.graph.initializer.append(constant)
        for slot, tensor in enumerate(node.output):
            names.setdefault(tensor, f"{name}_out{slot}")
        plain = result.graph.node.add(name=name, op_type=node.op_type, domain=node.domain)
        plain.input.extend(names[tensor] for tensor in node.input)
        plain.output.extend(names[tensor] for tensor in node.output)
        plain.attribute.extend(sorted(node.attribute, key=lambda attribute: attribute.name))
        for attribute in plain.attribute:
            attribute.ClearField("doc_string")
            if attribute.type == AttributeProto.TENSOR:
                attribute.t.CopyFrom(_nameless(attribute.t))
    onnx.checker.check_model(result, full_check=True)
    return result


def _attributes(model: onnx.ModelProto) -> Iterator[onnx.AttributeProto]:
    return (attribute for node in model.graph.node for attribute in node.attribute)


def _nameless(tensor: onnx.TensorProto) -> onnx.TensorProto:
    return numpy_helper.from_array(numpy_helper.to_array(tensor))


def _walk(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Nodes after all that they read, from the first output on; by hand, for deep networks outrun Python's stack."""
    makers = {output: index for index, node in enumerate(graph.node) for output in node.output if output}
    done: set[int] = set()
    for output in graph.output:
        waiting = [makers[output.name]] if output.name in makers else []
        while waiting:
            index = waiting[-1]
            open_inputs = [makers[i] for i in graph.node[index].input if i in makers and makers[i] not in done]
            if open_inputs and index not in done:
                waiting.append(open_inputs[0])
                continue
            waiting.pop()
            if index not in done:
                done.add(index)
                yield graph.node[index]
