"""The heat map that the ONNX graph computes without a gradient is Keras' own Grad-CAM; or there is none."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

pytest.importorskip("tensorflow", reason='needs the extra: pip install ".[export,train]"')

import keras
import tensorflow as tf
from keras import layers

from bonefrac.preprocess import InputSpec
from bonefrac_export.cam import with_class_activation
from bonefrac_export.convert import to_onnx
from bonefrac_export.films import load_pictures
from bonefrac_export.heads import Asked
from bonefrac_export.inputs import Told
from bonefrac_export.network import Network, Reading, open_network

DATA = Path(os.environ.get("BONEFRAC_DATA", Path(__file__).parents[3] / "shared" / "data"))
SIDE = 64
TOLD = Told("0..1", None, "bilinear", "stretch")
Array = np.ndarray[Any, Any]
Make = Callable[[Any], tuple[Any, Any]]  # picture -> feature map, scores


def features(picture: Any) -> Any:
    x = layers.Conv2D(6, 3, strides=4, padding="same", activation="relu")(picture)
    return layers.Conv2D(5, 3, strides=2, padding="same", activation="relu")(x)


def pooled(width: int, pool: Any = layers.GlobalAveragePooling2D) -> Make:
    def make(picture: Any) -> tuple[Any, Any]:
        found = features(picture)
        return found, layers.Dense(width)(pool()(found))

    return make


def deep(gate: Any) -> Make:
    def make(picture: Any) -> tuple[Any, Any]:
        found = features(picture)
        x = gate(layers.Dense(7)(layers.GlobalAveragePooling2D()(found)))
        return found, layers.Dense(1)(layers.BatchNormalization()(layers.Dropout(0.4)(x)))

    return make


def flat(*between: Any, width: int = 1) -> Make:
    def make(picture: Any) -> tuple[Any, Any]:
        found = layers.MaxPooling2D(2)(features(picture))
        x = layers.Flatten()(found)
        for layer in between:
            x = layer(x)
        return found, layers.Dense(width)(x)

    return make


def convolved(picture: Any) -> tuple[Any, Any]:
    found = features(picture)
    x = layers.Conv2D(1, 1)(layers.GlobalAveragePooling2D(keepdims=True)(found))
    return found, layers.Reshape((1,))(x)


def nested(picture: Any) -> tuple[Any, Any]:
    """A trunk of MobileNetV2's kind, saved as a model in a model."""
    entry = keras.Input((SIDE, SIDE, 3))
    x = entry
    for width, strides in ((8, 4), (8, 1), (12, 2)):
        y = layers.ReLU(6)(layers.BatchNormalization()(layers.Conv2D(2 * width, 1, use_bias=False)(x)))
        y = layers.DepthwiseConv2D(3, strides, padding="same", use_bias=False)(y)
        y = layers.ReLU(6)(layers.BatchNormalization()(y))
        y = layers.BatchNormalization()(layers.Conv2D(width, 1, use_bias=False)(y))
        x = layers.Add()([x, y]) if y.shape == x.shape else y
    found = keras.Model(entry, layers.ReLU(6)(x))(picture)
    return found, layers.Dense(2)(layers.GlobalAveragePooling2D()(found))


CASES: dict[str, tuple[Make, str, str]] = {
    "pooled, sigmoid": (pooled(1), "sigmoid", "1"),
    "pooled, sigmoid near 1 for normal": (pooled(1), "sigmoid", "0"),
    "pooled, softmax of two": (pooled(2), "softmax", "0"),
    "pooled, softmax of three": (pooled(3), "softmax", "1"),
    "pooled, a sigmoid for each of three": (pooled(3), "sigmoid", "2"),
    "highest cells": (pooled(1, layers.GlobalMaxPooling2D), "sigmoid", "1"),
    "two dense layers": (deep(layers.ReLU()), "sigmoid", "1"),
    "two dense layers, inverted": (deep(layers.ReLU()), "sigmoid", "0"),
    "a ReLU that ends": (deep(layers.ReLU(max_value=0.6)), "sigmoid", "1"),
    "ReLU6": (deep(layers.ReLU(max_value=6)), "sigmoid", "1"),
    "flattened": (flat(), "sigmoid", "1"),
    "flattened, two dense layers": (flat(layers.Dense(7, activation="relu")), "sigmoid", "1"),
    "flattened, normalised": (flat(layers.BatchNormalization()), "sigmoid", "1"),
    "flattened, normalised, softmax of three": (flat(layers.BatchNormalization(), width=3), "softmax", "0"),
    "a convolution as the head": (convolved, "sigmoid", "1"),
    "a model in a model": (nested, "softmax", "1"),
}


@pytest.fixture(scope="module")
def seen(pixels: Array) -> Array:
    """Drawn films as the network sees them, and real ones where there are any: uint8 (n, 64, 64, 1)."""
    real = sorted((DATA / "films").glob("*.jpg"))
    return (
        np.concatenate([pixels, load_pictures(real, InputSpec(SIDE, SIDE, "bilinear", "stretch"))]) if real else pixels
    )


def opened(path: Path, model: Any, positive: str, output: Any = None) -> Network:
    model.save(path / "network.keras")
    return open_network(path / "network.keras", Reading(Asked(positive=positive, output=output), TOLD))


