"""float32 ONNX -> static int8 (QDQ, per channel) that leaves no conversion inside after ONNX Runtime's fusions."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from bonefrac.errors import BonefracError
from bonefrac_export.calibration import Method, Range, ranges
from bonefrac_export.graph import Graph
from bonefrac_export.quantizable import POOLS, quantizable, shared_ranges, with_pads_in_int8
from bonefrac_export.rounding import Rounded, rounded
from bonefrac_export.ties import steps

# Activations must be among them, or a Quantize/Dequantize pair stays on both sides of each.
_ACTIVATIONS = ("Clip", "Relu")
_QUANTIZED = ["Conv", *_ACTIVATIONS, "Add", "Resize", "MaxPool", "AveragePool", "Concat", "Pad"]
_IN_FLOAT = ("heat_logit",)  # in int8, scores would come in steps of 1/256
_ROUNDING_FILMS = 32  # are enough to tell which weights' errors cancel out
_NOT_ROUNDED: Mapping[str, Rounded] = {}


class _Films(CalibrationDataReader):
    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        self._batches = (pixels[at : at + 4] for at in range(0, len(pixels), 4))

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        batch = next(self._batches, None)
        return None if batch is None else {"pixels": batch}


def folded(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same float32 graph with BatchNormalization folded into the convolutions."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "in.onnx"), Path(folder, "out.onnx")
        onnx.save(model, source)
        quant_pre_process(str(source), str(target), skip_symbolic_shape=True)
        return onnx.load(target)


def quantize(
    model: onnx.ModelProto,
    films: NDArray[np.uint8],
    method: Method = "minmax",
    in_float: Collection[str] = (),
    reduce_range: bool = False,
) -> onnx.ModelProto:
    """Static int8: uint8 activations in the range that `method` finds over `films`, int8 weights per channel, rounded
    so that their errors cancel out.

    `films` is uint8 (n, height, width, 1) from the engine's own `to_input`. The layers `in_float`, names of nodes, stay
    float32; with `reduce_range` weights are so small that no 16-bit sum of two products saturates on CPUs without
    VNNI: two neighbours together, see `rounded`, or else 7 bits each. Raises BonefracError if a conversion is left
    inside the graph that ONNX Runtime makes of it, but for those about layers in float, and what `ranges` raises.
    """
    model = quantizable(model)
    limits = activation_ranges(model, films, method)
    return quantize_within(model, limits, in_float, reduce_range, weights=rounded_weights(model, films, reduce_range))


def rounded_weights(model: onnx.ModelProto, films: NDArray[np.uint8], reduce_range: bool = False) -> dict[str, Rounded]:
    """What `quantize_within` asks for, by the names of convolutions: made once, whatever stays in float later."""
    nodes = {node.name for nodes in layers(model).values() for node in nodes}
    some = films[:: max(1, len(films) // _ROUNDING_FILMS)][:_ROUNDING_FILMS]
    return rounded(model, some, nodes, in_pairs=reduce_range)


def activation_ranges(model: onnx.ModelProto, films: NDArray[np.uint8], method: Method = "minmax") -> dict[str, Range]:
    """What `quantize_within` asks for: calibrated once, whatever stays in float later. Raises what `ranges` raises.

    Both want the graph that `quantizable` makes.
    """
    shapes = onnx.shape_inference.infer_shapes(model).graph
    floats = {
        value.name
        for value in (*shapes.value_info, *shapes.output)
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    }
    excluded = set(_float_nodes(model))
    quantized = [node for node in model.graph.node if node.op_type in _QUANTIZED and node.name not in excluded]
    tensors = floats & {name for node in quantized for name in (*node.input, *node.output)}
    readers = Counter(name for node in model.graph.node for name in node.input)
    clips = [node for node in quantized if node.op_type in _ACTIVATIONS and readers[node.input[0]] == 1]
    clipped = {node.input[0]: node.output[0] for node in clips}
    found = ranges(model, films, tensors - set(clipped) - set(_entries(model)), method)
    for family in shared_ranges(model):
        limits = [found[name] for name in family if name in found]
        for name in family & set(found):
            found[name] = min(low for low, _ in limits), max(high for _, high in limits)
    return found | {before: found[after] for before, after in clipped.items()}  # int8 clips where it ends


def quantize_within(
    model: onnx.ModelProto,
    limits: Mapping[str, Range],
    in_float: Collection[str] = (),
    reduce_range: bool = False,
    *,
    weights: Mapping[str, Rounded] = _NOT_ROUNDED,
) -> onnx.ModelProto:
    """`quantize` with ranges as `activation_ranges` gives them and `rounded_weights` for the same `reduce_range`; other
    weights go to the nearest level. Raises as `quantize` does, and ValueError where `in_float` names no layer."""
    known = layers(model)
    if odd := set(in_float) - set(known):
        raise ValueError(f"the graph has no layer {', '.join(sorted(odd))} to leave in float")
    freed = [node.name for name in in_float for node in known[name]]
    overrides: dict[str, list[dict[str, Any]]] = {
        name: [{"scale": scale, "zero_point": zero}]
        for name, (scale, zero) in {**steps(model, limits), **_entries(model)}.items()
    }
    chosen = {name: found for name, found in weights.items() if name not in freed}
    overrides |= _scales(model, chosen)
    shape = [size.dim_value for size in model.graph.input[0].type.tensor_type.shape.dim]
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "in.onnx"), Path(folder, "out.onnx")
        onnx.save(_with_weights(model, chosen), source)
        quantize_static(
            str(source),
            str(target),
            _Films(np.zeros([1, *shape[1:]], np.uint8)),  # it wants to see a film, though all ranges are given
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=_QUANTIZED,
            per_channel=True,
            reduce_range=reduce_range,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=_float_nodes(model) + freed,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={"TensorQuantOverrides": overrides},
        )
        quantized = onnx.load(target)
    _take_pixels_as_they_are(quantized, _entries(model))
    with_pads_in_int8(quantized)
    _keep_in_float(quantized, set(freed))
    onnx.checker.check_model(quantized, full_check=True)
    left = conversions_inside(quantized, len(in_float))
    if left:
        raise BonefracError(f"int8 is not clean: ONNX Runtime leaves {', '.join(left[:6])} inside the graph")
    return quantized


def _with_weights(model: onnx.ModelProto, weights: Mapping[str, Rounded]) -> onnx.ModelProto:
    """A copy whose convolutions have those weights and biases."""
    values = {
        name: value
        for node in model.graph.node
        if (found := weights.get(node.name)) is not None
        for name, value in zip(node.input[1:], (found.weights, found.bias), strict=True)
    }
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    for tensor in copied.graph.initializer:
        if tensor.name in values:
            tensor.CopyFrom(numpy_helper.from_array(values[tensor.name], tensor.name))
    return copied


def _scales(model: onnx.ModelProto, weights: Mapping[str, Rounded]) -> dict[str, list[dict[str, Any]]]:
    """Each channel's own scale, which the largest of its rounded weights need not reach any more."""
    zero = np.array(0, np.int8)
    return {
        node.input[1]: [{"axis": 0, "scale": scale, "zero_point": zero} for scale in weights[node.name].scale]
        for node in model.graph.node
        if node.name in weights
    }


