"""How like the films it was trained with a film is: an output of its own, computed inside the network.

The distance of a film's pooled features from those of the training films: Mahalanobis' along their main axes (Lee et
al., NeurIPS 2018, arXiv 1807.03888), the squared residual beyond them (Wang et al., CVPR 2022, arXiv 2203.10807).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import keras
import numpy as np
from keras import layers, ops
from numpy.typing import NDArray

from bonefrac_training.trainer import save_network

_AXES = 64


def with_familiarity(network: keras.Model, layer: str, films: Iterable[NDArray[np.float32]]) -> keras.Model:
    """The network with one more output, `familiarity` (N,), in 0..1: 0.5 for a film as far off as the training films
    are in the mean, towards 0 for what is unlike them.

    `layer` gives the features (N, h, w, c) that are pooled; `films` are batches (n, size, size, 1), range 0..255.
    Built of Keras' own layers only, all of them convolutions: a film's value does not depend on its batch mates.
    """
    pooled = layers.GlobalAveragePooling2D(keepdims=True, name="familiar_pool")(network.get_layer(layer).output)
    features = _features(keras.Model(network.input, pooled), films)
    centre, axes, within, beyond = _fit(features)

    x = layers.BatchNormalization(center=False, scale=False, epsilon=0.0, name="familiar_centre")(pooled)
    along = layers.Conv2D(axes.shape[1], 1, use_bias=False, name="familiar_axes")(x)
    near = layers.Conv2D(1, 1, use_bias=False, name="familiar_within")(ops.square(along))
    far = layers.Conv2D(1, 1, use_bias=False, name="familiar_beyond")(ops.square(x))
    distance = layers.Reshape((), name="familiar_distance")(layers.Add(name="familiar_sum")([near, far]))
    model = keras.Model(network.input, {**network.output, "familiarity": 1 / (1 + distance)})
    for name, values in (
        ("familiar_centre", [centre, np.ones_like(centre)]),
        ("familiar_axes", [axes[None, None]]),
        ("familiar_within", [within[None, None, :, None]]),
        ("familiar_beyond", [beyond[None, None, :, None]]),
    ):
        model.get_layer(name).set_weights([value.astype(np.float32) for value in values])
    return model


def _features(network: keras.Model, films: Iterable[NDArray[np.float32]]) -> NDArray[np.float64]:
    parts = [np.asarray(network.predict_on_batch(batch)) for batch in films]
    return np.concatenate([part.reshape(len(part), -1) for part in parts]).astype(np.float64)


def _fit(features: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """centre (c,), axes (c, k), and the weights of the squares along the axes (k,) and in all (c,): their sum is half
    Mahalanobis' distance along the axes and half the residual, each in parts of its mean over `features` (n, c)."""
    centre = features.mean(axis=0)
    _, lengths, directions = np.linalg.svd(features - centre, full_matrices=False)
    variance = lengths**2 / len(features)
    axes = min(_AXES, *(side // 4 for side in features.shape))
    residual = variance[axes:].sum()
    within = 0.5 / (axes * variance[:axes]) - 0.5 / residual
    return centre, directions[:axes].T, within, np.full(len(centre), 0.5 / residual)


def add_familiarity(path: Path, layer: str, films: NDArray[np.uint8]) -> None:
    """Give the network in a `.keras` file the output `familiarity`, fitted to its training films (n, size, size, 1)."""
    network = keras.saving.load_model(path, compile=False, safe_mode=True)
    batches = (films[at : at + 16].astype(np.float32) for at in range(0, len(films), 16))
    save_network(with_familiarity(network, layer, batches), path)