def grad_cam(probe: Any, pixels: Array, ending: str, positive: int) -> Array:
    """relu of the sum over channels of the mean over cells of dz/dA, times A (n, h, w). Selvaraju et al., ICCV 2017."""
    with tf.GradientTape() as tape:
        picture = tf.Variable(tf.constant(np.repeat(pixels, 3, axis=3) / np.float32(255)))
        found, scores = probe(picture, training=False)
        if scores.shape[1] == 1:
            logit = scores[:, 0] if positive else -scores[:, 0]
        elif ending == "sigmoid":
            logit = scores[:, positive]
        else:
            share = tf.nn.softmax(scores)[:, positive]
            logit = tf.math.log(share) - tf.math.log(1 - share)
    slope = tf.reduce_mean(tape.gradient(logit, found), axis=(1, 2), keepdims=True)
    return np.asarray(tf.nn.relu(tf.reduce_sum(slope * found, axis=-1)))


@pytest.mark.parametrize("case", CASES)
def test_the_map_is_grad_cam(case: str, tmp_path: Path, seen: Array, shake: Callable[..., Any]) -> None:
    make, ending, positive = CASES[case]
    picture = keras.Input((SIDE, SIDE, 3))
    found, scores = make(picture)
    model, probe = keras.Model(picture, layers.Activation(ending)(scores)), keras.Model(picture, [found, scores])
    seed, raw = 0, np.zeros(1)
    while raw.std() <= 0.1 * raw.max():  # until something speaks for a fracture
        shake(model, seed)
        seed, raw = seed + 1, grad_cam(probe, seen, ending, int(positive))
    peak = np.quantile(raw.max(axis=(1, 2)), 0.99, method="lower")
    network = opened(tmp_path, model, positive)
    with_map = with_class_activation(to_onnx(network, 1.0, 0.0), network.head, seen)
    probability, heatmap = outputs(with_map, seen)
    assert heatmap.shape == raw.shape
    assert heatmap.std() > 0.05
    assert np.abs(heatmap - np.clip(raw / peak, 0, 1)).max() <= 1e-4
    assert probability == pytest.approx(1 / (1 + np.exp(-network.predict(seen)["logit"])), abs=1e-4)


def test_a_shape_that_is_computed_hides_no_map(tmp_path: Path, pixels: Array, shake: Callable[..., Any]) -> None:
    """How a Reshape is converted depends on the names of layers: now with a constant, now from the tensor's shape."""
    picture = keras.Input((SIDE, SIDE, 3))
    _, scores = convolved(picture)
    network = opened(tmp_path, shake(keras.Model(picture, layers.Activation("sigmoid")(scores))), "1")
    model = to_onnx(network, 1.0, 0.0)
    reshape = next(node for node in model.graph.node if node.output[0] == "scores")
    del model.graph.node[list(model.graph.node).index(reshape) :]
    zero = onnx.numpy_helper.from_array(np.array([0], np.int64), "zero_axis")
    one = onnx.numpy_helper.from_array(np.array([1], np.int64), "one_column")
    model.graph.initializer.extend([zero, one])
    model.graph.node.extend([
        onnx.helper.make_node("Shape", [reshape.input[0]], ["whole_shape"]),
        onnx.helper.make_node("Gather", ["whole_shape", "zero_axis"], ["films"]),
        onnx.helper.make_node("Concat", ["films", "one_column"], ["new_shape"], axis=0),
        onnx.helper.make_node("Reshape", [reshape.input[0], "new_shape"], ["scores"]),
        onnx.helper.make_node("Reshape", ["scores", "minus_one"], ["flat_logit"]),
        onnx.helper.make_node("Sigmoid", ["flat_logit"], ["probability"]),
    ])  # fmt: skip
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([-1], np.int64), "minus_one"))
    assert outputs(with_class_activation(model, network.head, pixels), pixels)[1].shape[0] == len(pixels)


def outputs(model: onnx.ModelProto, pixels: Array) -> list[Array]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == ["probability", "heatmap"]
    return list(session.run(None, {"pixels": pixels}))


def _two_pools(picture: Any) -> Any:
    found = features(picture)
    return layers.Concatenate()([layers.GlobalAveragePooling2D()(found), layers.GlobalMaxPooling2D()(found)])


@pytest.mark.parametrize(
    "make",
    [
        lambda picture: layers.Dense(9, activation="relu")(layers.Flatten()(picture)),
        lambda picture: layers.GlobalAveragePooling2D()(picture),
        lambda picture: layers.Dense(4, activation="tanh")(layers.GlobalAveragePooling2D()(features(picture))),
        lambda picture: layers.Flatten()(layers.GlobalAveragePooling2D()(layers.Conv2D(3, SIDE)(picture))),
        _two_pools,
    ],
    ids=["dense layers alone", "pooled pixels", "tanh", "one cell", "two pools"],
)
def test_where_no_map_can_be_right_there_is_none(make: Any, tmp_path: Path, pixels: Array) -> None:
    picture = keras.Input((SIDE, SIDE, 3))
    network = opened(tmp_path, keras.Model(picture, layers.Dense(1, activation="sigmoid")(make(picture))), "1")
    without = with_class_activation(to_onnx(network, 1.0, 0.0), network.head, pixels)
    assert [output.name for output in without.graph.output] == ["probability"]
    assert not [node for node in without.graph.node if "cam" in node.name]


def test_a_hidden_probability_has_no_map(tmp_path: Path, pixels: Array) -> None:
    picture = keras.Input((SIDE, SIDE, 3))
    _, scores = pooled(1)(picture)
    model = keras.Model(picture, 0.9 * layers.Activation("sigmoid")(scores))
    network = opened(tmp_path, model, "1", "probability")
    without = with_class_activation(to_onnx(network, 1.0, 0.0), network.head, pixels)
    assert [output.name for output in without.graph.output] == ["probability"]