def layers(model: onnx.ModelProto) -> dict[str, list[onnx.NodeProto]]:
    """What becomes int8, by the name of its first node, in the graph's order: a node, and the Clip that reads it."""
    excluded = set(_float_nodes(model))
    found: dict[str, list[onnx.NodeProto]] = {}
    makers: dict[str, str] = {}
    for node in model.graph.node:
        if node.op_type not in _QUANTIZED or node.name in excluded:
            continue
        layer = makers.get(node.input[0], node.name) if node.op_type in _ACTIVATIONS else node.name
        found.setdefault(layer, []).append(node)
        makers[node.output[0]] = layer
    return found


def _float_nodes(model: onnx.ModelProto) -> list[str]:
    """What comes before the first convolutions, and the head from its last ones on."""
    shapes, names = Graph(model), list[str]()
    seen: set[str] = set()
    reached: set[str] = set()
    for node in model.graph.node:  # in topological order
        if node.op_type == "Conv" or seen & set(node.input):
            seen |= set(node.output)
        else:
            names.append(node.name)
        if (
            node.op_type in POOLS
            or (seen & set(node.input) and len(shapes.shape(node.output[0])) not in (0, 4))  # flattened
            or reached & set(node.input)
            or any(part in name for part in _IN_FLOAT for name in node.input)
        ):
            reached |= set(node.output)
            names.append(node.name)
    return names


def _entries(model: onnx.ModelProto) -> dict[str, tuple[NDArray[np.float32], NDArray[np.uint8]]]:
    """Scale and zero point of what first convolutions read, by its name, where `quantizable` made it uint8."""
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    return {
        node.output[0]: (values[node.input[1]], values[node.input[2]])
        for node in model.graph.node
        if node.op_type == "DequantizeLinear"
    }


