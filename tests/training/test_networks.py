"""Every network builds, learns, saves, loads in safe mode; frozen trunks stay; scalings and costs are the papers'."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

pytest.importorskip("keras", reason='needs the extra: pip install ".[train]"', exc_type=ImportError)

import keras

from bonefrac.errors import UsageError
from bonefrac_training.augment import moved
from bonefrac_training.box import box, iou, ordered_corners
from bonefrac_training.cost import multiply_adds, parameters
from bonefrac_training.frame import grey_input, scaled
from bonefrac_training.networks import NETWORKS, find
from bonefrac_training.table import ORDER
from bonefrac_training.trainer import compile_for

SIZE, FILMS = 32, 4
OUTPUTS = {"classifier": {"logit": (FILMS,)}, "box": {"box": (FILMS, 4)},
           "heatmap": {"logit": (FILMS,), "heatmap": (FILMS, SIZE // 8, SIZE // 8)}}  # fmt: skip


def run(model: Any, grey: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
    return {name: np.asarray(value) for name, value in model(grey, training=False).items()}


def values(model: Any, names: tuple[str, ...]) -> list[np.ndarray[Any, Any]]:
    return [
        np.copy(keras.ops.convert_to_numpy(weight))
        for layer in model.layers
        if layer.name.startswith(names)
        for weight in layer.weights
    ]


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_learns_saves_and_loads(name: str, tmp_path: Path) -> None:
    network = find(name)
    keras.utils.set_random_seed(1)
    model, kind = network.build(SIZE), network.of_kind
    rng = np.random.default_rng(0)
    grey = rng.uniform(0, 255, (FILMS, SIZE, SIZE, 1)).astype(np.float32)
    corners = [moved(((4, 4, 20, 16),), np.eye(2, 3))] * FILMS
    targets = kind.targets(np.array([1, 0, 1, 0], np.float32), corners, SIZE)

    for frozen in (True, False):
        network.freeze(model, frozen=frozen)
        compile_for(model, kind, 1e-3)
        model.run_eagerly = True
        before, all_before = values(model, network.trunk), values(model, ("",))
        losses = model.train_on_batch(grey, targets, return_dict=True)
        assert np.isfinite(losses["loss"])
        pairs = zip(before, values(model, network.trunk), strict=True)
        changed = [not np.array_equal(old, new) for old, new in pairs]
        assert not any(changed) if frozen else sum(changed) >= 0.8 * len(changed)
        pairs = zip(all_before, values(model, ("",)), strict=True)
        assert any(not np.array_equal(old, new) for old, new in pairs), "nothing was learned"

    exported = kind.exported(model)
    outputs = run(exported, grey)
    assert {key: value.shape for key, value in outputs.items()} == OUTPUTS[network.kind]
    exported.save(tmp_path / "network.keras")
    loaded = keras.saving.load_model(tmp_path / "network.keras", compile=False, safe_mode=True)
    assert not [layer for layer in loaded.layers if isinstance(layer, keras.layers.Lambda)]
    for key, value in run(loaded, grey).items():
        assert np.allclose(value, outputs[key], atol=1e-5), key
    assert (tmp_path / "network.keras").stat().st_size < 4.5 * parameters(exported) + 2e6, (
        "the optimiser is in the file"
    )


def test_the_table_knows_every_network_and_no_other() -> None:
    assert tuple(NETWORKS) == ORDER
    with pytest.raises(UsageError, match="no network 'resnet51'; known: box, ann"):
        find("resnet51")


@pytest.mark.parametrize(
    ("scaling", "black", "white"),
    [
        ("unit", (0, 0, 0), (1, 1, 1)),
        ("signed", (-1, -1, -1), (1, 1, 1)),
        ("caffe", (-103.939, -116.779, -123.68), (151.061, 138.221, 131.32)),
        ("torch", (-2.1179, -2.0357, -1.8044), (2.2489, 2.4286, 2.64)),
    ],
)
def test_scalings_are_those_of_the_weights(
    scaling: str, black: tuple[float, ...], white: tuple[float, ...], tmp_path: Path
) -> None:
    grey = grey_input(8)
    model = keras.Model(grey, scaled(grey, scaling))
    assert model.output.shape == (None, 8, 8, 3)
    model.save(tmp_path / "scaling.keras")
    loaded = keras.saving.load_model(tmp_path / "scaling.keras", safe_mode=True)
    for level, wanted in ((0, black), (255, white)):
        scaled_to = np.asarray(loaded(np.full((1, 8, 8, 1), level, np.float32)))
        assert scaled_to[0, 3, 5] == pytest.approx(wanted, abs=1e-3)


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("VGG16", "vgg16"),
        ("ResNet50", "resnet50"),
        ("DenseNet121", "densenet"),
        ("MobileNetV2", "mobilenet_v2"),
        ("ResNet50V2", "resnet_v2"),
    ],
)
def test_scalings_are_what_keras_applications_do(name: str, module: str) -> None:
    """Against Keras' own preprocessing of the same grey film in three channels."""
    film = np.random.default_rng(0).uniform(0, 255, (1, SIZE, SIZE, 1)).astype(np.float32)
    wanted = getattr(keras.applications, module).preprocess_input(np.repeat(film, 3, axis=3).copy())
    model = find(name.lower()).build(SIZE)
    scale = keras.Model(model.input, model.get_layer("scale").output)
    assert np.allclose(np.asarray(scale(film)), wanted, atol=1e-3)


