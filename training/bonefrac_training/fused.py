"""The network that trains: the same layers and weights, with batch statistics from TensorFlow's fused kernel.

Keras 3 computes BatchNormalization from a dozen elementwise operations, on a CPU half the time of a training step.
Files hold the plain network: no code of ours is needed to load one.
"""

from __future__ import annotations

from typing import Any

import keras


class FusedBatchNormalization(keras.layers.BatchNormalization):
    """Keras' own layer, its training step as one kernel (Ioffe and Szegedy, arXiv 1502.03167). TensorFlow only."""

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        if not (training and self.trainable and self.scale and self.center and self.compute_dtype == "float32"):
            return super().call(inputs, training=training, mask=mask)
        if len(inputs.shape) != 4 or self.axis not in (-1, 3):
            return super().call(inputs, training=training, mask=mask)
        import tensorflow as tf

        y, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            inputs, self.gamma, self.beta, epsilon=self.epsilon, is_training=True
        )
        count = tf.cast(tf.size(inputs) // tf.shape(inputs)[-1], tf.float32)
        variance *= (count - 1) / count  # the kernel's is unbiased, Keras' is not
        for moving, now in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + now * (1 - self.momentum))
        return y


def for_training(model: keras.Model) -> keras.Model:
    """A twin of `model` with the same weights that trains faster; the model itself where there is none."""
    if keras.config.backend() != "tensorflow":
        return model
    twin = keras.models.clone_model(model, clone_function=_fused)
    twin.set_weights(model.get_weights())
    return twin


def _fused(layer: keras.layers.Layer) -> keras.layers.Layer:
    kind = FusedBatchNormalization if type(layer) is keras.layers.BatchNormalization else type(layer)
    return kind.from_config(layer.get_config())
