"""A run: what it writes, how it ends, and that a kill at any step leaves no trace in its schedule."""

from __future__ import annotations

import csv
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("keras", reason='needs the extra: pip install ".[train]"', exc_type=ImportError)

import keras

from bonefrac.errors import BonefracError, UsageError
from bonefrac_training import trainer
from bonefrac_training.cli import main
from bonefrac_training.fit import FitSettings, fit, provenance
from bonefrac_training.networks import find

SIZE = 64
WRITTEN = {"network.keras", "best.keras", "model.keras", "checkpoint.npz", "input.json", "training.json", "history.csv",
           "steps.csv", "figures.json", "training.html"}  # fmt: skip


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_run_leaves_all_its_files(settings: FitSettings) -> None:
    run = fit(settings)
    assert {path.name for path in run.iterdir()} == WRITTEN
    history = rows(run / "history.csv")
    assert [(row["epoch"], row["step"]) for row in history] == [("1", "4"), ("2", "8")]
    assert len(rows(run / "steps.csv")) == 8
    assert json.loads((run / "input.json").read_text())["width"] == SIZE
    facts = json.loads((run / "training.json").read_text())
    assert (facts["model"], facts["fold"], facts["weights"]) == ("cnn", 3, "none, from scratch")
    assert str(settings.data.parent) not in json.dumps(facts)

    found = json.loads((run / "figures.json").read_text())
    scores = [float(row["auroc"]) for row in history]
    assert found["epoch"] == scores.index(max(scores)) + 1
    assert found["auroc"]["value"] == pytest.approx(max(scores), abs=1e-4)
    assert found["validated_on"] == {"films": 8, "fractured": 4, "groups": 2}
    assert found["bytes"] == (run / "best.keras").stat().st_size
    assert found["parameters"] == 422_305
    last = found["last"]
    assert (last["epoch"], last["auroc"]["value"]) == (2, pytest.approx(scores[1], abs=1e-4))
    assert set(last) == {"epoch", "auroc", "auprc", "sensitivity_at_specificity_0.90", "validated_on"} < set(found)
    page = (run / "training.html").read_text()
    assert page.count("<svg") == 2
    assert len(re.findall(r'class="best"', page)) == 2


class Clock:
    """A second goes by at each look."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def test_the_budget_counts_all_resumed_parts_and_ends_with_validation(
    settings: FitSettings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A step takes a second by the clock given: 3 of 8 steps fit into 3 seconds, 6 into 6."""
    make = trainer.Trainer.__init__
    monkeypatch.setattr(trainer.Trainer, "__init__", lambda self, *rest: make(self, *rest, clock=Clock()))
    run = fit(replace(settings, budget_minutes=3 / 60))
    assert "budget of 0.05 minutes" in capsys.readouterr().out
    assert [(row["epoch"], row["step"]) for row in rows(run / "history.csv")] == [("1", "3")]
    assert {path.name for path in run.iterdir()} == WRITTEN
    fit(replace(settings, budget_minutes=3 / 60))
    assert len(rows(run / "steps.csv")) == 3, "a spent budget was spent again"
    fit(replace(settings, budget_minutes=6 / 60))
    assert [(row["epoch"], row["step"]) for row in rows(run / "history.csv")] == [("1", "4"), ("2", "6")]
    assert json.loads((run / "figures.json").read_text())["minutes"] == 0.1
    assert json.loads((run / "training.json").read_text())["budget_minutes"] == 6 / 60
    fit(settings)
    assert json.loads((run / "training.json").read_text())["budget_minutes"] is None
    whole = fit(replace(settings, out=settings.out.with_name("whole")))
    assert [row["batch"] for row in rows(run / "steps.csv")] == [row["batch"] for row in rows(whole / "steps.csv")]


def test_it_stops_when_validation_gets_no_better(
    settings: FitSettings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = iter([0.6, 0.7, 0.7, 0.65, 0.9, 0.9, 0.9])
    network = find("cnn")
    kind = replace(network.of_kind, measure=lambda *_: {"auroc": next(scores)})
    monkeypatch.setitem(trainer.__dict__, "figures", lambda *_: {})
    monkeypatch.setattr("bonefrac_training.networks.KINDS", {"classifier": kind})
    run = fit(replace(settings, epochs=7, patience=2))
    assert [row["auroc"] for row in rows(run / "history.csv")] == ["0.6", "0.7", "0.7", "0.65"]
    assert "no better epoch after 2 for 2 epochs" in capsys.readouterr().out
    assert json.loads((run / "figures.json").read_text())["epoch"] == 2
    best, last = (keras.saving.load_model(run / f"{name}.keras").get_weights() for name in ("best", "network"))
    assert any(not np.allclose(a, b) for a, b in zip(best, last, strict=True)), "the best is the last"


def test_a_loss_that_is_no_number_ends_the_run(settings: FitSettings) -> None:
    with pytest.raises(BonefracError, match="no number at step"):
        fit(replace(settings, learning_rate=1e38))


def test_mixed_precision_leaves_files_in_float32(settings: FitSettings) -> None:
    run = fit(replace(settings, epochs=1, mixed_precision=True))
    network = keras.saving.load_model(run / "network.keras", safe_mode=True)
    assert {layer.dtype_policy.name for layer in network.layers} == {"float32"}
    trained = keras.saving.load_model(run / "model.keras").get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(trained, network.get_weights(), strict=True))
    assert keras.config.dtype_policy().name == "float32"
    assert "nan" not in (run / "history.csv").read_text()


