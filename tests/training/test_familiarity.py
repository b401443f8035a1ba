"""Familiarity: what is like the training films is near 0.5 and above, what is unlike them near 0."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("keras", reason='needs the extra: pip install ".[train]"', exc_type=ImportError)

import keras
from keras import layers

from bonefrac_training.familiarity import with_familiarity
from bonefrac_training.films import Inputs
from bonefrac_training.fit import _add_familiarity

AXES = np.random.default_rng(0).normal(size=(3, 12))


def pictures(seed: int, count: int, spread: float = 1.0, off: float = 0.0) -> np.ndarray:
    """Features on three axes of twelve, with a little of everything, as pictures of 1 x 1 px."""
    rng = np.random.default_rng(seed)
    return (rng.normal(0, spread, (count, 3)) @ AXES + rng.normal(off, 0.05, (count, 12))).reshape(-1, 1, 1, 12)


@pytest.fixture(scope="module")
def network() -> keras.Model:
    entry = keras.Input((1, 1, 12))
    features = layers.Activation("linear", name="trunk")(entry)
    model = keras.Model(entry, {"logit": layers.Reshape(())(layers.Conv2D(1, 1)(features))})
    films = pictures(1, 400)
    return with_familiarity(model, "trunk", (films[at : at + 50] for at in range(0, 400, 50)))


def familiarity(network: keras.Model, films: np.ndarray) -> np.ndarray:
    return np.asarray(network(films.astype(np.float32))["familiarity"])


def test_the_mean_distance_of_training_films_is_one(network: keras.Model) -> None:
    seen = familiarity(network, pictures(1, 400))
    assert (1 / seen - 1).mean() == pytest.approx(1.0, rel=1e-3)
    assert (1 / familiarity(network, pictures(2, 400)) - 1).mean() == pytest.approx(1.0, rel=0.1)


def test_what_lies_too_far_out_or_beside_the_axes_is_unlike(network: keras.Model) -> None:
    limit = np.quantile(familiarity(network, pictures(2, 400)), 0.01)
    assert (familiarity(network, pictures(3, 100, spread=8.0)) < limit).mean() > 0.9
    assert (familiarity(network, pictures(3, 100, off=1.0)) < limit).all()


def test_the_distance_is_mahalanobis_with_the_residual(network: keras.Model) -> None:
    """Against the definition: three axes, a quarter of the features."""
    films = pictures(1, 400).reshape(400, 12)
    variance, axes = np.linalg.eigh(np.cov(films.T, bias=True))  # ascending
    asked = pictures(4, 5).reshape(5, 12) - films.mean(axis=0)
    along, beyond = (asked @ axes[:, 9:]) ** 2 / variance[9:], (asked @ axes[:, :9]) ** 2
    distance = (along.mean(axis=1) + beyond.sum(axis=1) / variance[:9].sum()) / 2
    assert familiarity(network, pictures(4, 5)) == pytest.approx(1 / (1 + distance), rel=1e-3)


def test_it_loads_without_our_code_and_does_not_depend_on_batch_mates(network: keras.Model, tmp_path: Path) -> None:
    network.save(tmp_path / "network.keras")
    loaded = keras.saving.load_model(tmp_path / "network.keras", safe_mode=True)
    films = pictures(5, 7)
    together = familiarity(loaded, films)
    assert np.array_equal(together, np.concatenate([familiarity(loaded, films[at : at + 1]) for at in range(7)]))
    assert set(loaded.output) == {"logit", "familiarity"}


@pytest.mark.parametrize("best_is_last", [True, False])
def test_the_best_epoch_gets_it_too_and_once(best_is_last: bool, tmp_path: Path) -> None:
    """A run that goes on writes `network.keras` anew, and may have left `best.keras` as it was."""
    entry = keras.Input((4, 4, 1))
    features = layers.Conv2D(8, 3, name="trunk")(entry)
    outputs = {"logit": layers.Reshape(())(layers.GlobalAveragePooling2D()(layers.Conv2D(1, 1)(features)))}
    plain = keras.Model(entry, outputs)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 4, 4, 1)).astype(np.uint8)
    films = Inputs(pixels, np.zeros(40, bool), ((),) * 40, ("",) * 40)
    plain.save(tmp_path / "best.keras")
    for _ in range(2):
        plain.save(tmp_path / "network.keras")
        _add_familiarity(tmp_path, "trunk", films, best_is_last=best_is_last)
        for name in ("network.keras", "best.keras"):
            found = keras.saving.load_model(tmp_path / name, compile=False, safe_mode=True)
            assert set(found.output) == {"logit", "familiarity"}
        assert {path.name for path in tmp_path.iterdir()} == {"network.keras", "best.keras"}
