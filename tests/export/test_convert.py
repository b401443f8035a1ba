"""The graph that ships: grey bytes in, the network's own numbers out, in ONNX Runtime and in OpenVINO."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper

pytest.importorskip("tensorflow", reason='needs the extra: pip install ".[export,train]"')

import keras
from keras import layers

from bonefrac.errors import UsageError
from bonefrac_export.cam import with_class_activation
from bonefrac_export.convert import to_onnx
from bonefrac_export.heads import Asked
from bonefrac_export.inputs import Told
from bonefrac_export.network import Reading, open_network
from bonefrac_export.quantize import folded

SIDE = 64
Array = np.ndarray[Any, Any]
Shake = Callable[..., Any]


def told(scaling: Any) -> Reading:
    return Reading(Asked(positive="1"), Told(scaling, None, "bilinear", "stretch"))


def convert(path: Path, scaling: Any = "0..1") -> onnx.ModelProto:
    return to_onnx(open_network(path, told(scaling)), 1.0, 0.0)


def run(model: onnx.ModelProto, pixels: Array, output: str = "probability") -> Array:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run([output], {"pixels": pixels})[0])


def assert_same(found: Array, expected: Array, limit: float = 1e-4) -> None:
    """Also that the network tells these films apart."""
    assert expected.std() > 1e-4
    assert np.abs(found - expected).max() <= min(limit, expected.std() / 20)


def kinds(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def first_kernel(model: onnx.ModelProto) -> Array:
    name = next(node.input[1] for node in model.graph.node if node.op_type == "Conv")
    return numpy_helper.to_array(next(item for item in model.graph.initializer if item.name == name))


def small(padding: str = "same", *, channels: int = 3, ahead: Any = None, width: int = 1) -> keras.Model:
    picture = keras.Input((SIDE, SIDE, channels))
    x = picture if ahead is None else ahead(picture)
    x = layers.BatchNormalization()(layers.Conv2D(6, 3, strides=2, padding=padding, use_bias=False)(x))
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(layers.ReLU(6)(x))
    x = layers.ReLU(6)(layers.BatchNormalization()(x))
    x = layers.Dense(width)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(picture, layers.Activation("sigmoid" if width == 1 else "softmax")(x))


def scaled(pixels: Array, scaling: str) -> Array:
    modules = {"caffe": "vgg16", "torch": "densenet", "-1..1": "mobilenet_v2"}
    picture = np.repeat(pixels, 3, axis=3).astype(np.float32)
    if scaling == "0..1":
        return picture / 255
    return np.asarray(getattr(keras.applications, modules[scaling]).preprocess_input(picture))


@pytest.mark.parametrize("kind", [".keras", ".h5", "SavedModel"])
@pytest.mark.parametrize("width", [1, 2])
def test_every_format_gives_keras_own_numbers(
    tmp_path: Path, pixels: Array, shake: Shake, kind: str, width: int
) -> None:
    model, path = shake(small(width=width)), tmp_path / f"model{kind}"
    model.export(path, verbose=False) if kind == "SavedModel" else model.save(path)
    expected = model.predict(scaled(pixels, "0..1"), verbose=0)[:, -1]
    assert_same(run(convert(path), pixels), expected)


def _teachable_machine(tf_keras: Any) -> Any:
    """A network of Keras 2 as that web page saves it: models in models, the last layer without a bias."""
    k = tf_keras.layers
    picture = k.Input((SIDE, SIDE, 3))
    x = k.Conv2D(8, 3, strides=2, use_bias=False)(k.ZeroPadding2D(((0, 1), (0, 1)))(picture))
    x = k.ReLU(6.0)(k.BatchNormalization()(x))
    x = k.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
    x = k.ReLU(6.0)(k.BatchNormalization()(x))
    x = k.ReLU(6.0)(k.BatchNormalization()(k.Conv2D(12, 1, use_bias=False)(x)))
    trunk = tf_keras.Sequential([tf_keras.Model(picture, x), k.GlobalAveragePooling2D()])
    head = [k.Dense(100, activation="relu", input_shape=(12,)), k.Dense(2, activation="softmax", use_bias=False)]
    return tf_keras.Sequential([trunk, tf_keras.Sequential(head)])


def _with_groups(config: Any) -> Any:
    """The network's configuration as that page's older Keras wrote it, which today's Keras 3 cannot read."""
    if isinstance(config, dict):
        if config.get("class_name") == "DepthwiseConv2D":
            config["config"]["groups"] = 1
        return {name: _with_groups(part) for name, part in config.items()}
    return [_with_groups(part) for part in config] if isinstance(config, list) else config


