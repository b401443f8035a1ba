"""Which files are taken, and that every other is refused in one sentence, before any code in it could run."""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason='needs the extra: pip install ".[export,train]"')

import keras
import tensorflow as tf
from keras import layers

from bonefrac.errors import UsageError
from bonefrac_export.loader import load

SIDE = 64
Make = Callable[..., Any]


def network(*, side: int | None = SIDE, batch: int | None = None, channels: int = 3) -> keras.Model:
    picture = keras.Input((side, side, channels), batch_size=batch)
    features = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, strides=4, activation="relu")(picture))
    return keras.Model(picture, layers.Dense(1, activation="sigmoid")(features))


def saved(model: Any, path: Path) -> Path:
    model.save(path)
    return path


@pytest.mark.parametrize("kind", [".keras", ".h5", "SavedModel"])
@pytest.mark.parametrize("keras_name", ["keras", "tf_keras"])
def test_every_format_gives_what_the_network_gives(
    tmp_path: Path, pixels: Any, shake: Make, kind: str, keras_name: str
) -> None:
    this = keras if keras_name == "keras" else pytest.importorskip(keras_name, reason="needs tf-keras")
    model = this.Sequential([
        this.layers.InputLayer((SIDE, SIDE, 3)),
        this.layers.Conv2D(4, 3, strides=4, activation="relu"),
        this.layers.GlobalMaxPooling2D(),
        this.layers.Dropout(0.5),
        this.layers.Dense(2, activation="softmax"),
    ])  # fmt: skip
    shake(model)
    path = tmp_path / f"model{kind}"
    tf.saved_model.save(model, str(path)) if kind == "SavedModel" else model.save(path)
    pictures = np.repeat(pixels, 3, axis=3).astype(np.float32) / 255
    (found,) = load(path)(pictures).values()
    assert np.abs(found.numpy() - model.predict(pictures, verbose=0)).max() < 1e-6


def test_outputs_keep_their_names(tmp_path: Path) -> None:
    model = network()
    path = saved(keras.Model(model.input, {"logit": model.output, "also": model.output}), tmp_path / "two.keras")
    assert load(path).names == ("also", "logit")


def test_a_network_for_any_size_is_asked_for_one(tmp_path: Path) -> None:
    path = saved(network(side=None), tmp_path / "any.keras")
    with pytest.raises(UsageError, match="--size"):
        load(path)
    assert (load(path, 96).height, load(path, 96).width) == (96, 96)


