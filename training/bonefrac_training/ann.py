"""`ann`: pixels straight into dense layers, with no idea of what lies beside what.

Rumelhart, Hinton and Williams, *Learning representations by back-propagating errors*, Nature 323 (1986); with batch
normalisation (Ioffe and Szegedy, ICML 2015) and dropout (Srivastava et al., JMLR 15, 2014).
"""

from __future__ import annotations

import keras
from keras import layers

from bonefrac_training.frame import BATCH_NORM_MOMENTUM, classifier, grey_input, scaled


def ann(size: int) -> keras.Model:
    """Flatten size x size x 3 -> 512 -> 256 -> 128 -> `logit` (N,)."""
    grey = grey_input(size)
    x = layers.Flatten(name="flatten")(scaled(grey, "unit"))
    for number, width in enumerate((512, 256, 128), 1):
        x = layers.Dense(width, use_bias=False, name=f"dense{number}")(x)
        x = layers.BatchNormalization(momentum=BATCH_NORM_MOMENTUM, name=f"bn{number}")(x)
        x = layers.ReLU(name=f"relu{number}")(x)
        x = layers.Dropout(0.5, name=f"drop{number}")(x)
    return classifier(grey, x, "ann", drop=0.0)
