"""Keras' nearest upsampling as the one operator that ONNX has for it; Keras' own repeat becomes a chain of eight."""

from __future__ import annotations

import keras
import tensorflow as tf


class _NearestUpsampling(keras.layers.Layer):
    """What UpSampling2D(2) computes."""

    def call(self, x: tf.Tensor) -> tf.Tensor:
        size = [2 * int(side or 0) for side in x.shape.as_list()[1:3]]
        return tf.raw_ops.ResizeNearestNeighbor(images=x, size=size)


def with_plain_upsampling(network: keras.Model) -> keras.Model:
    """The same network, its own UpSampling2D layers replaced; what is nested deeper stays as it is."""
    if not any(_is_plain(layer) for layer in network.layers):
        return network

    def replaced(layer: keras.layers.Layer) -> keras.layers.Layer:
        return _NearestUpsampling(name=layer.name) if _is_plain(layer) else type(layer).from_config(layer.get_config())

    clone = keras.models.clone_model(network, clone_function=replaced)
    clone.set_weights(network.get_weights())
    return clone


def _is_plain(layer: keras.layers.Layer) -> bool:
    return (
        isinstance(layer, keras.layers.UpSampling2D)
        and layer.size == (2, 2)
        and layer.interpolation == "nearest"
        and layer.data_format == "channels_last"
    )