def test_teachable_machine_s_old_file(tmp_path: Path, pixels: Array, shake: Shake) -> None:
    tf_keras = pytest.importorskip("tf_keras", reason="needs tf-keras")
    model, path = shake(_teachable_machine(tf_keras)), tmp_path / "keras_model.h5"
    model.save(path)
    with h5py.File(path, "r+") as file:
        config = _with_groups(json.loads(file.attrs["model_config"]))
        file.attrs["model_config"] = json.dumps(config)
    with pytest.raises(Exception, match="groups"):
        keras.saving.load_model(path, compile=False)

    expected = model.predict(scaled(pixels, "-1..1"), verbose=0)[:, 1]
    graph = convert(path, "-1..1")
    assert_same(run(graph, pixels), expected)
    with_map = with_class_activation(graph, open_network(path, told("-1..1")).head, pixels)
    assert run(with_map, pixels, "heatmap").shape == (6, 32, 32)


@pytest.mark.parametrize("scaling", ["0..1", "-1..1", "caffe", "torch"])
def test_the_graph_is_what_the_engine_and_other_runtimes_want(
    tmp_path: Path, pixels: Array, shake: Shake, scaling: str
) -> None:
    model, path = shake(small()), tmp_path / "network.keras"
    model.save(path)
    graph = convert(path, scaling)
    shipped = folded(with_class_activation(graph, open_network(path, told(scaling)).head, pixels))
    onnx.checker.check_model(shipped, full_check=True)

    (entry,) = shipped.graph.input
    sides = [side.dim_param or side.dim_value for side in entry.type.tensor_type.shape.dim]
    assert (entry.name, entry.type.tensor_type.elem_type, sides) == ("pixels", onnx.TensorProto.UINT8, ["N", 64, 64, 1])
    assert {output.name: output.type.tensor_type.shape.dim[0].dim_param for output in shipped.graph.output} == {
        "probability": "N", "heatmap": "N"
    }  # fmt: skip
    found = kinds(shipped)
    assert not {"BatchNormalization", "Shape", "Loop", "Tile"} & set(found)
    assert found["Conv"] == 3, "with the map's own"
    assert found["Transpose"] == (0 if scaling in ("0..1", "-1..1") else 1)

    expected = model.predict(scaled(pixels, scaling), verbose=0)[:, 0]
    assert_same(run(shipped, pixels), expected)
    alone = np.concatenate([run(shipped, pixels[at : at + 1]) for at in range(len(pixels))])
    assert_same(alone, expected)


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(("scaling", "channels"), [("0..1", 1), ("-1..1", 1), ("none", 1), ("caffe", 3), ("torch", 3)])
def test_grey_is_repeated_only_where_it_must_be(
    tmp_path: Path, pixels: Array, shake: Shake, padding: str, scaling: str, channels: int
) -> None:
    """Zeros padded round the picture would stand for another grey in each channel of caffe and torch."""
    model = shake(small(padding))
    model.save(tmp_path / "network.keras")
    graph = convert(tmp_path / "network.keras", scaling)
    assert first_kernel(graph).shape == (6, channels, 3, 3)
    (scores,) = (
        open_network(tmp_path / "network.keras", told(scaling))
        .eye.trained(np.repeat(pixels, 3, axis=3).astype(np.float32) if scaling == "none" else scaled(pixels, scaling))
        .values()
    )
    found = run(graph, pixels, "scores")
    assert np.abs(found - scores).max() <= 1e-5 * max(1, np.abs(scores).max())


@pytest.mark.parametrize(
    ("ahead", "channels"),
    [
        (lambda grey: layers.Rescaling(1 / 255)(layers.Concatenate()([grey] * 3)), 1),
        (lambda grey: layers.ZeroPadding2D(2)(layers.Rescaling(1 / 127.5, -1)(layers.Concatenate()([grey] * 3))), 1),
        (lambda grey: layers.Rescaling(1 / 255, (0.0, 0.1, 0.2))(layers.Concatenate()([grey] * 3)), 3),
        (lambda grey: keras.ops.tanh(layers.Rescaling(1 / 255)(layers.Concatenate()([grey] * 3))), 3),
        (lambda grey: layers.AveragePooling2D(2)(layers.Rescaling(1 / 255)(layers.Concatenate()([grey] * 3))), 3),
    ],
    ids=["repeated", "padded", "means", "no scale and offset", "other pixels"],
)
def test_what_the_network_repeats_itself(
    tmp_path: Path, pixels: Array, shake: Shake, ahead: Any, channels: int
) -> None:
    model = shake(small("valid", channels=1, ahead=ahead))
    model.save(tmp_path / "network.keras")
    graph = convert(tmp_path / "network.keras", None)
    assert first_kernel(graph).shape[1] == channels
    expected = model.predict(pixels.astype(np.float32), verbose=0)[:, 0]
    assert_same(run(graph, pixels), expected, 1e-5)


