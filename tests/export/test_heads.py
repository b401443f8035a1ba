"""What outputs mean: the logit of "fractured" from every head, and a question instead of a guess."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

pytest.importorskip("tensorflow", reason='needs the extra: pip install ".[export,train]"')

import keras
import tensorflow as tf
from keras import layers, ops

from bonefrac.errors import UsageError
from bonefrac_export.heads import Asked, Head, with_scores
from bonefrac_export.loader import Trained, load

SIDE = 16
Array = np.ndarray[Any, Any]


def ending(path: Path, width: int, end: Any = None, *, output: Any = None) -> Trained:
    """A saved and loaded network whose dense layer of `width` is followed by `end`."""
    keras.utils.set_random_seed(width)
    picture = keras.Input((SIDE, SIDE, 1))
    scores = layers.Dense(width, bias_initializer="normal")(layers.Flatten()(picture))
    last = scores if end is None else end(scores)
    keras.Model(picture, last if output is None else output(last)).save(path / "network.keras")
    return load(path / "network.keras")


def pictures() -> Array:
    return np.random.default_rng(0).normal(0, 1, (5, SIDE, SIDE, 1)).astype(np.float32)


def logit_and_output(trained: Trained, asked: Asked) -> tuple[Array, Array]:
    found, head = with_scores(trained, asked)
    assert head is not None
    (scores,), (output,) = found(pictures()).values(), trained(pictures()).values()
    return np.asarray(head.logit(tf.reshape(scores, (-1, head.width)))), np.asarray(output, np.float64)


@pytest.mark.parametrize(("positive", "sign"), [("1", 1), ("0", -1)])
def test_one_sigmoid_of_either_polarity(tmp_path: Path, positive: str, sign: int) -> None:
    logit, output = logit_and_output(ending(tmp_path, 1, layers.Activation("sigmoid")), Asked(positive=positive))
    assert logit == pytest.approx(sign * np.log(output / (1 - output))[:, 0], abs=1e-5)


@pytest.mark.parametrize(("positive", "sign"), [("fractured", -1), ("normal", 1)])
def test_one_logit_and_classes_by_name(tmp_path: Path, positive: str, sign: int) -> None:
    logit, output = logit_and_output(ending(tmp_path, 1), Asked(("fractured", "normal"), positive))
    assert logit == pytest.approx(sign * output[:, 0], abs=1e-5)


@pytest.mark.parametrize("width", [2, 3, 4])
@pytest.mark.parametrize("positive", [0, 1])
def test_softmax_of_classes(tmp_path: Path, width: int, positive: int) -> None:
    logit, output = logit_and_output(ending(tmp_path, width, layers.Softmax()), Asked(positive=str(positive)))
    others = np.delete(output, positive, axis=1).sum(axis=1)
    assert logit == pytest.approx(np.log(output[:, positive] / others), abs=1e-5)


@pytest.mark.parametrize("width", [2, 3, 4])
def test_a_sigmoid_for_each_class(tmp_path: Path, width: int) -> None:
    logit, output = logit_and_output(ending(tmp_path, width, layers.Activation("sigmoid")), Asked(positive="1"))
    assert logit == pytest.approx(np.log(output / (1 - output))[:, 1], abs=1e-5)


def test_logits_of_classes(tmp_path: Path) -> None:
    logit, output = logit_and_output(ending(tmp_path, 3), Asked(positive="2", output="logit"))
    assert logit == pytest.approx(output[:, 2] - np.log(np.exp(output[:, :2]).sum(axis=1)), abs=1e-5)


@pytest.mark.parametrize(("width", "positive"), [(1, "1"), (1, "0"), (2, "0"), (3, "2")])
def test_a_probability_whose_end_is_hidden(tmp_path: Path, width: int, positive: str) -> None:
    hidden = ending(tmp_path, width, lambda scores: 0.9 * layers.Activation("sigmoid")(scores) + 0.05)
    logit, output = logit_and_output(hidden, Asked(positive=positive, output="probability"))
    expected = np.log(output / (1 - output))
    signed = expected[:, int(positive)] if width > 1 else (2 * int(positive) - 1) * expected[:, 0]
    assert logit == pytest.approx(signed, abs=1e-5)


def test_a_hidden_probability_of_0_or_1_has_a_logit() -> None:
    logit = np.asarray(Head(1, 1, "probability").logit(tf.constant([[0.0], [1.0]])))
    assert logit == pytest.approx([-16.1, 16.1], abs=0.2)


@given(arrays(np.float32, (4, 3), elements=st.floats(-200, 200, width=32)), st.integers(0, 2))
def test_the_logit_of_classes_for_any_scores(scores: Array, positive: int) -> None:
    found = np.asarray(Head(3, positive, "softmax").logit(tf.constant(scores)))
    exact = scores.astype(np.float64)
    expected = exact[:, positive] - np.logaddexp.reduce(np.delete(exact, positive, axis=1), axis=1)
    assert np.abs(found - expected).max() <= 1e-5 * max(1.0, np.abs(exact).max())


@given(arrays(np.float32, (4, 2), elements=st.floats(-200, 200, width=32)), st.integers(0, 1))
def test_two_classes_are_one_logit_of_opposite_signs(scores: Array, positive: int) -> None:
    one, other = (np.asarray(Head(2, at, "softmax").logit(tf.constant(scores))) for at in (positive, 1 - positive))
    assert np.array_equal(one, -other)
    assert np.array_equal(one, scores[:, positive] - scores[:, 1 - positive])


def test_box_corners_have_no_head(tmp_path: Path) -> None:
    trained, head = with_scores(ending(tmp_path, 4), Asked(output="box"))
    assert (trained.names, head) == (("box",), None)
    squashed, head = with_scores(ending(tmp_path, 4, layers.Activation("sigmoid")), Asked(output="box"))
    (corners,) = squashed(pictures()).values()
    assert head is None
    assert 0 < np.asarray(corners).min() < np.asarray(corners).max() < 1, "the box lost its sigmoid"


def test_our_own_outputs_are_known(tmp_path: Path) -> None:
    def ours(score: Any) -> dict[str, Any]:
        return {"logit": layers.Reshape(())(score), "heatmap": layers.Reshape((1, 1))(score)}

    trained, head = with_scores(ending(tmp_path, 1, output=ours), Asked())
    assert (set(trained.names), head) == ({"logit", "heatmap"}, Head(1, 1))
    with pytest.raises(UsageError, match="leave --classes, --positive-class and --output out"):
        with_scores(trained, Asked(positive="0"))
    box, head = with_scores(ending(tmp_path, 4, output=lambda corners: {"box": corners}), Asked())
    assert (box.names, head) == (("box",), None)


def test_a_saved_model_s_names_say_nothing(tmp_path: Path) -> None:
    """They are its layers' names: one called `logit` may speak for either class."""
    tf_keras = pytest.importorskip("tf_keras", reason="needs tf-keras")
    shape = (SIDE, SIDE, 1)
    model = tf_keras.Sequential([tf_keras.layers.Flatten(input_shape=shape), tf_keras.layers.Dense(1, name="logit")])
    model.save(tmp_path / "saved", save_format="tf")
    trained = load(tmp_path / "saved")
    assert trained.names == ("logit",)
    with pytest.raises(UsageError, match="--positive-class"):
        with_scores(trained, Asked())