@given(
    arrays(np.float32, (2, 2), elements=st.floats(-(2.0**99), 2.0**99, width=32)),
    arrays(np.float32, (2, 2), elements=st.floats(-(2.0**99), 2.0**99, width=32)),
)
def test_corners_are_ordered_whatever_the_logits(place: np.ndarray[Any, Any], extent: np.ndarray[Any, Any]) -> None:
    corners = np.asarray(ordered_corners(place, extent))
    assert (corners[:, :2] < corners[:, 2:]).all()
    assert corners.min() >= 0
    assert corners.max() <= 1 + 1e-6


def test_the_box_network_gives_such_corners() -> None:
    model = box(SIZE)
    for name in ("head_place", "head_extent"):
        model.get_layer(name).kernel.assign(np.random.default_rng(0).normal(0, 500, (128, 2)))
    corners = run(model, np.random.default_rng(1).uniform(0, 255, (8, SIZE, SIZE, 1)).astype(np.float32))["box"]
    assert (corners[:, :2] < corners[:, 2:]).all()


def test_iou_is_intersection_over_union() -> None:
    one = np.array([[0, 0, 2, 2], [0, 0, 1, 1], [0, 0, 1, 1]], np.float32)
    other = np.array([[1, 1, 3, 3], [0, 0, 1, 1], [2, 2, 3, 3]], np.float32)
    assert np.asarray(iou(one, other)) == pytest.approx([1 / 7, 1, 0])


@pytest.mark.parametrize(
    ("name", "giga", "mega"),
    [  # at 224 px, without ImageNet's dense layers (VGG16 has 15.47 with them), with one logit
        ("vgg16", 15.35, 14.72),
        ("resnet50", 3.86, 23.59),  # version 1 strides in the first 1x1; "4.1 G" is torchvision's version 1.5
        ("mobilenetv2", 0.30, 2.26),
        ("resnet18", 1.81, 11.19),
    ],
)
def test_costs_are_the_known_ones(name: str, giga: float, mega: float) -> None:
    model = find(name).build(224)
    assert multiply_adds(model) / 1e9 == pytest.approx(giga, abs=0.01)
    assert parameters(model) / 1e6 == pytest.approx(mega, abs=0.01)


def test_each_kind_of_layer_is_counted() -> None:
    entry = keras.Input((8, 8, 4))
    x = keras.layers.SeparableConv2D(6, 3, padding="same")(entry)  # 64 * (9 * 4 + 4 * 6)
    x = keras.layers.DepthwiseConv2D(3, 2, padding="same")(x)  # 16 * 9 * 6
    x = keras.layers.Conv2D(8, 3, padding="same", groups=2)(x)  # 16 * 9 * 3 * 8
    inner = keras.Model(entry, keras.layers.Dense(5)(keras.layers.Flatten()(x)))  # 128 * 5
    wanted = 64 * 60 + 16 * 54 + 16 * 216 + 640
    assert multiply_adds(inner) == wanted
    assert multiply_adds(keras.Sequential([inner])) == wanted, "a model inside a model was not counted"
