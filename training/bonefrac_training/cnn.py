"""`cnn`: four convolution blocks and a dense head, the first thing everybody tries.

LeCun et al., *Gradient-based learning applied to document recognition*, Proc. IEEE 86 (1998), with ReLU, batch
normalisation and dropout.
"""

from __future__ import annotations

import keras
from keras import layers

from bonefrac_training.frame import BATCH_NORM_MOMENTUM, classifier, grey_input, scaled


def cnn(size: int) -> keras.Model:
    """Four times convolution and max pooling (32, 64, 128, 256), pooling, dense 128 -> `logit` (N,)."""
    grey = grey_input(size)
    x = scaled(grey, "unit", channels=1)
    for number, width in enumerate((32, 64, 128, 256), 1):
        x = layers.Conv2D(width, 3, padding="same", use_bias=False, name=f"block{number}_conv")(x)
        x = layers.BatchNormalization(momentum=BATCH_NORM_MOMENTUM, name=f"block{number}_bn")(x)
        x = layers.ReLU(name=f"block{number}_relu")(x)
        x = layers.MaxPooling2D(2, name=f"block{number}_pool")(x)
        x = layers.Dropout(0.1, name=f"block{number}_drop")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dense(128, activation="relu", name="dense")(x)
    return classifier(grey, x, "cnn", drop=0.5)
