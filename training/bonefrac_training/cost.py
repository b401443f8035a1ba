"""What a network costs: parameters and multiply-adds, counted in its graph."""

from __future__ import annotations

from math import prod

import keras
from keras import layers


def parameters(model: keras.Model) -> int:
    """Trainable or not, batch statistics included, without the states of random generators."""
    return sum(prod(weight.shape) for weight in model.weights)


def multiply_adds(model: keras.Model) -> int:
    """Of one film, in convolutions (plain, depthwise, separable) and dense layers; the rest is not worth counting."""
    return sum(_of_layer(layer) for layer in model.layers)


def _of_layer(layer: keras.layers.Layer) -> int:
    if isinstance(layer, keras.Model):
        return multiply_adds(layer)
    if isinstance(layer, layers.Dense):
        return prod(layer.kernel.shape) * prod(layer.output.shape[1:-1])
    if isinstance(layer, layers.SeparableConv2D):
        kernels = prod(layer.depthwise_kernel.shape) + prod(layer.pointwise_kernel.shape)
    elif isinstance(layer, (layers.Conv2D, layers.DepthwiseConv2D)):
        kernels = prod(layer.kernel.shape)
    else:
        return 0
    return kernels * prod(layer.output.shape[1:3])
