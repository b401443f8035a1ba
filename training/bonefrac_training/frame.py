"""The frame round every network: a grey input, the scaling that its ImageNet weights want, a head with one logit."""

from __future__ import annotations

import keras
from keras import layers

# (scale, offset) from 0..255, one for each channel where they differ
_UNIT = (1 / 255, 0.0)
_SIGNED = (1 / 127.5, -1.0)
_CAFFE = (1.0, (-103.939, -116.779, -123.68))  # channels in the order BGR, as VGG and ResNet v1 were trained
_TORCH = (
    (1 / 255 / 0.229, 1 / 255 / 0.224, 1 / 255 / 0.225),
    (-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225),
)
SCALINGS = {"unit": _UNIT, "signed": _SIGNED, "caffe": _CAFFE, "torch": _TORCH}
BATCH_NORM_MOMENTUM = 0.97  # a run here has hundreds of steps, not the hundred thousands that 0.999 was made for


def grey_input(size: int) -> keras.KerasTensor:
    """Float32 (N, size, size, 1), range 0..255, bone bright: what every network takes."""
    return keras.Input((size, size, 1), name="grey")


def scaled(grey: keras.KerasTensor, scaling: str, *, channels: int = 3) -> keras.KerasTensor:
    """Grey repeated to `channels` and scaled: `unit` 0..1, `signed` -1..1, `caffe` and `torch` by ImageNet's means."""
    scale, offset = SCALINGS[scaling]
    if channels > 1:
        grey = layers.Concatenate(name="channels")([grey] * channels)
    return layers.Rescaling(scale, offset, name="scale")(grey)


def classifier(grey: keras.KerasTensor, features: keras.KerasTensor, name: str, *, drop: float = 0.3) -> keras.Model:
    """Features (N, h, w, c) or (N, c) -> dropout -> `logit` (N,) of a fracture."""
    if len(features.shape) == 4:
        features = layers.GlobalAveragePooling2D(name="head_pool")(features)
    x = layers.Dropout(drop, name="head_drop")(features)
    x = layers.Dense(1, dtype="float32", name="head_dense")(x)  # float32 in mixed precision too
    return keras.Model(grey, {"logit": layers.Reshape((), name="logit", dtype="float32")(x)}, name=name)
