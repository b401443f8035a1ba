"""Every network by its name: what it is, where it comes from, and what training needs to know of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras

from bonefrac.errors import UsageError
from bonefrac_training.ann import ann
from bonefrac_training.applications import densenet121, mobilenetv2, resnet50, resnet50v2, vgg16
from bonefrac_training.box import box
from bonefrac_training.cnn import cnn
from bonefrac_training.efficientnet_lite import load_imagenet
from bonefrac_training.flagship import flagship
from bonefrac_training.kinds import KINDS, Kind
from bonefrac_training.resnet18 import load_torchvision, resnet18
from bonefrac_training.weights import load_npz


@dataclass(frozen=True)
class Network:
    """A network that `fit` can train.

    build: size in px -> model; `grey` float32 (N, size, size, 1), 0..255, bone bright, in; its kind's outputs out.
    trunk: layers whose names begin so are frozen in the first phase. imagenet: fills the trunk from an `.npz`.
    application: keras.applications' name, where `--weights imagenet` can be downloaded. frozen_epochs: length of the
    first phase when the trunk has ImageNet weights. fixed: layers that never learn in a run. features: the layer whose
    output, pooled, tells how like the training films a film is; "" where that is not asked.
    """

    build: Callable[[int], keras.Model]
    kind: str
    summary: str
    image_size: int = 224
    learning_rate: float = 1e-3
    trunk: tuple[str, ...] = ()
    imagenet: Callable[[keras.Model, Path], None] | None = None
    application: str | None = None
    frozen_epochs: int = 1
    fixed: frozenset[str] = frozenset()
    features: str = ""

    @property
    def of_kind(self) -> Kind:
        return KINDS[self.kind]

    def freeze(self, model: keras.Model, *, frozen: bool) -> None:
        """Hold the trunk's weights and batch statistics still, or let them learn."""
        for layer in model.layers:
            if layer.name in self.fixed:
                layer.trainable = False
            elif layer.name.startswith(self.trunk):
                layer.trainable = not frozen


# in the order of the table of results
NETWORKS = {
    "box": Network(box, "box", "convolutions and max pooling, one box for a film"),
    "ann": Network(ann, "classifier", "dense layers 512, 256, 128 on the pixels", learning_rate=3e-4),
    "cnn": Network(cnn, "classifier", "four convolution blocks, dense head"),
    "vgg16": Network(
        vgg16, "classifier", "VGG16, Simonyan and Zisserman 2015",
        learning_rate=1e-4, trunk=("block",), imagenet=load_npz, application="VGG16",
    ),
    "resnet50": Network(
        resnet50, "classifier", "ResNet50, He et al. 2016",
        learning_rate=5e-4, trunk=("conv",), imagenet=load_npz, application="ResNet50",
    ),
    "densenet121": Network(
        densenet121, "classifier", "DenseNet121, Huang et al. 2017",
        trunk=("conv", "pool", "bn"), imagenet=load_npz, application="DenseNet121",
    ),
    "mobilenetv2": Network(
        mobilenetv2, "classifier", "MobileNetV2, Sandler et al. 2018",
        trunk=("Conv", "bn_", "expanded", "block"), imagenet=load_npz, application="MobileNetV2",
    ),
    "resnet18": Network(
        resnet18, "classifier", "ResNet18 in torchvision's layout, He et al. 2016",
        trunk=("conv1", "bn1", "layer"), imagenet=load_torchvision,
    ),
    "resnet50v2": Network(
        resnet50v2, "classifier", "ResNet50V2 up to its fourth stage, He et al. 2016",
        trunk=("conv",), imagenet=load_npz, application="ResNet50V2",
    ),
    "flagship": Network(
        flagship, "heatmap", "EfficientNet-Lite0 with a heat map trained from boxes",
        image_size=448, trunk=("stem", "block", "top"), imagenet=load_imagenet, frozen_epochs=0,
        features="top_relu",
    ),
}  # fmt: skip


def find(name: str) -> Network:
    """The network of that name. Raises UsageError, which names them all."""
    if name not in NETWORKS:
        raise UsageError(f"there is no network {name!r}; known: {', '.join(NETWORKS)}")
    return NETWORKS[name]
