"""A trained flagship (`.keras`) -> ONNX with all arithmetic inside: uint8 grey in, probability and heat map out."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import onnx
import tensorflow as tf
import tf2onnx
from numpy.typing import NDArray

from bonefrac.errors import UsageError

OPSET = 17  # per-channel QDQ needs 13; opset 17 is read by every ONNX Runtime since 1.12


def load_keras(path: Path) -> keras.Model:
    """The trained network, with outputs `logit`, `heatmap` and perhaps `familiarity`. Code in the file is never run."""
    try:
        network = keras.saving.load_model(path, compile=False, safe_mode=True)
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(f"{path}: cannot be loaded as a Keras network: {str(error).splitlines()[0]}") from error
    outputs = getattr(network, "output", None)
    if not isinstance(outputs, dict) or set(outputs) - {"familiarity"} != {"logit", "heatmap"}:
        raise UsageError(f"{path}: has no outputs 'logit' and 'heatmap'; give the network.keras of bonefrac-train")
    return network


def keras_logits(network: keras.Model, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """uint8 (n, size, size, 1) -> the film's logit (n,) and heat-map logits (n, h, w), as Keras computes them."""
    logits, maps = [], []
    for at in range(0, len(pixels), 16):
        outputs = network.predict_on_batch(pixels[at : at + 16].astype(np.float32))
        logits.append(np.atleast_1d(outputs["logit"]).astype(np.float64))
        maps.append(outputs["heatmap"])
    return np.concatenate(logits), np.concatenate(maps)


def to_onnx(network: keras.Model, slope: float, offset: float) -> onnx.ModelProto:
    """The float32 graph. Probability = sigmoid(slope * logit + offset): Platt's calibration, inside the file."""
    height, width = network.inputs[0].shape[1:3]
    network = _with_plain_upsampling(network)

    signature = [tf.TensorSpec((None, height, width, 1), tf.uint8, name="pixels")]

    @tf.function(input_signature=signature)
    def engine_graph(pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs = network(tf.cast(pixels, tf.float32), training=False)
        found = {
            "probability": tf.sigmoid(outputs["logit"] * slope + offset, name="probability"),
            "heatmap": tf.sigmoid(outputs["heatmap"], name="heatmap"),
        }
        if "familiarity" in outputs:
            found["familiarity"] = tf.identity(outputs["familiarity"], name="familiarity")
        return found

    model, _ = tf2onnx.convert.from_function(engine_graph, signature, opset=OPSET)
    _name_batch(model)
    model = onnx.shape_inference.infer_shapes(model)
    onnx.checker.check_model(model, full_check=True)
    return model


class _NearestUpsampling(keras.layers.Layer):
    """What Keras' UpSampling2D(2) computes, as the one operator that ONNX has for it; Keras' own repeat becomes a chain
    of eight."""

    def call(self, x: tf.Tensor) -> tf.Tensor:
        size = [2 * int(side or 0) for side in x.shape.as_list()[1:3]]
        return tf.raw_ops.ResizeNearestNeighbor(images=x, size=size)


def _with_plain_upsampling(network: keras.Model) -> keras.Model:
    def replaced(layer: keras.layers.Layer) -> keras.layers.Layer:
        plain = (
            isinstance(layer, keras.layers.UpSampling2D) and layer.size == (2, 2) and layer.interpolation == "nearest"
        )
        return _NearestUpsampling(name=layer.name) if plain else layer.__class__.from_config(layer.get_config())

    clone = keras.models.clone_model(network, clone_function=replaced)
    clone.set_weights(network.get_weights())
    return clone


def _name_batch(model: onnx.ModelProto) -> None:
    """One symbolic name for the batch axis everywhere; tf2onnx invents one for each tensor."""
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].Clear()
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    del model.graph.value_info[:]