def test_two_dense_layers_on_one_flattened_map(tmp_path: Path, pixels: Array, shake: Shake) -> None:
    picture = keras.Input((SIDE, SIDE, 3))
    flat = layers.Flatten()(layers.Conv2D(3, 5, strides=8, activation="relu")(picture))
    both = layers.Concatenate()([layers.Dense(4)(flat), layers.Dense(5, activation="relu")(flat)])
    model = shake(keras.Model(picture, layers.Dense(1, activation="sigmoid")(both)))
    model.save(tmp_path / "network.keras")
    graph = convert(tmp_path / "network.keras")
    assert not {"Transpose", "Shape"} & set(kinds(graph))
    expected = model.predict(scaled(pixels, "0..1"), verbose=0)[:, 0]
    assert_same(run(graph, pixels), expected, 1e-5)


def test_a_flattened_map_that_others_read_too(tmp_path: Path, pixels: Array, shake: Shake) -> None:
    picture = keras.Input((SIDE, SIDE, 3))
    flat = layers.Flatten()(layers.Conv2D(3, 5, strides=8, activation="relu")(picture))
    both = layers.Concatenate()([layers.Dense(4)(flat), flat])
    model = shake(keras.Model(picture, layers.Dense(1, activation="sigmoid")(both)))
    model.save(tmp_path / "network.keras")
    expected = model.predict(scaled(pixels, "0..1"), verbose=0)[:, 0]
    assert_same(run(convert(tmp_path / "network.keras"), pixels), expected, 1e-5)


def test_a_flattened_map_that_is_normalised(tmp_path: Path, pixels: Array, shake: Shake) -> None:
    picture = keras.Input((SIDE, SIDE, 3))
    flat = layers.Flatten()(layers.Conv2D(3, 5, strides=8, activation="relu")(picture))
    x = layers.ReLU(max_value=2)(layers.BatchNormalization()(flat))
    model = shake(keras.Model(picture, layers.Dense(1, activation="sigmoid")(x)))
    model.save(tmp_path / "network.keras")
    graph = convert(tmp_path / "network.keras")
    assert not {"Transpose", "Shape"} & set(kinds(graph))
    assert_same(run(graph, pixels), model.predict(scaled(pixels, "0..1"), verbose=0)[:, 0], 1e-5)


@pytest.mark.parametrize("activation", ["linear", "relu"])
def test_zeros_round_a_map_count_where_all_is_negative(
    tmp_path: Path, pixels: Array, shake: Shake, activation: str
) -> None:
    """ResNet50V2 pads before it pools, without a ReLU between."""
    picture = keras.Input((SIDE, SIDE, 3))
    x = layers.ZeroPadding2D(1)(layers.Conv2D(6, 5, strides=8, activation=activation)(picture))
    x = layers.GlobalAveragePooling2D()(layers.MaxPooling2D(3, strides=2)(x))
    model = shake(keras.Model(picture, layers.Dense(1, activation="sigmoid")(x)))
    model.get_layer(index=1).bias.assign(-np.ones(6))
    model.save(tmp_path / "network.keras")
    expected = model.predict(scaled(pixels, "0..1"), verbose=0)[:, 0]
    graph = convert(tmp_path / "network.keras")
    assert_same(run(graph, pixels), expected, 1e-5)
    assert_same(run(folded(graph), pixels), expected, 1e-5)


def test_calibration_is_inside_the_graph(tmp_path: Path, pixels: Array) -> None:
    small().save(tmp_path / "network.keras")
    network = open_network(tmp_path / "network.keras", told("0..1"))
    found = run(to_onnx(network, 0.5, -1.25), pixels)
    assert found == pytest.approx(1 / (1 + np.exp(1.25 - 0.5 * network.predict(pixels)["logit"])), abs=1e-6)


def test_openvino_gives_the_same_numbers(tmp_path: Path, pixels: Array, shake: Shake) -> None:
    openvino = pytest.importorskip("openvino", reason="needs openvino")
    shake(small()).save(tmp_path / "network.keras")
    network = open_network(tmp_path / "network.keras", told("torch"))
    shipped = folded(with_class_activation(to_onnx(network, 1.0, 0.0), network.head, pixels))
    core = openvino.Core()
    exact = {"INFERENCE_PRECISION_HINT": "f32"}  # else it computes in bfloat16 on CPUs that can
    compiled = core.compile_model(core.read_model(shipped.SerializeToString()), "CPU", exact)
    for count in (1, 6):
        found = compiled(pixels[:count])
        for name in ("probability", "heatmap"):
            assert np.abs(found[name] - run(shipped, pixels[:count], name)).max() <= 1e-3, name


def test_an_operator_that_onnx_lacks_is_refused(tmp_path: Path) -> None:
    picture = keras.Input((SIDE, SIDE, 1))
    x = keras.ops.erfinv(layers.Dense(3, activation="tanh")(layers.GlobalAveragePooling2D()(picture)))
    keras.Model(picture, layers.Dense(1, activation="sigmoid")(x)).save(tmp_path / "network.keras")
    with pytest.raises(UsageError, match=r"network.keras: cannot be written as ONNX, which has no Erfinv"):
        convert(tmp_path / "network.keras")
