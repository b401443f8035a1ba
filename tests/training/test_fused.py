"""The network that trains is the one that is saved: same outputs, same learning, one kernel for batch statistics."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("keras", reason='needs the extra: pip install ".[train]"', exc_type=ImportError)

import keras
from keras import layers

from bonefrac_training.fused import FusedBatchNormalization, for_training

if keras.config.backend() != "tensorflow":
    pytest.skip("there is no fused kernel for this backend", allow_module_level=True)


@pytest.fixture
def plain() -> keras.Model:
    keras.utils.set_random_seed(1)
    x = entry = keras.Input((16, 16, 3))
    for index in range(3):
        x = layers.Conv2D(8, 3, padding="same", use_bias=False, name=f"conv{index}")(x)
        x = layers.ReLU()(layers.BatchNormalization(momentum=0.9, epsilon=1e-3, name=f"bn{index}")(x))
    return keras.Model(entry, layers.Dense(1)(layers.GlobalAveragePooling2D()(x)))


def batch(seed: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    return rng.normal(3.0, 2.0, (8, 16, 16, 3)).astype(np.float32), rng.normal(size=8).astype(np.float32)


def test_it_learns_what_keras_own_layer_learns(plain: keras.Model) -> None:
    fused = for_training(plain)
    assert sum(isinstance(layer, FusedBatchNormalization) for layer in fused.layers) == 3
    for model in (plain, fused):
        model.compile(keras.optimizers.SGD(0.01), "mse")
    for step in range(5):
        losses = [model.train_on_batch(*batch(step), return_dict=True)["loss"] for model in (plain, fused)]
        assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    for kept, learnt in zip(plain.get_weights(), fused.get_weights(), strict=True):
        assert np.allclose(kept, learnt, rtol=1e-3, atol=1e-5)
    assert np.allclose(plain(batch(9)[0]), fused(batch(9)[0]), atol=1e-4)


def test_what_is_frozen_stays(plain: keras.Model) -> None:
    fused = for_training(plain)
    fused.get_layer("bn0").trainable = False
    fused.compile(keras.optimizers.SGD(0.01), "mse")
    before = fused.get_layer("bn0").get_weights()
    fused.train_on_batch(*batch(0))
    assert all(np.array_equal(a, b) for a, b in zip(before, fused.get_layer("bn0").get_weights(), strict=True))
    assert not np.array_equal(fused.get_layer("bn1").get_weights()[2], plain.get_layer("bn1").get_weights()[2])


def test_another_backend_trains_the_network_itself(plain: keras.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    assert for_training(plain) is plain
