"""EfficientNet-Lite0: EfficientNet-B0 without squeeze-and-excitation and with ReLU6, so that int8 costs nothing.

Tan and Le, *EfficientNet*, ICML 2019 (arXiv 1905.11946), table 1; the Lite variant: fixed stem (32) and head (1280).
"""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
from keras import layers

#          kernel, repeats, channels out, expansion, stride of the first
_STAGES = (
    (3, 1, 16, 1, 1),
    (3, 2, 24, 6, 2),
    (5, 2, 40, 6, 2),
    (3, 3, 80, 6, 2),
    (5, 3, 112, 6, 1),
    (5, 4, 192, 6, 2),
    (3, 1, 320, 6, 1),
)


def batch_norm(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """BatchNormalization as the ImageNet weights were trained with."""
    return layers.BatchNormalization(momentum=0.99, epsilon=1e-3, name=name)(x)


def relu6(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    return layers.ReLU(max_value=6.0, name=name)(x)


def efficientnet_lite0(grey: keras.KerasTensor) -> dict[str, keras.KerasTensor]:
    """Grey (N, H, W, 1), range -1..1 -> features by block: `block3b` (stride 8), `block5c` (16), `top` (32).

    The stem takes one channel: for grey repeated to RGB, its kernel is the sum of the RGB kernel over its inputs.
    """
    x = layers.Conv2D(32, 3, 2, "same", use_bias=False, name="stem_conv")(grey)
    x = relu6(batch_norm(x, "stem_bn"), "stem_relu")
    features = {}
    for stage, (kernel, repeats, channels, expansion, stride) in enumerate(_STAGES, 1):
        for repeat in range(repeats):
            name = f"block{stage}{'abcd'[repeat]}"
            x = _block(x, name, kernel, channels, expansion, stride if repeat == 0 else 1)
            features[name] = x
    x = layers.Conv2D(1280, 1, use_bias=False, name="top_conv")(x)
    features["top"] = relu6(batch_norm(x, "top_bn"), "top_relu")
    return features


def _block(
    x: keras.KerasTensor, name: str, kernel: int, channels: int, expansion: int, stride: int
) -> keras.KerasTensor:
    """Inverted residual: expand 1x1, depthwise, project 1x1 without activation (Sandler et al., CVPR 2018)."""
    entry = x
    if expansion > 1:
        x = layers.Conv2D(x.shape[-1] * expansion, 1, use_bias=False, name=f"{name}_expand_conv")(x)
        x = relu6(batch_norm(x, f"{name}_expand_bn"), f"{name}_expand_relu")
    x = layers.DepthwiseConv2D(kernel, stride, "same", use_bias=False, name=f"{name}_dwconv")(x)
    x = relu6(batch_norm(x, f"{name}_bn"), f"{name}_relu")
    x = layers.Conv2D(channels, 1, use_bias=False, name=f"{name}_project_conv")(x)
    x = batch_norm(x, f"{name}_project_bn")
    if stride == 1 and entry.shape[-1] == channels:
        x = layers.Add(name=f"{name}_add")([x, entry])
    return x


def load_imagenet(model: keras.Model, path: Path) -> None:
    """Fill a model's trunk from an `.npz` of `LAYER/VARIABLE` arrays; its stem takes the sum over RGB.

    Raises ValueError where the file and the trunk do not match to the last array.
    """
    with np.load(path) as arrays:
        used = set()
        for layer in model.layers:
            for variable in layer.weights:
                key = f"{layer.name}/{variable.path.rsplit('/', 1)[-1]}"
                if key not in arrays:
                    continue
                value = arrays[key]
                if key == "stem_conv/kernel":
                    value = value.sum(axis=2, keepdims=True)
                variable.assign(value)
                used.add(key)
        left = {name for name in arrays.files if not name.startswith("normalization/")} - used  # ours: see Rescaling
    if left or not used:
        raise ValueError(f"{path}: {len(left)} arrays do not belong to this network, such as {sorted(left)[:3]}")