@pytest.mark.usefixtures("eager")
def test_the_readmes_two_commands_make_a_flagship(settings: FitSettings, tmp_path: Path) -> None:
    """From an ImageNet trunk at one size, then from that run's model.keras at a larger one, for export."""
    model = find("flagship").build(SIZE)
    trunk: dict[str, Any] = {
        f"{layer.name}/{weight.path.rsplit('/', 1)[-1]}": keras.ops.convert_to_numpy(weight)
        for layer in model.layers
        for weight in layer.weights
        if layer.name.startswith(("stem", "block", "top"))
    }
    trunk["stem_conv/kernel"] = np.repeat(trunk["stem_conv/kernel"] / 3, 3, axis=2)
    np.savez(tmp_path / "lite.npz", **trunk)
    data, first, second = str(settings.data), str(tmp_path / "small"), str(tmp_path / "large")
    for words in (
        ["--weights", str(tmp_path / "lite.npz"), "--out", first, "--image-size", "64"],
        ["--weights", f"{first}/model.keras", "--out", second, "--image-size", "96", "--learning-rate", "5e-4"],
    ):
        done = CliRunner().invoke(main, ["fit", "--data", data, "--epochs", "1", *words])
        assert done.exit_code == 0, done.output
    network = keras.saving.load_model(Path(second, "network.keras"), compile=False, safe_mode=True)
    assert set(network.output) == {"logit", "heatmap", "familiarity"}
    assert network.inputs[0].shape == (None, 96, 96, 1)
    best = keras.saving.load_model(Path(second, "best.keras"), compile=False, safe_mode=True)
    assert set(best.output) == set(network.output)
    facts = json.loads(Path(second, "training.json").read_text())
    assert facts["began_with"]["weights"].startswith("lite.npz, sha256 ")
    assert facts["began_from"] == "ImageNet"
    assert "peak_in_box" in rows(Path(second, "history.csv"))[0]


def test_a_network_says_what_it_began_with(collection: Path, tmp_path: Path) -> None:
    weights = tmp_path / "first" / "model.keras"
    weights.parent.mkdir()
    weights.write_bytes(b"weights")
    (weights.parent / "training.json").write_text('{"epochs": 5, "began_from": "ImageNet", "budget_minutes": 30}')
    facts = provenance(FitSettings(collection, tmp_path, weights=weights))
    assert facts["began_with"] == {"epochs": 5, "began_from": "ImageNet"}
    assert facts["began_from"] == "ImageNet"
    assert str(facts["weights"]).startswith("sha256 ")
    assert provenance(FitSettings(collection, tmp_path))["weights"] == "none, from scratch"
    (weights.parent / "training.json").write_text("{")
    with pytest.raises(UsageError, match=r"first: has no training\.json that can be read"):
        provenance(FitSettings(collection, tmp_path, weights=weights))
    assert str(tmp_path) not in str(facts)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--model", "resnet51"], "'resnet51' is not one of 'box', 'ann'"),
        (["--image-size", "100"], "multiple of 32"),
        (["--without", "colour"], "no such augmentation; known: rotation"),
        (["--weights", "nowhere.npz"], "give an .npz or a .keras file that is there"),
        (
            ["--model", "cnn", "--image-size", "64", "--weights", "imagenet"],
            "keras.applications has no weights for cnn",
        ),
        (["--model", "cnn", "--image-size", "64", "--batch-size", "64"], "too few films"),
        (["--fold", "9"], "fold 9 lack films"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(words: list[str], told: str, collection: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["fit", "--data", str(collection), "--out", str(tmp_path / "run"), *words])
    assert done.exit_code == 2
    assert told in " ".join(done.output.split())


@pytest.mark.usefixtures("eager")
def test_fractures_without_boxes_teach_the_film_and_no_place(
    settings: FitSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A flagship from a table that has no boxes: told, no figure of places, and a box has nothing to be judged by."""
    bare = tmp_path / "bare"
    shutil.copytree(settings.data / "images", bare / "images")
    films = [f"images/{i}.png,{'positive' if i % 2 == 0 else 'negative'},g{i // 4},{i // 32}" for i in range(40)]
    (bare / "split.csv").write_text("\n".join(["image,label,group,fold", *films]))
    wanted = replace(settings, data=bare, fold=1, model="flagship", epochs=1, batch_size=16)
    run = fit(wanted)
    assert "16 of 16 films with a fracture have no box" in capsys.readouterr().out
    (row,) = rows(run / "history.csv")
    assert row["peak_in_box"] == ""
    assert 0 <= float(row["auroc"]) <= 1
    assert "peak in box" not in (run / "training.html").read_text()
    fit(wanted)  # NaN in a checkpoint is read again
    with pytest.raises(UsageError, match="no fracture in fold 1 has a box"):
        fit(replace(wanted, model="box", out=tmp_path / "box"))


def test_a_film_that_cannot_be_decoded_is_named(tmp_path: Path) -> None:
    lines = ["image,label,group,fold"]
    for number in range(4):
        label = ("fractured", "normal")[number % 2]
        (tmp_path / f"{number}.jpg").write_bytes(b"\xff\xd8\xff no film")
        lines.append(f"{number}.jpg,{label},g{number},{number // 2}")
    (tmp_path / "split.csv").write_text("\n".join(lines))
    with pytest.raises(UsageError, match=r"\d\.jpg: .*leave it out of the list"):
        fit(FitSettings(tmp_path, tmp_path / "runs" / "a", model="cnn", image_size=SIZE, fold=1))
