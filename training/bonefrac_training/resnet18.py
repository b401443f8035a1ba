"""`resnet18` as torchvision lays it out, layer for layer, so that its weights can be carried over.

He et al., *Deep residual learning for image recognition*, CVPR 2016 (arXiv 1512.03385), table 1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

from bonefrac.errors import UsageError
from bonefrac_training.frame import classifier, grey_input, scaled

_VARIABLES = {"bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}


def resnet18(size: int) -> keras.Model:
    """Layers are called as torchvision's, with `_` for the dot: `layer2_0_downsample_0`. Output `logit` (N,)."""
    grey = grey_input(size)
    x = _conv(scaled(grey, "torch"), 64, 7, 2, "conv1")
    x = layers.ReLU(name="relu")(_batch_norm(x, "bn1"))
    x = layers.ZeroPadding2D(1, name="maxpool_pad")(x)  # after a ReLU, zeros are what torch's -inf is
    x = layers.MaxPooling2D(3, 2, name="maxpool")(x)
    for stage, width in enumerate((64, 128, 256, 512), 1):
        for block in range(2):
            x = _basic_block(x, width, 2 if stage > 1 and block == 0 else 1, f"layer{stage}_{block}")
    return classifier(grey, x, "resnet18")


def _basic_block(entry: keras.KerasTensor, width: int, stride: int, name: str) -> keras.KerasTensor:
    x = _batch_norm(_conv(entry, width, 3, stride, f"{name}_conv1"), f"{name}_bn1")
    x = layers.ReLU(name=f"{name}_relu1")(x)
    x = _batch_norm(_conv(x, width, 3, 1, f"{name}_conv2"), f"{name}_bn2")
    if stride > 1:
        entry = _batch_norm(_conv(entry, width, 1, stride, f"{name}_downsample_0"), f"{name}_downsample_1")
    return layers.ReLU(name=f"{name}_relu2")(layers.Add(name=f"{name}_add")([x, entry]))


def _conv(x: keras.KerasTensor, width: int, kernel: int, stride: int, name: str) -> keras.KerasTensor:
    """Torch pads both sides alike; Keras' "same" would pad a strided convolution on the far side only."""
    if kernel > 1:
        x = layers.ZeroPadding2D(kernel // 2, name=f"{name}_pad")(x)
    return layers.Conv2D(width, kernel, stride, use_bias=False, kernel_initializer="he_normal", name=name)(x)


def _batch_norm(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=name)(x)  # torch's momentum 0.1 the other way


def from_torchvision(state: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
    """torchvision's state dict -> arrays by `LAYER/VARIABLE`: `layer1.0.conv1.weight` (out, in, h, w) becomes
    `layer1_0_conv1/kernel` (h, w, in, out). The 1000-class head and the batch counters are left out."""
    arrays = {}
    for key, value in state.items():
        layer, _, kind = key.rpartition(".")
        if layer == "fc" or kind == "num_batches_tracked":
            continue
        if re.search(r"(conv\d|downsample\.0)$", layer):
            arrays[f"{layer.replace('.', '_')}/kernel"] = np.transpose(value, (2, 3, 1, 0))
        else:
            arrays[f"{layer.replace('.', '_')}/{_VARIABLES.get(kind, 'gamma')}"] = np.asarray(value)
    return arrays


def load_torchvision(model: keras.Model, path: Path) -> None:
    """Fill the trunk from an `.npz` of the state dict, which a machine with torch makes by
    `numpy.savez(path, **{name: value.numpy() for name, value in torchvision_model.state_dict().items()})`.

    Raises UsageError where file and trunk do not match to the last array.
    """
    from bonefrac_training.weights import fill

    with np.load(path) as file:
        state = {name: file[name] for name in file.files}
    if "conv1.weight" not in state:
        raise UsageError(f"{path}: is no state dict of torchvision's resnet18: it has no array conv1.weight")
    fill(model, from_torchvision(state), path)
