"""A trained network -> ONNX with all arithmetic inside: uint8 grey in, probability and what else it says out."""

from __future__ import annotations

import onnx
import tensorflow as tf
import tf2onnx

from bonefrac.errors import UsageError
from bonefrac_export.entry import grey_entry
from bonefrac_export.network import Network
from bonefrac_export.tidy import tidy

OPSET = 17  # per-channel QDQ needs 13; opset 17 is read by every ONNX Runtime since 1.12


def to_onnx(network: Network, slope: float, offset: float) -> onnx.ModelProto:
    """The float32 graph, with the output `scores` beside those of a bundle, from which `cam` sets out. Probability =
    sigmoid(slope * logit + offset): Platt's calibration, inside the file.

    Raises UsageError for a network with an operator that ONNX does not have.
    """
    spec = network.spec
    signature = [tf.TensorSpec((None, spec.height, spec.width, 1), tf.uint8, name="pixels")]

    @tf.function(input_signature=signature)
    def engine_graph(pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        found = network.outputs(tf.cast(pixels, tf.float32))
        found["probability"] = tf.sigmoid(found.pop("logit") * slope + offset)
        return {name: tf.identity(value, name=name) for name, value in found.items()}

    try:
        model, _ = tf2onnx.convert.from_function(engine_graph, signature, opset=OPSET)
    except (ValueError, RuntimeError, NotImplementedError) as error:
        line = str(error).splitlines()[0]
        raise UsageError(f"{network.eye.trained.path}: cannot be written as ONNX: {line}") from error
    for node in model.graph.node:
        if not onnx.defs.has(node.op_type, node.domain):
            raise UsageError(f"{network.eye.trained.path}: cannot be written as ONNX, which has no {node.op_type}")
    model = tidy(model)
    _name_batch(model)
    model = grey_entry(onnx.shape_inference.infer_shapes(model))
    del model.graph.value_info[:]
    model = onnx.shape_inference.infer_shapes(model)
    onnx.checker.check_model(model, full_check=True)
    return model


def _name_batch(model: onnx.ModelProto) -> None:
    """One symbolic name for the batch axis everywhere; tf2onnx invents one for each tensor."""
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].Clear()
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    del model.graph.value_info[:]
