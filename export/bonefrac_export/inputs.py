"""How a network wants its film: read from `input.json` beside it, found in the network, or asked for; never guessed."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Literal, get_args

from bonefrac.errors import UsageError
from bonefrac.preprocess import SPEC_VERSION, InputSpec
from bonefrac_export.loader import Trained

Resize = Literal["area", "bilinear"]
Fit = Literal["letterbox", "stretch"]
# (scale, offset) from 0..255 for red, green and blue; caffe's and torch's are those of Keras' preprocess_input
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SCALINGS = {
    "0..1": ((1 / 255,) * 3, (0.0,) * 3),
    "-1..1": ((1 / 127.5,) * 3, (-1.0,) * 3),
    "caffe": ((1.0,) * 3, (-123.68, -116.779, -103.939)),
    "torch": (tuple(1 / 255 / d for d in _DEVIATION), tuple(-m / d for m, d in zip(_MEAN, _DEVIATION, strict=True))),
    "none": ((1.0,) * 3, (0.0,) * 3),
}
_ASK = {
    "scaling": "--scaling, what training did to pixels of 0..255 (0..1: divided by 255; -1..1: by 127.5, minus 1; caffe"
    " or torch: ImageNet's means, as Keras' preprocess_input of VGG and ResNet, or of DenseNet; none)",
    "resize": "--resize, how it made films smaller (bilinear: as Keras, tf.image and OpenCV do; area: antialiased)",
    "fit": "--fit, how it made them fit (stretch: to the input's shape; letterbox: aspect ratio kept, black borders)",
}


@dataclass(frozen=True)
class Told:
    """What a person says of the input; None where nothing is said."""

    scaling: Literal["0..1", "-1..1", "caffe", "torch", "none"] | None = None
    color: Literal["gray", "rgb", "bgr"] | None = None
    resize: Resize | None = None
    fit: Fit | None = None


@dataclass(frozen=True)
class Arithmetic:
    """What happens to grey 0..255 before the network: channel c is grey * scale[c] + offset[c]."""

    scale: tuple[float, ...]
    offset: tuple[float, ...]


def read_input(trained: Trained, told: Told) -> tuple[InputSpec, Arithmetic]:
    """Raises UsageError for what is not known, with the choices; for what contradicts the network or its file; and for
    pixels that would be scaled twice."""
    told = _with_file(trained, told)
    if told.color is not None and (told.color == "gray") != (trained.channels == 1):
        raise UsageError(f"{trained.path}: takes {trained.channels} channels, which --color {told.color} does not fit")
    if trained.scales and told.scaling not in (None, "none"):
        raise UsageError(
            f"{trained.path}: scales the pixels itself (Rescaling, Normalization or arithmetic at its head); with"
            f" --scaling {told.scaling} they would be scaled twice: leave it out"
        )
    told = replace(told, scaling="none") if trained.scales else told
    if told.scaling is None or told.resize is None or told.fit is None:
        asked = "; and ".join(words for name, words in _ASK.items() if getattr(told, name) is None)
        raise UsageError(f"{trained.path}: does not say how films came to it; give {asked}")
    return InputSpec(trained.width, trained.height, told.resize, told.fit), _arithmetic(trained, told)


def _with_file(trained: Trained, told: Told) -> Told:
    """What is told, and what the `input.json` says that bonefrac-train writes beside a network."""
    path = trained.path.parent / "input.json"
    if not (trained.path.is_file() and path.exists()):
        return told
    try:
        spec = InputSpec(**json.loads(path.read_text(encoding="utf-8")))
        if spec.resize not in get_args(Resize) or spec.fit not in get_args(Fit):
            raise ValueError(f"{spec.resize}, {spec.fit}")
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(f"{path}: is damaged; take it away, and say how films are scaled and resized") from error
    if (spec.height, spec.width, spec.version) != (trained.height, trained.width, SPEC_VERSION):
        raise UsageError(f"{path}: is not of this network: {trained.path.name} takes other pictures; take it away")
    said = replace(told, resize=told.resize or spec.resize, fit=told.fit or spec.fit)
    if (said.resize, said.fit) != (spec.resize, spec.fit):
        raise UsageError(f"{path}: says {spec.resize} and {spec.fit}: leave --resize and --fit out")
    return said


def _arithmetic(trained: Trained, told: Told) -> Arithmetic:
    """caffe is blue first and the others red first unless told otherwise; of a grey film only their means differ."""
    scale, offset = SCALINGS[told.scaling or "none"]
    if trained.channels == 1:
        if len(set(scale)) > 1 or len(set(offset)) > 1:
            raise UsageError(
                f"{trained.path}: takes 1 channel, but --scaling {told.scaling} has a mean for each of three"
            )
        return Arithmetic(scale[:1], offset[:1])
    step = -1 if (told.color or ("bgr" if told.scaling == "caffe" else "rgb")) == "bgr" else 1
    return Arithmetic(scale[::step], offset[::step])
