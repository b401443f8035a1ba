"""What a network's outputs mean: every head becomes the logit of "fractured".

With the scores z that enter the last sigmoid or softmax: one score s gives s or, where near 1 means "normal", -s; of
classes it is the log odds, z[fractured] - log(sum of exp(z) over the others).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import tensorflow as tf

from bonefrac.errors import UsageError
from bonefrac_export.loader import Trained

Output = Literal["logit", "probability", "box"]
OURS = ({"logit"}, {"logit", "heatmap"}, {"logit", "heatmap", "familiarity"}, {"box"})  # outputs of bonefrac-train
CLIP = 1e-7  # of a probability whose logit must be taken from itself: Keras' own epsilon
_PASSES = ("Cast", "Identity", "Reshape", "Squeeze")
_SQUASHED: dict[str, Literal["sigmoid", "softmax"]] = {"Sigmoid": "sigmoid", "Softmax": "softmax"}
_LAYERS, _BIASES = ("MatMul", "Conv2D"), ("AddV2", "BiasAdd")


@dataclass(frozen=True)
class Head:
    """`scores` (N, width) -> logit (N,). `positive` is the fractured class; of one score 1 where high means fractured,
    0 where low does. `ending`: what the network made of the scores; a `probability` is one itself."""

    width: int
    positive: int
    ending: Literal["sigmoid", "softmax", "probability"] = "sigmoid"

    def logit(self, scores: tf.Tensor) -> tf.Tensor:
        """float32 (N, width) -> (N,). A probability is clipped to CLIP..1-CLIP before its logit is taken."""
        if self.ending == "probability":
            scores = tf.clip_by_value(scores, CLIP, 1 - CLIP)
            scores = tf.math.log(scores) - tf.math.log(1 - scores)
        if self.width == 1:
            scores = tf.reshape(scores, (-1,))
            return scores if self.positive else -scores
        if self.ending != "softmax":  # of a class by itself: the others say nothing more
            return scores[:, self.positive]
        if self.width == 2:
            return scores[:, self.positive] - scores[:, 1 - self.positive]
        others = tf.concat([scores[:, : self.positive], scores[:, self.positive + 1 :]], axis=1)
        most = tf.reduce_max(others, axis=1, keepdims=True)  # so that no exponential overflows
        return scores[:, self.positive] - most[:, 0] - tf.math.log(tf.reduce_sum(tf.exp(others - most), axis=1))


@dataclass(frozen=True)
class Asked:
    """What a person says of the outputs: `classes` in the order of training, the `positive` one by name or number, and
    what a single `output` is where its end does not show it."""

    classes: tuple[str, ...] = ()
    positive: str = ""
    output: Output | None = None


def with_scores(trained: Trained, asked: Asked) -> tuple[Trained, Head | None]:
    """The network with its output called `scores`, and what they mean; a network of bonefrac-train with its own names;
    a box without a head.

    Raises UsageError where that cannot be known, with what to say, and where what is said contradicts it.
    """
    if trained.path.is_file() and set(trained.names) in OURS:
        return trained, _of_ours(trained, asked)
    if len(trained.names) != 1:
        names = ", ".join(name or "one without a name" for name in trained.names)
        raise UsageError(
            f"{trained.path}: has {len(trained.names)} outputs ({names}); a fracture's score must be alone"
        )
    shape = trained.graph.outputs[0].shape
    if shape.rank not in (1, 2) or None in shape[1:]:
        raise UsageError(f"{trained.path}: its output {tuple(shape)} is neither a score, nor classes, nor a box")
    width = 1 if shape.rank == 1 else int(shape[1])
    if asked.output == "box":
        if width != 4:
            raise UsageError(f"{trained.path}: its output of {width} is no box (x0, y0, x1, y1)")
        return replace(trained, names=("box",)), None
    last = _last(trained.graph.outputs[0])
    ending = _ending(trained.path, last, width, asked)
    graph = trained.graph
    if last.op.type in _SQUASHED:
        graph = graph.prune(graph.inputs, [last.op.inputs[0]])
    return replace(trained, graph=graph, names=("scores",)), Head(width, _positive(trained.path, width, asked), ending)


def _of_ours(trained: Trained, asked: Asked) -> Head | None:
    own: Output = "box" if "box" in trained.names else "logit"
    if asked not in (Asked(), Asked(output=own)):
        raise UsageError(
            f"{trained.path}: says itself what it gives ({', '.join(trained.names)}; a high logit is a fracture): leave"
            " --classes, --positive-class and --output out"
        )
    return None if own == "box" else Head(1, 1)


def _ending(path: Path, last: Any, width: int, asked: Asked) -> Literal["sigmoid", "softmax", "probability"]:
    """What makes, or in training made, a probability of the scores; `last`: what the network computes last."""
    end = _SQUASHED.get(last.op.type)
    if end == "softmax" and width == 1:
        raise UsageError(f"{path}: ends in a softmax over one class, which is always 1: it was trained to say nothing")
    if end and asked.output == "logit":
        raise UsageError(f"{path}: ends in a {end}, so it gives probabilities: leave --output logit out")
    if end and (end == "softmax" or width != 4 or asked != Asked()):  # four sigmoids alone may be a box
        return end
    if asked.output == "probability":
        return "probability"
    if asked.output == "logit" or (width == 1 and _is_dense(last)):
        return "sigmoid" if width == 1 else "softmax"
    choices = ["logit (any number)" if width == 1 else "logit (what enters a softmax)", "probability (0..1)"]
    choices += ["box (x0, y0, x1, y1 in parts of the side)"] if width == 4 else []
    raise UsageError(
        f"{path}: its output of {width} ends in {last.op.type}, which may mean several things: say with --output which"
        f" of {', '.join(choices)} it is"
    )


def _last(value: Any) -> Any:
    """What the network computes last, before it is only renamed, reshaped or cast."""
    while value.op.type in _PASSES:
        value = value.op.inputs[0]
    return value


def _is_dense(last: Any) -> bool:
    """Is it a dense layer's or a convolution's output, with a bias or without?"""
    if last.op.type in _BIASES and _last(last.op.inputs[1]).op.type == "Const":
        last = _last(last.op.inputs[0])
    return last.op.type in _LAYERS


def _positive(path: Path, width: int, asked: Asked) -> int:
    choices = max(2, width)
    classes = asked.classes or tuple(str(index) for index in range(choices))
    if len(set(classes)) != choices or len(classes) != choices:
        raise UsageError(f"{path}: has {choices} classes, but --classes names {', '.join(classes)}")
    if not asked.positive:
        raise UsageError(
            f"{path}: say with --positive-class which of {', '.join(classes)} is the fracture, counted from 0 in the"
            " order of training, or by its name among --classes FIRST,SECOND (Keras sorts folders by name"
            + ("; a single score is near 1 for the second)" if width == 1 else ")")
        )
    if asked.positive not in classes and asked.positive in map(str, range(choices)):
        return int(asked.positive)
    if asked.positive not in classes:
        raise UsageError(f"{path}: --positive-class {asked.positive} is none of {', '.join(classes)}; see --classes")
    return classes.index(asked.positive)
