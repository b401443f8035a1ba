"""Networks of keras.applications with one logit: their trunks, layer names and scalings, so that their weights fit.

VGG16: Simonyan and Zisserman, ICLR 2015 (arXiv 1409.1556). ResNet50: He et al., CVPR 2016 (1512.03385); version 2: He
et al., ECCV 2016 (1603.05027). DenseNet121: Huang et al., CVPR 2017 (1608.06993). MobileNetV2: Sandler et al., CVPR
2018 (1801.04381).
"""

from __future__ import annotations

from collections.abc import Callable

import keras
from keras import layers

from bonefrac_training.frame import BATCH_NORM_MOMENTUM, classifier, grey_input, scaled


def vgg16(size: int) -> keras.Model:
    """13 convolutions, no batch normalisation. Output `logit` (N,)."""
    model = _classifier(keras.applications.VGG16, "caffe", "vgg16", size)
    for layer in model.layers:  # Keras draws Glorot's weights, with which 13 layers of ReLU do not train from scratch
        if isinstance(layer, layers.Conv2D):
            layer.kernel.assign(keras.initializers.HeNormal()(layer.kernel.shape))
    first = model.get_layer("block1_conv1").kernel
    first.assign(first / 64)  # caffe's inputs reach +-128, and nothing normalises them further on
    return model


def resnet50(size: int) -> keras.Model:
    """Output `logit` (N,)."""
    return _classifier(keras.applications.ResNet50, "caffe", "resnet50", size)


def densenet121(size: int) -> keras.Model:
    """Output `logit` (N,)."""
    return _classifier(keras.applications.DenseNet121, "torch", "densenet121", size)


def mobilenetv2(size: int) -> keras.Model:
    """Output `logit` (N,)."""
    return _classifier(keras.applications.MobileNetV2, "signed", "mobilenetv2", size)


def resnet50v2(size: int) -> keras.Model:
    """Stages conv1 to conv4, up to `conv5_block1_preact_relu`. Output `logit` (N,)."""
    return _classifier(keras.applications.ResNet50V2, "signed", "resnet50v2", size, until="conv5_block1_preact_relu")


def _classifier(
    application: Callable[..., keras.Model], scaling: str, name: str, size: int, *, until: str | None = None
) -> keras.Model:
    grey = grey_input(size)
    trunk = application(include_top=False, weights=None, input_tensor=scaled(grey, scaling))
    for layer in trunk.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = BATCH_NORM_MOMENTUM
    return classifier(grey, trunk.get_layer(until).output if until else trunk.output, name)
