"""The flagship: an EfficientNet-Lite0 trunk, a heat map trained from boxes, and a probability from both."""

from __future__ import annotations

import keras
from keras import layers, ops

from bonefrac_training.efficientnet_lite import batch_norm, efficientnet_lite0, relu6

STRIDE = 16  # input pixels a heat-map cell
_TOP = 4  # cells that speak for the film: a small fracture touches about that many
_WIDTH = 96


def flagship(size: int) -> keras.Model:
    """The network for training, fully convolutional.

    Input `grey` float32 (N, size, size, 1), range 0..255, bone bright. Outputs, all logits: `heatmap` (N, size/16,
    size/16), `local` (N,), the mean of the map's highest cells, and `whole` (N,), from the globally pooled features.
    """
    grey = keras.Input((size, size, 1), name="grey")
    features = efficientnet_lite0(layers.Rescaling(1 / 128, -127 / 128, name="scale")(grey))

    fine = batch_norm(layers.Conv2D(_WIDTH, 1, use_bias=False, name="fine_conv")(features["block5c"]), "fine_bn")
    coarse = batch_norm(layers.Conv2D(_WIDTH, 1, use_bias=False, name="coarse_conv")(features["top"]), "coarse_bn")
    coarse = layers.UpSampling2D(2, name="coarse_up")(coarse)
    x = relu6(layers.Add(name="merge")([fine, coarse]), "merge_relu")
    x = layers.SeparableConv2D(_WIDTH, 3, padding="same", use_bias=False, name="heat_conv")(x)
    x = relu6(batch_norm(x, "heat_bn"), "heat_relu")
    rare = keras.initializers.Constant(-4.0)  # a cell is rarely positive: begin there (Lin et al., arXiv 1708.02002)
    x = layers.Conv2D(1, 1, bias_initializer=rare, name="heat_logit")(x)
    heatmap = layers.Reshape((size // STRIDE, size // STRIDE), name="heatmap")(x)
    local = ops.mean(ops.top_k(layers.Flatten(name="cells")(heatmap), _TOP)[0], axis=-1)

    x = layers.GlobalAveragePooling2D(keepdims=True, name="pool")(features["top"])
    x = layers.Conv2D(1, 1, name="whole_logit")(layers.Dropout(0.3, name="drop")(x))  # as a convolution, a film's
    whole = layers.Reshape((), name="whole")(x)  # logit does not depend on its batch mates to the last bit
    return keras.Model(grey, {"heatmap": heatmap, "local": local, "whole": whole}, name="flagship")


def focal_loss(truth: keras.KerasTensor, logits: keras.KerasTensor) -> keras.KerasTensor:
    """Focal loss over cells, summed and divided by the batch's positive cells (arXiv 1708.02002)."""
    truth = ops.cast(truth, logits.dtype)
    cross = ops.maximum(logits, 0.0) - logits * truth + ops.log1p(ops.exp(-ops.abs(logits)))
    miss = ops.sigmoid(ops.where(truth > 0.5, -logits, logits))  # 1 - probability of the right answer
    weight = ops.where(truth > 0.5, 0.75, 0.25)
    return ops.sum(weight * miss**2 * cross) / ops.maximum(ops.sum(truth), 1.0)


def for_export(network: keras.Model) -> keras.Model:
    """What export and validation read: `logit` (N,), the mean of the local and the whole logit, which err differently,
    and `heatmap` (N, h, w), logits. Built of Keras' own layers only, so that no code need be loaded with the file."""
    outputs = network.output
    return keras.Model(
        network.input, {"logit": (outputs["local"] + outputs["whole"]) / 2, "heatmap": outputs["heatmap"]}
    )