SIGMOID, SOFTMAX = layers.Activation("sigmoid"), layers.Softmax()


@pytest.mark.parametrize(
    ("width", "end", "asked", "words"),
    [
        (1, SIGMOID, Asked(), r"--positive-class which of 0, 1 .* near 1 for the second"),
        (1, SIGMOID, Asked(("a", "b")), r"--positive-class which of a, b"),
        (2, SOFTMAX, Asked(), r"--positive-class which of 0, 1 is the fracture.*sorts folders by name\)"),
        (3, SOFTMAX, Asked(("a", "b"), "a"), "has 3 classes, but --classes names a, b"),
        (2, SOFTMAX, Asked(("a", "a"), "a"), "has 2 classes, but --classes names a, a"),
        (2, SOFTMAX, Asked(positive="fractured"), "fractured is none of 0, 1; see --classes"),
        (
            2,
            None,
            Asked(positive="1"),
            r"--output which of logit \(what enters a softmax\), probability \(0..1\) it is",
        ),
        (4, None, Asked(), r"--output which of .* box \(x0, y0, x1, y1"),
        (4, SIGMOID, Asked(), r"ends in Sigmoid, .* box \(x0, y0, x1, y1"),
        (1, layers.Activation("tanh"), Asked(positive="1"), r"ends in Tanh, .* logit \(any number\), probability"),
        (
            1,
            lambda x: SIGMOID(x) + SIGMOID(-2 * x),
            Asked(positive="1"),
            "ends in AddV2, which may mean several things",
        ),
        (1, SOFTMAX, Asked(positive="1"), "softmax over one class"),
        (1, SIGMOID, Asked(positive="1", output="logit"), "leave --output logit out"),
        (2, SOFTMAX, Asked(positive="1", output="box"), "output of 2 is no box"),
        (9, layers.Reshape((3, 3)), Asked(), "neither a score, nor classes, nor a box"),
    ],
)
def test_what_is_not_known_is_asked_for(tmp_path: Path, width: int, end: Any, asked: Asked, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        with_scores(ending(tmp_path, width, end), asked)


def test_several_outputs_are_refused(tmp_path: Path) -> None:
    trained = ending(tmp_path, 1, output=lambda score: {"one": score, "other": ops.negative(score)})
    with pytest.raises(UsageError, match=r"has 2 outputs \(one, other\)"):
        with_scores(trained, Asked(positive="1"))


def test_four_classes_with_sigmoids_may_be_given_as_probabilities(tmp_path: Path) -> None:
    logit, output = logit_and_output(
        ending(tmp_path, 4, layers.Activation("sigmoid")), Asked(positive="3", output="probability")
    )
    assert logit == pytest.approx(np.log(output / (1 - output))[:, 3], abs=1e-5)