@pytest.mark.parametrize("kind", [".keras", ".h5"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_a_file_cut_short_is_refused(tmp_path: Path, kind: str, share: float) -> None:
    path = saved(network(), tmp_path / f"model{kind}")
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(UsageError, match="cut short"):
        load(path)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = saved(network(), tmp_path / "model.keras")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(UsageError, match="damaged"):
        load(path)


@pytest.mark.parametrize("content", [b"no network", b"", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_keras_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.h5"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="no Keras file"):
        load(path)
    with zipfile.ZipFile(tmp_path / "letter.keras", "w") as file:
        file.writestr("letter.txt", "Dear colleague")
    with pytest.raises(UsageError, match="zip of other things: unpack it"):
        load(tmp_path / "letter.keras")
    with pytest.raises(UsageError, match="no such file"):
        load(tmp_path / "nowhere.keras")


def test_weights_alone_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.weights.h5"
    network().save_weights(path)
    with pytest.raises(UsageError, match="weights without a network"):
        load(path)


@pytest.mark.parametrize("kind", [".keras", ".h5"])
@pytest.mark.parametrize("keras_name", ["keras", "tf_keras"])
def test_a_lambda_is_refused_and_never_run(tmp_path: Path, kind: str, keras_name: str) -> None:
    this = keras if keras_name == "keras" else pytest.importorskip(keras_name, reason="needs tf-keras")
    flag = str(tmp_path / "was run")
    inner = this.Sequential(
        [this.layers.InputLayer((SIDE, SIDE, 3)), this.layers.Lambda(lambda x: (Path(flag).touch(), x)[1])]
    )
    model = this.Sequential([inner, this.layers.Flatten(), this.layers.Dense(1)])
    model(np.zeros((1, SIDE, SIDE, 3), np.float32))
    path = saved(model, tmp_path / f"model{kind}")
    Path(flag).unlink()
    with pytest.raises(UsageError, match=r"holds code \(a Lambda layer\)"):
        load(path)
    assert not Path(flag).exists()


def test_a_class_of_somebody_elses_is_refused(tmp_path: Path) -> None:
    class Mine(layers.Layer):  # type: ignore[misc]
        def call(self, x: Any) -> Any:
            return x

    model = keras.Sequential([keras.Input((SIDE, SIDE, 1)), Mine(), layers.Flatten(), layers.Dense(1)])
    with pytest.raises(UsageError, match=r"holds code \(.*Mine"):
        load(saved(model, tmp_path / "model.keras"))


def test_a_function_found_by_its_name_is_refused(tmp_path: Path) -> None:
    """Keras' own functions too: some of them write files, or switch the safe mode off."""
    path = saved(network(), tmp_path / "model.keras")
    with zipfile.ZipFile(path) as file:
        parts = {name: file.read(name) for name in file.namelist()}
    config = json.loads(parts["config.json"])
    config["config"]["layers"][1]["config"]["activation"] = {
        "module": "keras.config", "class_name": "function", "config": "enable_unsafe_deserialization",
        "registered_name": "enable_unsafe_deserialization",
    }  # fmt: skip
    with zipfile.ZipFile(path, "w") as file:
        for name, data in {**parts, "config.json": json.dumps(config)}.items():
            file.writestr(name, data)
    with pytest.raises(UsageError, match=r"holds code \(keras.config.enable_unsafe_deserialization\)"):
        load(path)


def test_a_saved_model_that_calls_python_is_refused(tmp_path: Path) -> None:
    class Calls(tf.Module):  # type: ignore[misc]
        @tf.function(input_signature=[tf.TensorSpec((None, SIDE, SIDE, 1))])
        def __call__(self, picture: Any) -> Any:
            return tf.ensure_shape(tf.py_function(lambda x: x[:, 0, 0], [picture], tf.float32), (None, 1))

    module = Calls()
    tf.saved_model.save(module, str(tmp_path / "calls"), signatures=module.__call__)
    with pytest.raises(UsageError, match=r"holds code \(EagerPyFunc\)"):
        load(tmp_path / "calls")
    with pytest.raises(UsageError, match="no SavedModel"):
        load(tmp_path)
    (tmp_path / "calls" / "saved_model.pb").write_bytes(b"\xff" * 40)
    with pytest.raises(UsageError, match="cut short"):
        load(tmp_path / "calls")


def _two_inputs() -> keras.Model:
    one, other = keras.Input((SIDE, SIDE, 1)), keras.Input((SIDE, SIDE, 1))
    return keras.Model([one, other], layers.Dense(1)(layers.Flatten()(layers.Add()([one, other]))))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_two_inputs, "has 2 inputs"),
        (lambda: keras.Sequential([keras.Input((4,)), layers.Dense(1)]), "is no picture"),
        (lambda: keras.Sequential([keras.Input((SIDE, SIDE, 5)), layers.Flatten(), layers.Dense(1)]), "is no picture"),
        (lambda: network(batch=8), "exactly 8 pictures"),
        (lambda: keras.Sequential([layers.Flatten(), layers.Dense(1)]), "has 0 inputs"),
    ],
)
def test_other_inputs_are_refused(tmp_path: Path, make: Make, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        load(saved(make(), tmp_path / "model.keras"))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_refused(tmp_path: Path, value: float) -> None:
    model = network()
    kernel, *others = model.get_weights()
    kernel[0, 0, 0, 0] = value
    model.set_weights([kernel, *others])
    with pytest.raises(UsageError, match="weights that are no numbers"):
        load(saved(model, tmp_path / "model.keras"))


def test_an_old_file_without_tf_keras_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tf_keras = pytest.importorskip("tf_keras", reason="needs tf-keras")
    model = tf_keras.Sequential([tf_keras.layers.Flatten(input_shape=(SIDE, SIDE, 1)), tf_keras.layers.Dense(1)])
    path = saved(model, tmp_path / "old.h5")
    monkeypatch.setitem(sys.modules, "tf_keras", None)
    with pytest.raises(UsageError, match="pip install tf-keras"):
        load(path)
