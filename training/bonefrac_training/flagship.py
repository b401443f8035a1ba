"""The flagship: an EfficientNet-Lite0 trunk and a heat map trained from boxes; its highest cells speak for the film."""

from __future__ import annotations

import keras
from keras import layers, ops

from bonefrac_training.efficientnet_lite import batch_norm, efficientnet_lite0, relu6

STRIDE = 8  # input pixels a heat-map cell
_LEARN = 8  # highest cells whose mean learns the film's label
_SPEAK = 16  # and whose mean is the film's logit afterwards: on each of folds 0 to 2 better than 8
_WIDTH = 96


def flagship(size: int) -> keras.Model:
    """The network for training, fully convolutional.

    Input `grey` float32 (N, size, size, 1), range 0..255, bone bright. Outputs, all logits: `heatmap` (N, size/8,
    size/8), `local` (N,), the mean of the map's highest cells, and `whole` (N,), from the globally pooled features: it
    only helps the trunk to learn.
    """
    grey = keras.Input((size, size, 1), name="grey")
    features = efficientnet_lite0(layers.Rescaling(1 / 128, -127 / 128, name="scale")(grey))

    x = _lateral(features["top"], "coarse")
    for name, block in (("fine", "block5c"), ("finest", "block3b")):  # Lin et al., CVPR 2017 (arXiv 1612.03144)
        x = layers.UpSampling2D(2, name=f"{name}_up")(x)
        x = relu6(layers.Add(name=f"{name}_add")([_lateral(features[block], name), x]), f"{name}_relu")
    x = layers.SeparableConv2D(_WIDTH, 3, padding="same", use_bias=False, name="heat_conv")(x)
    x = relu6(batch_norm(x, "heat_bn"), "heat_relu")
    rare = keras.initializers.Constant(-4.0)  # a cell is rarely positive: begin there (Lin et al., arXiv 1708.02002)
    x = layers.Conv2D(1, 1, bias_initializer=rare, name="heat_logit")(x)
    heatmap = layers.Reshape((size // STRIDE, size // STRIDE), name="heatmap")(x)
    local = _highest(heatmap, _LEARN)

    x = layers.GlobalAveragePooling2D(keepdims=True, name="pool")(features["top"])
    x = layers.Conv2D(1, 1, name="whole_logit")(layers.Dropout(0.3, name="drop")(x))  # as a convolution, a film's
    whole = layers.Reshape((), name="whole")(x)  # logit does not depend on its batch mates to the last bit
    return keras.Model(grey, {"heatmap": heatmap, "local": local, "whole": whole}, name="flagship")


def _highest(heatmap: keras.KerasTensor, cells: int) -> keras.KerasTensor:
    """The mean of the highest cells of (N, h, w): (N,)."""
    return ops.mean(ops.top_k(ops.reshape(heatmap, (-1, heatmap.shape[1] * heatmap.shape[2])), cells)[0], axis=-1)


def _lateral(features: keras.KerasTensor, name: str) -> keras.KerasTensor:
    return batch_norm(layers.Conv2D(_WIDTH, 1, use_bias=False, name=f"{name}_conv")(features), f"{name}_bn")


def focal_loss(truth: keras.KerasTensor, logits: keras.KerasTensor) -> keras.KerasTensor:
    """Focal loss over cells, summed and divided by the batch's positive cells (arXiv 1708.02002). `truth`: 1, 0, or -1
    for a cell that may say what it likes."""
    truth = ops.cast(truth, logits.dtype)
    cross = ops.maximum(logits, 0.0) - logits * truth + ops.log1p(ops.exp(-ops.abs(logits)))
    miss = ops.sigmoid(ops.where(truth > 0.5, -logits, logits))  # 1 - probability of the right answer
    weight = ops.where(truth > 0.5, 0.75, 0.25) * ops.cast(truth >= 0.0, logits.dtype)
    return ops.sum(weight * miss**2 * cross) / ops.maximum(ops.sum(ops.maximum(truth, 0.0)), 1.0)


def for_export(network: keras.Model) -> keras.Model:
    """What export and validation read: `logit` (N,), from the map's highest cells, and `heatmap` (N, h, w), logits.
    Built of Keras' own layers only, so that no code need be loaded with the file."""
    heatmap = network.output["heatmap"]
    return keras.Model(network.input, {"logit": _highest(heatmap, _SPEAK), "heatmap": heatmap})