def _take_pixels_as_they_are(model: onnx.ModelProto, entries: Collection[str]) -> None:
    """Remove QuantizeLinear and DequantizeLinear behind what was uint8 to begin with, to the last bit."""
    graph = model.graph
    for quantizer in [n for n in graph.node if n.op_type == "QuantizeLinear" and n.input[0] in entries]:
        dequantizer = next(n for n in graph.node if n.input[0] == quantizer.output[0])
        for node in graph.node:
            for slot, name in enumerate(node.input):
                if name == dequantizer.output[0]:
                    node.input[slot] = quantizer.input[0]
        graph.node.remove(quantizer)
        graph.node.remove(dequantizer)


def _keep_in_float(model: onnx.ModelProto, freed: set[str]) -> None:
    """Make nodes that were not quantized compute in float indeed.

    Of each other they read what was not rounded to int8. And where the rest reads and writes int8, ONNX Runtime
    quantizes a convolution's float weights after all when it loads the file, with one scale for all channels
    (weight_bias_quantization.cc); not so where its input has a scale for each channel, here the same ones.
    """
    graph = model.graph
    makers = {output: node for node in graph.node for output in node.output}
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in [node for node in graph.node if node.name in freed]:
        for slot, tensor in enumerate(node.input):
            dequantizer = makers.get(tensor)
            if dequantizer is None or dequantizer.op_type != "DequantizeLinear":
                continue
            quantizer = makers[dequantizer.input[0]]
            maker = makers.get(quantizer.input[0])
            if maker is not None and maker.name in freed:
                node.input[slot] = quantizer.input[0]
            elif quantizer.op_type != "QuantizeLinear":  # the pixels, of one channel
                names = [f"{node.name}_{kind}" for kind in ("float_zero", "float_step", "cast", "moved", "in_float")]
                for name, source in zip(names[:2], dequantizer.input[:0:-1], strict=True):
                    graph.initializer.append(numpy_helper.from_array(constants[source].astype(np.float32), name))
                at = list(graph.node).index(node)
                node.input[slot] = names[4]
                graph.node.insert(at, helper.make_node("Mul", [names[3], names[1]], [names[4]], names[4]))
                graph.node.insert(at, helper.make_node("Sub", [names[2], names[0]], [names[3]], names[3]))
                cast = helper.make_node("Cast", dequantizer.input[:1], [names[2]], names[2], to=onnx.TensorProto.FLOAT)
                graph.node.insert(at, cast)
            elif node.op_type == "Conv":
                group = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
                channels = constants[node.input[1]].shape[1] * group
                names = [f"{node.name}_{kind}" for kind in ("input_scale", "input_zero_point", "input")]
                for name, source in zip(names[:2], dequantizer.input[1:], strict=True):
                    graph.initializer.append(numpy_helper.from_array(np.full(channels, constants[source]), name))
                node.input[slot] = names[2]
                at = list(graph.node).index(node)
                inputs = [dequantizer.input[0], *names[:2]]
                graph.node.insert(at, helper.make_node("DequantizeLinear", inputs, names[2:], names[2], axis=1))
    used = {name for node in graph.node for name in node.input}
    for node in [n for n in graph.node if n.op_type == "DequantizeLinear" and n.output[0] not in used]:
        graph.node.remove(node)


def conversions_inside(model: onnx.ModelProto, layers_in_float: int = 0) -> list[str]:
    """The Quantize and Dequantize nodes of the graph that ONNX Runtime makes of `model`; empty where it is clean.

    What is quantized before the first convolutions is not inside.
    Clean are at most two DequantizeLinear, where the float head begins: at the heat map's and at the pooled features;
    and for each layer left in float one QuantizeLinear behind it and a DequantizeLinear before each of its two inputs.
    """
    with tempfile.TemporaryDirectory() as folder:
        optimised = Path(folder, "optimised.onnx")
        options = ort.SessionOptions()
        options.optimized_model_filepath = str(optimised)
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.log_severity_level = 3
        ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        graph = onnx.load(optimised).graph
    kinds: list[onnx.NodeProto] = []
    convolved: set[str] = set()
    for node in graph.node:  # in topological order
        if "Conv" in node.op_type or convolved & set(node.input):
            convolved |= set(node.output)
            kinds += [node] if node.op_type in ("QuantizeLinear", "DequantizeLinear") else []
    quantizers = sum(node.op_type == "QuantizeLinear" for node in kinds)
    clean = quantizers <= layers_in_float and len(kinds) - quantizers <= 2 + 2 * layers_in_float
    return [] if clean else [f"{node.op_type} {node.name}" for node in kinds]
