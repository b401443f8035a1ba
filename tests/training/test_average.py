"""The mean of two runs' weights: a run of its own, and nothing but runs that went on one from the other."""

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

from bonefrac.errors import UsageError
from bonefrac_training.average import AverageSettings, average
from bonefrac_training.cli import main
from bonefrac_training.fit import FitSettings, fit
from bonefrac_training.split import read_split


@pytest.fixture(scope="module")
def runs(collection: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two runs, the second begun with the first one's weights."""
    folder = tmp_path_factory.mktemp("runs")
    first = FitSettings(collection, folder / "64", model="cnn", image_size=64, epochs=1, batch_size=8)
    fit(first)
    fit(replace(first, out=folder / "96", image_size=96, weights=str(folder / "64" / "model.keras")))
    return [folder / "64", folder / "96"]


def test_the_mean_is_a_run_that_export_and_the_table_take(runs: list[Path], collection: Path, tmp_path: Path) -> None:
    out = tmp_path / "mean"
    done = CliRunner().invoke(main, ["average", *map(str, runs), "--data", str(collection), "--out", str(out)])
    assert done.exit_code == 0, done.output
    mean, *networks = (
        keras.saving.load_model(run / name).get_weights()
        for run, name in ((out, "network.keras"), *((run, "model.keras") for run in runs))
    )
    for one, first, second in zip(mean, *networks, strict=True):
        assert one.dtype != np.float32 or np.allclose(one, (first + second) / 2, atol=1e-6)
    assert any(not np.allclose(first, second) for first, second in zip(*networks, strict=True))

    figures, facts = (json.loads((out / name).read_text("utf-8")) for name in ("figures.json", "training.json"))
    assert (figures["mean_of_px"], figures["epochs"], figures["image_size"]) == ([64, 96], 2, 96)
    assert figures["validated_on"] == {"films": 8, "fractured": 4, "groups": 2}
    assert (facts["fold"], facts["mean_of_weights"]) == (3, ["64 px", "96 px"])
    assert facts["films"] == read_split(collection, 3, table=None, positive_class=None).digest
    assert json.loads((out / "input.json").read_text())["width"] == 96
    shown = CliRunner().invoke(main, ["table", str(out)])
    assert "mean of the runs at 64 and 96 px, 2 epochs" in shown.output


def changed(run: Path, to: Path, **facts: object) -> Path:
    """A copy that says something else of itself."""
    shutil.copytree(run, to)
    told = json.loads((to / "training.json").read_text())
    (to / "training.json").write_text(json.dumps({**told, **facts}))
    return to


def test_what_does_not_share_a_beginning_has_no_mean(runs: list[Path], collection: Path, tmp_path: Path) -> None:
    first, second = runs
    other_fold, other_films = changed(second, tmp_path / "fold", fold=1), changed(first, tmp_path / "films", films="00")
    empty = tmp_path / "empty"
    empty.mkdir()
    for pair, words in (
        ([second, first], "was not begun with the weights of"),
        ([first, other_fold], "the last is another"),
        ([other_films], "not those that the runs were trained with"),
        ([first, empty], "no training.json"),
    ):
        with pytest.raises(UsageError, match=words):
            average(AverageSettings(pair, collection, tmp_path / "mean"))
        assert not (tmp_path / "mean").exists()


def test_a_budget_may_change_without_making_it_another_run(runs: list[Path], collection: Path, tmp_path: Path) -> None:
    other = changed(runs[0], tmp_path / "64", budget_minutes=30)
    assert average(AverageSettings([other, runs[1]], collection, tmp_path / "mean")).is_dir()


def test_a_damaged_network_is_named(runs: list[Path], collection: Path, tmp_path: Path) -> None:
    broken = changed(runs[0], tmp_path / "broken")
    whole = (broken / "model.keras").read_bytes()
    for damaged in (b"no network", whole[: len(whole) // 2]):
        (broken / "model.keras").write_bytes(damaged)
        with pytest.raises(UsageError, match=r"broken: its model\.keras cannot be read"):
            average(AverageSettings([broken], collection, tmp_path / "mean"))
