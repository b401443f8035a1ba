"""float32 ONNX -> static int8 (QDQ, per channel) that leaves no conversion inside after ONNX Runtime's fusions."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import helper
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from bonefrac.errors import BonefracError

# Clip (ReLU6) must be among them, or a Quantize/Dequantize pair stays on both sides of each activation.
_QUANTIZED = ["Conv", "Clip", "Add", "Resize"]
_IN_FLOAT = ("heat_logit",)  # in int8, scores would come in steps of 1/256
_POOLS = ("GlobalAveragePool", "ReduceMean")  # what follows is of the film, and small
_SCALE, _ZERO = 1 / 128, 127  # the network sees (pixels - 127) / 128: that is uint8 already


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


def quantize(model: onnx.ModelProto, films: NDArray[np.uint8]) -> onnx.ModelProto:
    """Static int8: uint8 activations by their minimum and maximum over `films`, int8 weights per channel.

    `films` is uint8 (n, height, width, 1) from the engine's own `to_input`. Raises BonefracError if a conversion is
    left inside the graph that ONNX Runtime makes of it.
    """
    entry = _entry_tensor(model)
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "in.onnx"), Path(folder, "out.onnx")
        onnx.save(model, source)
        quantize_static(
            str(source),
            str(target),
            _Films(films),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=_QUANTIZED,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=_float_nodes(model, entry),
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={"TensorQuantOverrides": {entry: [
                {"scale": np.array(_SCALE, np.float32), "zero_point": np.array(_ZERO, np.uint8)}]}},
        )  # fmt: skip
        quantized = onnx.load(target)
    _take_pixels_as_they_are(quantized, entry)
    onnx.checker.check_model(quantized, full_check=True)
    left = conversions_inside(quantized)
    if left:
        raise BonefracError(f"int8 is not clean: ONNX Runtime leaves {', '.join(left[:6])} inside the graph")
    return quantized


def _float_nodes(model: onnx.ModelProto, entry: str) -> list[str]:
    """The head from its last convolutions on, and what comes before the first one, which `_take_pixels_as_they_are`
    turns into the input's own scale."""
    names: list[str] = []
    reached: set[str] = set()
    for node in model.graph.node:  # in topological order
        if (
            node.op_type in _POOLS
            or reached & set(node.input)
            or any(part in name for part in _IN_FLOAT for name in node.input)
        ):
            reached |= set(node.output)
            names.append(node.name)
    for node in model.graph.node:
        names.append(node.name)
        if entry in node.output:
            return names
    raise BonefracError("the graph has no arithmetic before its first convolution: it was not made by bonefrac-train")


def _entry_tensor(model: onnx.ModelProto) -> str:
    """What the first convolution reads."""
    return next(node.input[0] for node in model.graph.node if node.op_type == "Conv")


def _take_pixels_as_they_are(model: onnx.ModelProto, entry: str) -> None:
    """Remove cast, scale, offset and QuantizeLinear before the first convolution: with the scale 1/128 and the zero
    point 127 the pixels *are* the quantized input, to the last bit."""
    graph = model.graph
    makers = {output: node for node in graph.node for output in node.output}
    quantizer = next(node for node in graph.node if node.op_type == "QuantizeLinear" and node.input[0] == entry)
    chain, shape = [quantizer], ""
    while (source := makers.get(chain[-1].input[0])) is not None:
        chain.append(source)
        if source.op_type == "Reshape":
            shape = source.input[1]
    if [n.op_type for n in chain if n.op_type != "Reshape"] != ["QuantizeLinear", "Add", "Mul", "Cast"] or not shape:
        raise BonefracError(
            "the graph does not begin with cast, scale and offset: this network cannot be exported here"
        )
    for node in chain:
        graph.node.remove(node)
    graph.node.insert(0, helper.make_node("Reshape", ["pixels", shape], [quantizer.output[0]], name="pixels_nchw"))
    used = {name for node in graph.node for name in node.input}
    for initializer in [item for item in graph.initializer if item.name not in used]:
        graph.initializer.remove(initializer)
    del graph.value_info[:]


def conversions_inside(model: onnx.ModelProto) -> list[str]:
    """The Quantize and Dequantize nodes of the graph that ONNX Runtime makes of `model`; empty where it is clean.

    Clean are at most two DequantizeLinear, where the float head begins: at the heat map's and at the pooled features.
    """
    with tempfile.TemporaryDirectory() as folder:
        optimised = Path(folder, "optimised.onnx")
        options = ort.SessionOptions()
        options.optimized_model_filepath = str(optimised)
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.log_severity_level = 3
        ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        graph = onnx.load(optimised).graph
    kinds = [node for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    clean = len(kinds) <= 2 and all(node.op_type == "DequantizeLinear" for node in kinds)
    return [] if clean else [f"{node.op_type} {node.name}" for node in kinds]
