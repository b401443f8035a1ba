"""How films come to a network: Keras' own arithmetic, found in the network, or asked for."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason='needs the extra: pip install ".[export,train]"')

import keras
import tensorflow as tf
from keras import layers

from bonefrac.errors import UsageError
from bonefrac.preprocess import InputSpec
from bonefrac_export.inputs import Told, read_input
from bonefrac_export.loader import Trained, load
from bonefrac_export.network import Eye

SIDE = 16
GREY = np.arange(SIDE * SIDE, dtype=np.float32).reshape(1, SIDE, SIDE, 1)
STRETCH = InputSpec(SIDE, SIDE, "bilinear", "stretch")


def saved(path: Path, *ahead: Any, channels: int = 3) -> Trained:
    """A network that begins with `ahead`."""
    model = keras.Sequential([keras.Input((SIDE, SIDE, channels)), *ahead, layers.Flatten(), layers.Dense(1)])
    model.save(path / "network.keras")
    return load(path / "network.keras")


class Seen:
    """Instead of a network: what comes to it."""

    def __call__(self, picture: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"seen": picture}


@pytest.mark.parametrize(
    ("scaling", "module"), [("caffe", "vgg16"), ("caffe", "resnet50"), ("torch", "densenet"), ("-1..1", "mobilenet_v2")]
)
def test_the_arithmetic_is_that_of_keras(tmp_path: Path, scaling: Any, module: str) -> None:
    _, arithmetic = read_input(saved(tmp_path), Told(scaling, None, "bilinear", "stretch"))
    seen = Eye(Seen(), STRETCH, arithmetic)(GREY)["seen"]  # type: ignore[arg-type]
    expected = getattr(keras.applications, module).preprocess_input(np.repeat(GREY, 3, axis=3))
    assert seen.shape == expected.shape
    assert np.abs(np.asarray(seen) - expected).max() <= 1e-4


@pytest.mark.parametrize(("scaling", "divided_by"), [("0..1", 255), ("none", 1)])
@pytest.mark.parametrize("channels", [1, 3])
def test_plain_scalings(tmp_path: Path, scaling: Any, divided_by: float, channels: int) -> None:
    _, arithmetic = read_input(saved(tmp_path, channels=channels), Told(scaling, None, "bilinear", "stretch"))
    seen = Eye(Seen(), STRETCH, arithmetic)(GREY)["seen"]  # type: ignore[arg-type]
    assert np.abs(np.asarray(seen) - np.repeat(GREY, channels, axis=3) / divided_by).max() <= 1e-4


@pytest.mark.parametrize("scaling", ["caffe", "torch"])
def test_the_order_of_colors_can_be_told(tmp_path: Path, scaling: Any) -> None:
    trained = saved(tmp_path)
    rgb, bgr, plain = (read_input(trained, Told(scaling, c, "area", "letterbox"))[1] for c in ("rgb", "bgr", None))
    assert rgb.offset == bgr.offset[::-1]
    assert plain == (bgr if scaling == "caffe" else rgb)


def test_resize_and_fit_are_kept(tmp_path: Path) -> None:
    spec, _ = read_input(saved(tmp_path), Told("0..1", None, "area", "letterbox"))
    assert spec == InputSpec(SIDE, SIDE, "area", "letterbox")


def _deep(*inner: Any) -> Any:
    return keras.Sequential([keras.Input((SIDE, SIDE, 3)), keras.Sequential(list(inner))])


@pytest.mark.parametrize(
    "ahead",
    [
        [layers.Rescaling(1 / 255)],
        [layers.Rescaling(1.0, offset=-127.0)],
        [layers.Normalization(mean=127.0, variance=64.0)],
        [layers.ZeroPadding2D(), layers.Rescaling(1 / 255)],
        [layers.RandomFlip(), _deep(layers.RandomRotation(0.1), layers.Rescaling(1 / 255))],
    ],
)
def test_arithmetic_in_the_network_is_found_and_never_done_twice(tmp_path: Path, ahead: list[Any]) -> None:
    trained = saved(tmp_path, *ahead)
    spec, arithmetic = read_input(trained, Told(None, None, "bilinear", "stretch"))
    assert spec == STRETCH
    assert (arithmetic.scale, arithmetic.offset) == ((1.0,) * 3, (0.0,) * 3)
    assert read_input(trained, Told("none", None, "bilinear", "stretch"))[1] == arithmetic
    with pytest.raises(UsageError, match=r"with --scaling 0..1 they would be scaled twice"):
        read_input(trained, Told("0..1", None, "bilinear", "stretch"))


@pytest.mark.parametrize(
    "ahead", [[layers.Conv2D(2, 3), layers.Rescaling(2.0)], [layers.BatchNormalization(), layers.Conv2D(2, 3)]]
)
def test_what_layers_do_later_is_no_scaling(tmp_path: Path, ahead: list[Any]) -> None:
    with pytest.raises(UsageError, match="give --scaling"):
        read_input(saved(tmp_path, *ahead), Told(None, None, "bilinear", "stretch"))


def test_whole_numbers_are_scaled_within(tmp_path: Path) -> None:
    class Whole(tf.Module):  # type: ignore[misc]
        @tf.function(input_signature=[tf.TensorSpec((None, SIDE, SIDE, 3), tf.uint8)])
        def __call__(self, picture: Any) -> Any:
            return tf.reduce_mean(tf.cast(picture, tf.float32), axis=(1, 2))[:, :1]

    module = Whole()
    tf.saved_model.save(module, str(tmp_path / "whole"), signatures=module.__call__)
    trained = load(tmp_path / "whole")
    assert read_input(trained, Told(None, None, "bilinear", "stretch"))[1].scale == (1.0,) * 3
    with pytest.raises(UsageError, match="scaled twice"):
        read_input(trained, Told("0..1", None, "bilinear", "stretch"))


@pytest.mark.parametrize("missing", ["scaling", "resize", "fit"])
def test_what_is_not_known_is_asked_for(tmp_path: Path, missing: str) -> None:
    told: dict[str, Any] = {"scaling": "0..1", "resize": "bilinear", "fit": "stretch", missing: None}
    with pytest.raises(UsageError, match=f"give --{missing}, ") as refused:
        read_input(saved(tmp_path), Told(**told))
    assert str(refused.value).count("--") == 1


def test_all_that_is_not_known_is_asked_for_at_once(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"--scaling, .*0..1.*caffe.*; and --resize, .*bilinear.*; and --fit, .*stretch"
    ):
        read_input(saved(tmp_path), Told())


@pytest.mark.parametrize(
    ("channels", "told", "words"),
    [
        (1, Told("0..1", "rgb", "area", "stretch"), "takes 1 channels, which --color rgb does not fit"),
        (3, Told("0..1", "gray", "area", "stretch"), "takes 3 channels, which --color gray does not fit"),
        (1, Told("caffe", None, "area", "stretch"), "has a mean for each of three"),
        (1, Told("torch", None, "area", "stretch"), "has a mean for each of three"),
    ],
)
def test_channels_that_do_not_fit_are_refused(tmp_path: Path, channels: int, told: Told, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        read_input(saved(tmp_path, channels=channels), told)


def beside(trained: Trained, **values: Any) -> Trained:
    spec = {**asdict(InputSpec(SIDE, SIDE, "area", "letterbox")), **values}
    (trained.path.parent / "input.json").write_text(json.dumps(spec))
    return trained


def test_the_file_beside_is_read(tmp_path: Path) -> None:
    spec, arithmetic = read_input(beside(saved(tmp_path, layers.Rescaling(1 / 255), channels=1)), Told())
    assert spec == InputSpec(SIDE, SIDE, "area", "letterbox")
    assert (arithmetic.scale, arithmetic.offset) == ((1.0,), (0.0,))


def test_the_file_beside_says_nothing_of_scaling(tmp_path: Path) -> None:
    trained = beside(saved(tmp_path))
    with pytest.raises(UsageError, match="give --scaling"):
        read_input(trained, Told())
    assert read_input(trained, Told("0..1"))[1].scale == pytest.approx((1 / 255,) * 3)


@pytest.mark.parametrize(
    ("values", "told", "words"),
    [
        ({}, Told(resize="bilinear"), "says area and letterbox: leave --resize and --fit out"),
        ({}, Told(fit="stretch"), "says area and letterbox: leave --resize and --fit out"),
        ({}, Told("-1..1"), "scaled twice"),
        ({"width": 32}, Told(), "is not of this network"),
        ({"version": 0}, Told(), "is not of this network"),
        ({"resize": "cubic"}, Told(), "is damaged"),
        ({"sharpness": 3}, Told(), "is damaged"),
    ],
)
def test_contradictions_with_the_file_beside_are_refused(
    tmp_path: Path, values: dict[str, Any], told: Told, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        read_input(beside(saved(tmp_path, layers.Rescaling(1 / 255), channels=1), **values), told)


@pytest.mark.parametrize("text", ["", "[1, 2]", '{"width": 16'])
def test_a_damaged_file_beside_is_refused(tmp_path: Path, text: str) -> None:
    trained = saved(tmp_path, layers.Rescaling(1 / 255), channels=1)
    (tmp_path / "input.json").write_text(text)
    with pytest.raises(UsageError, match="is damaged"):
        read_input(trained, Told())
