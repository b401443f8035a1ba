"""A trained network as export goes on with it: a grey film in, the logit of "fractured" and what else it says out."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from bonefrac.errors import UsageError
from bonefrac.preprocess import InputSpec
from bonefrac_export.boxes import box_heat
from bonefrac_export.heads import Asked, Head, with_scores
from bonefrac_export.inputs import Arithmetic, Told, read_input
from bonefrac_export.loader import Trained, load

_BATCH = 16


@dataclass(frozen=True)
class Reading:
    """What a person says of a network's file, where the file does not."""

    asked: Asked = field(default_factory=Asked)
    told: Told = field(default_factory=Told)
    size: int | None = None


@dataclass(frozen=True)
class Eye:
    """A loaded network and how its film is made."""

    trained: Trained
    spec: InputSpec
    arithmetic: Arithmetic

    def __call__(self, grey: tf.Tensor) -> dict[str, tf.Tensor]:
        """float32 (N, height, width, 1), 0..255 -> the network's outputs by name."""
        scale, offset = (np.array(values, np.float32) for values in (self.arithmetic.scale, self.arithmetic.offset))
        if (scale != 1).any() or len(scale) > 1:
            grey = grey * scale
        return self.trained(grey + offset if offset.any() else grey)


@dataclass(frozen=True)
class Network:
    """`history`: the `training.json` beside it, empty where there is none. `box`: gives the place, where the network
    that decides does not."""

    eye: Eye
    head: Head
    history: dict[str, Any]
    box: Eye | None = None

    @property
    def spec(self) -> InputSpec:
        return self.eye.spec

    @property
    def has_heatmap(self) -> bool:
        """Was it trained to give a heat map?"""
        return "heatmap" in self.eye.trained.names

    def outputs(self, grey: tf.Tensor) -> dict[str, tf.Tensor]:
        """float32 (N, height, width, 1), 0..255 -> `scores` (N, n), their `logit` (N,) and, where there are, `heatmap`
        (N, h, w) and `familiarity` (N,), both 0..1."""
        said = {name: tf.cast(value, tf.float32) for name, value in self.eye(grey).items()}
        scores = tf.reshape(said["logit" if "logit" in said else "scores"], (-1, self.head.width))
        found = {"scores": scores, "logit": self.head.logit(scores)}
        if self.box is not None:
            found["heatmap"] = box_heat(self.box(grey)["box"], self.spec)
        elif self.has_heatmap:
            found["heatmap"] = tf.sigmoid(said["heatmap"])
        if "familiarity" in said:
            found["familiarity"] = said["familiarity"]
        return found

    def predict(self, pixels: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """`outputs` for uint8 (n, height, width, 1), as TensorFlow computes them."""
        parts = [self.outputs(tf.cast(pixels[at : at + _BATCH], tf.float32)) for at in range(0, len(pixels), _BATCH)]
        return {name: np.concatenate([part[name].numpy() for part in parts]) for name in parts[0]}


def open_network(path: Path, reading: Reading | None = None, classifier: Path | None = None) -> Network:
    """Load a network; one that gives a box needs a `classifier`, another network's file, that decides if it is shown.

    Raises UsageError for a file that cannot be exported, or about which too little is known.
    """
    reading = reading or Reading()
    if classifier is not None:
        return _with_box(path, reading, classifier)
    trained, head = with_scores(load(path, reading.size), reading.asked)
    if head is None:
        raise UsageError(
            f"{path}: a box alone says nothing about whether there is a fracture: name with --classifier a network that"
            " decides when it is shown"
        )
    return Network(Eye(trained, *read_input(trained, reading.told)), head, _history(path))


def _with_box(path: Path, reading: Reading, classifier: Path) -> Network:
    """What is said of outputs is said of the classifier; of pixels, of that one which does not scale them itself."""
    boxes, _ = with_scores(load(path, reading.size), Asked(output="box"))
    asked = replace(reading.asked, output=None) if reading.asked.output == "box" else reading.asked
    decides, head = with_scores(load(classifier, reading.size), asked)
    if head is None:
        raise UsageError(f"{classifier}: gives a box, and does not decide whether there is a fracture")
    unscaled = replace(reading.told, scaling=None, color=None)
    box = Eye(boxes, *read_input(boxes, unscaled if boxes.scales and not decides.scales else reading.told))
    eye = Eye(decides, *read_input(decides, unscaled if decides.scales and not boxes.scales else reading.told))
    if eye.spec != box.spec:
        raise UsageError(f"{classifier}: sees {eye.spec}, and {path.name} {box.spec}; both must see the same picture")
    return Network(eye, head, _history(classifier), box)


def _history(path: Path) -> dict[str, Any]:
    beside = path.parent / "training.json"
    if not (path.is_file() and beside.exists()):
        return {}
    try:
        history: dict[str, Any] = json.loads(beside.read_text(encoding="utf-8"))
        return {**history, "fold": int(history["fold"])}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UsageError(f"{beside}: is damaged: it does not say which fold the network never saw") from error
