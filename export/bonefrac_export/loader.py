"""Any trained network's file -> one frozen TensorFlow graph from a picture to its outputs. Nothing here knows what the
outputs mean, and no code that a file may hold is run."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from bonefrac.errors import UsageError
from bonefrac_export.contents import check_saved_model, keras_version
from bonefrac_export.upsampling import with_plain_upsampling

# on the way to a layer
_PASSES = ("AvgPool", "Cast", "ConcatV2", "ExpandDims", "Identity", "MaxPool", "MirrorPad", "Pad", "PadV2", "Reshape",
           "ResizeArea", "ResizeBicubic", "ResizeBilinear", "ResizeNearestNeighbor", "ReverseV2", "Squeeze",
           "StridedSlice", "Tile", "Transpose")  # fmt: skip
_SCALES = ("Mul", "AddV2", "Sub", "RealDiv", "Div", "BiasAdd")


@dataclass(frozen=True)
class Trained:
    """A network of one picture. `graph` is a concrete function: (N, height, width, channels) of `dtype` in, a list of
    tensors out, called `names`, or "" for one that has no name. `scales`: it does arithmetic on the pixels itself,
    before its first layer."""

    path: Path
    graph: Any
    names: tuple[str, ...]
    height: int
    width: int
    channels: int
    dtype: tf.DType
    scales: bool

    def __call__(self, picture: Any) -> dict[str, tf.Tensor]:
        """Pictures, a tensor or an array -> the outputs by name."""
        return dict(zip(self.names, self.graph(tf.cast(picture, self.dtype)), strict=True))


def load(path: Path, size: int | None = None) -> Trained:
    """Load a `.keras` or `.h5` file of Keras 3 or 2, or a SavedModel's folder; `size` is the side in px of a network
    that takes pictures of any size.

    Raises UsageError for what is no such thing, holds code, has several inputs, an input that is no picture, a fixed
    batch size, or weights that are no numbers.
    """
    if path.is_dir():
        check_saved_model(path)
        return _of_saved_model(path, size)
    model = _keras_model(path, keras_version(path))
    spec = _picture(path, [(item.shape, item.dtype) for item in getattr(model, "inputs", None) or ()], size)
    called = tf.function(lambda picture: model(picture, training=False), input_signature=[spec])
    outputs = called.get_concrete_function().structured_outputs
    names = tuple(sorted(outputs)) if isinstance(outputs, dict) else ("",) * len(tf.nest.flatten(outputs))
    return _trained(path, called.get_concrete_function(), names, spec)


def _keras_model(path: Path, version: str) -> Any:
    try:
        if version.startswith("3"):
            return with_plain_upsampling(keras.saving.load_model(path, compile=False, safe_mode=True))
        return _tf_keras(path, version).models.load_model(path, compile=False, safe_mode=True)
    except UsageError:
        raise
    except Exception as error:  # Keras raises whatever the layer at fault raises
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(f"{path}: Keras {version or '?'} cannot load it: {line}") from error


def _tf_keras(path: Path, version: str) -> Any:
    """Keras 2, which alone reads its old files as they were meant (`DepthwiseConv2D(groups=1)` and others)."""
    try:
        import tf_keras
    except ImportError as error:
        raise UsageError(
            f"{path}: was written by Keras {version or '1 or 2'}, which needs one package more: pip install tf-keras"
        ) from error
    return tf_keras


def _of_saved_model(folder: Path, size: int | None) -> Trained:
    try:
        saved = tf.saved_model.load(str(folder))
        called = saved.signatures["serving_default"]
    except Exception as error:  # TensorFlow raises all kinds
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(
            f"{folder}: cannot be loaded as a SavedModel with a serving_default signature: {line}"
        ) from error
    inputs = called.structured_input_signature[1]
    spec = _picture(folder, [(item.shape, item.dtype) for item in inputs.values()], size)
    names = tuple(sorted(called.structured_outputs))
    by_name = tf.function(lambda picture: called(**{next(iter(inputs)): picture}), input_signature=[spec])
    return _trained(folder, by_name.get_concrete_function(), names, spec)


def _picture(path: Path, inputs: list[tuple[Any, Any]], size: int | None) -> tf.TensorSpec:
    """The one input of (N, height, width, 1 or 3)."""
    if len(inputs) != 1:
        raise UsageError(f"{path}: has {len(inputs)} inputs; a network of one picture alone can be exported")
    (shape, dtype) = inputs[0]
    shape = tuple(shape)
    if len(shape) != 4 or shape[3] not in (1, 3):
        raise UsageError(f"{path}: its input {shape} is no picture (N, height, width, 1 or 3)")
    if shape[0] is not None:
        raise UsageError(f"{path}: takes exactly {shape[0]} pictures at a time; save it with a free batch size (None)")
    height, width = (side or size for side in shape[1:3])
    if height is None or width is None:
        raise UsageError(f"{path}: takes pictures of any size; say with --size the side in px that it was trained with")
    return tf.TensorSpec((None, height, width, shape[3]), dtype, name="picture")


def _trained(path: Path, called: Any, names: tuple[str, ...], spec: tf.TensorSpec) -> Trained:
    graph = convert_variables_to_constants_v2(called)
    for operation in graph.graph.get_operations():
        if operation.type == "Const" and operation.outputs[0].dtype.is_floating:
            values = tf.make_ndarray(operation.get_attr("value"))
            if values.ndim and not np.isfinite(values).all():
                raise UsageError(f"{path}: has weights that are no numbers ({operation.name}); its training went wrong")
    height, width, channels = (int(side or 0) for side in spec.shape.as_list()[1:])
    graph = graph.prune(graph.inputs, graph.outputs)  # which gives a plain list, in the names' order
    scales = spec.dtype.is_integer or _scales(graph)  # whole numbers can only be scaled within
    return Trained(path, graph, names, height, width, channels, spec.dtype, scales)


def _scales(graph: Any) -> bool:
    """Is there arithmetic between the input and the first layer? Batch normalisation is a layer: what it learned says
    nothing of how the pixels came to it."""
    ahead = list(graph.inputs)
    while ahead:
        for operation in ahead.pop().consumers():
            if operation.type in _SCALES and "batchnorm" not in operation.name:
                return True
            if operation.type in _PASSES:
                ahead += operation.outputs
    return False
