"""What an augmentation is worth is told of runs that differ in nothing else, film by film."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("keras", reason='needs the extra: pip install ".[train]"', exc_type=ImportError)

import keras
from sklearn.metrics import roc_auc_score

from bonefrac.errors import UsageError
from bonefrac_training.ablation import AblationSettings, ablation, ablation_table
from bonefrac_training.cli import main
from bonefrac_training.films import load_inputs
from bonefrac_training.fit import FitSettings, fit
from bonefrac_training.split import read_split


@pytest.fixture(scope="module")
def runs(collection: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """One with all augmentations, named last, one without flips, and one of another seed."""
    folder = tmp_path_factory.mktemp("ablation")
    whole = FitSettings(collection, folder / "whole", model="cnn", image_size=64, epochs=1, batch_size=8)
    fit(replace(whole, out=folder / "flips", without=("flips",)))
    fit(replace(whole, out=folder / "seed", seed=2))
    fit(whole)
    return [folder / "flips", folder / "whole", folder / "seed"]


def test_each_run_is_measured_on_the_same_films_as_it_ended(runs: list[Path], collection: Path, tmp_path: Path) -> None:
    out = tmp_path / "ablation.json"
    done = CliRunner().invoke(main, ["ablation", *map(str, runs), "--data", str(collection), "--out", str(out)])
    assert done.exit_code == 0, done.output
    record = json.loads(out.read_text())
    assert ablation_table(record) == done.output

    films = load_inputs(read_split(collection, 3, table=None, positive_class=None).validation, 64, tmp_path)
    expected = []
    for run in runs:
        network = keras.saving.load_model(run / "network.keras", compile=False)
        expected.append(roc_auc_score(films.fractured, network.predict(films.pixels.astype(np.float32))["logit"]))
    found = record["runs"]
    assert [run["without"] for run in found] == [["flips"], [], []]
    assert [run["auroc"]["value"] for run in found] == pytest.approx(expected, abs=1e-4)
    assert found[1]["less"] is None
    for one in (0, 2):
        assert found[one]["less"]["value"] == pytest.approx(expected[1] - expected[one], abs=1e-4)
        assert found[one]["less"]["low"] <= found[one]["less"]["value"] <= found[one]["less"]["high"]
    assert record["validated_on"] == {"films": 8, "fractured": 4, "groups": 2}

    rows = done.output.splitlines()[2:5]
    assert rows[0].startswith("| nothing | ")
    assert {row.split(" | ")[0] for row in rows[1:]} == {"| flips", "| nothing, another seed (2)"}


def test_other_runs_are_refused(runs: list[Path], collection: Path, tmp_path: Path) -> None:
    flips, whole, _ = runs

    def changed(**facts: object) -> Path:
        copy = tmp_path / next(iter(facts))
        shutil.copytree(flips, copy)
        told = json.loads((copy / "training.json").read_text())
        (copy / "training.json").write_text(json.dumps({**told, **facts}))
        return copy

    longer, elsewhere = changed(epochs=2), changed(fold=1)
    stopped = tmp_path / "stopped"
    shutil.copytree(flips, stopped)
    figures = json.loads((stopped / "figures.json").read_text())
    (stopped / "figures.json").write_text(json.dumps({**figures, "epochs": 0}))
    empty = tmp_path / "empty"
    empty.mkdir()
    for others, words in (
        ([flips], "with all augmentations"),
        ([whole], "and others"),
        ([whole, longer], "differs from .* in epochs too"),
        ([whole, elsewhere], "differs from .* in fold too"),
        ([whole, stopped], "ended after 0 of 1 epochs"),
        ([whole, empty], "no training.json"),
    ):
        with pytest.raises(UsageError, match=words):
            ablation(AblationSettings(tuple(others), collection, tmp_path / "out.json"))
    assert not (tmp_path / "out.json").exists()
