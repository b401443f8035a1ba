"""What cannot be done is told in one sentence (which file, what was found, what to do), with exit status 2."""

from __future__ import annotations

import configparser
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("keras", reason='needs the extra: pip install ".[train]"', exc_type=ImportError)

import keras

from bonefrac.errors import UsageError
from bonefrac_training import checkpoint
from bonefrac_training.cli import main
from bonefrac_training.fit import FitSettings, fit
from bonefrac_training.networks import find
from bonefrac_training.weights import load_trained


def told(*words: object) -> str:
    """What the command says of what it cannot do."""
    done = CliRunner().invoke(main, list(map(str, words)))
    assert done.exit_code == 2, done.output
    return " ".join(done.output.split())


def half(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def one_array(path: Path) -> None:
    np.save(path.with_suffix(".npy"), np.zeros(3))
    path.with_suffix(".npy").replace(path)


CNN = ("--model", "cnn", "--image-size", "64", "--epochs", "1", "--batch-size", "8")


def test_a_film_that_is_gone_is_named(collection: Path, tmp_path: Path) -> None:
    rows = [f"images/{i}.png,{'positive' if i % 2 == 0 else 'negative'},g{i // 4},{i // 20}" for i in range(40)]
    (tmp_path / "split.csv").write_text("\n".join(["image,label,group,fold", *rows]).replace("images/7.png", "7.png"))
    words = ("--split", tmp_path / "split.csv", "--fold", "1", "--out", tmp_path / "runs" / "a")
    said = told("fit", *CNN, "--data", collection, *words)
    assert "7.png: cannot be read: No such file or directory; put it there, or leave it out" in said


@pytest.mark.parametrize("row", ["images/0.png", "images/0.png,positive,g0", "images/0.png,positive,g0,one"])
def test_a_row_that_is_cut_short_is_no_traceback(row: str, collection: Path, tmp_path: Path) -> None:
    (tmp_path / "split.csv").write_text(f"image,label,group,fold\n{row}\n")
    said = told("fit", *CNN, "--data", collection, "--split", tmp_path / "split.csv", "--out", tmp_path / "run")
    assert "split.csv: lacks a column or has a fold that is no number" in said


def test_a_table_without_folds_is_told(collection: Path, tmp_path: Path) -> None:
    """As audit leaves it where there are too few groups."""
    (tmp_path / "split.csv").write_text("image,label,group,fold\nimages/0.png,positive,g0,\n")
    said = told("fit", *CNN, "--data", collection, "--split", tmp_path / "split.csv", "--out", tmp_path / "run")
    assert "split.csv: has no film with a fold; the page of bonefrac-train audit says why" in said


def test_a_table_as_audit_takes_it_wants_an_audit(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("image,label,patient\n1.png,positive,a\n2.png,negative,b\n")
    said = told("fit", "--data", tmp_path, "--out", tmp_path / "run", "--positive-class", "positive")
    assert re.search(r"labels\.csv: lacks the column image_id, .*use: run bonefrac-train audit .*--split", said)


def test_a_damaged_checkpoint_is_told_wherever_it_is_damaged(settings: FitSettings) -> None:
    fit(settings)
    saved = settings.out / checkpoint.NAME
    whole = saved.read_bytes()
    places = bytearray(whole)
    places[len(whole) // 2] ^= 0xFF
    for damaged in (whole[: len(whole) // 2], b"", bytes(places)):
        saved.write_bytes(damaged)
        with pytest.raises(UsageError, match=r"checkpoint\.npz: is no checkpoint that can be read.*--restart"):
            fit(settings)


@pytest.fixture(scope="module")
def trunk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of MobileNetV2's first layer."""
    path = tmp_path_factory.mktemp("weights") / "trunk.npz"
    arrays: dict[str, Any] = {"Conv1/kernel": np.zeros((3, 3, 3, 32), np.float32)}
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (half, "is no .npz of arrays, or was cut short; fetch or make it again"),
        (lambda path: path.write_text("no weights"), "is no .npz of arrays, or was cut short"),
        (lambda path: path.write_bytes(b""), "is no .npz of arrays, or was cut short"),
        (one_array, "is no .npz of arrays, or was cut short"),
        (lambda path: np.savez(path, other=np.zeros(3)), "other (3,) does not belong to the network"),
    ],
    ids=["half", "text", "empty", "one array", "another network's"],
)
@pytest.mark.parametrize("model", ["mobilenetv2", "flagship", "resnet18"])
def test_weights_that_cannot_be_read_are_named(
    spoil: Callable[[Path], object], says: str, model: str, trunk: Path, collection: Path, tmp_path: Path
) -> None:
    weights = tmp_path / "weights.npz"
    weights.write_bytes(trunk.read_bytes())
    spoil(weights)
    out = tmp_path / "runs" / "a"
    said = told("fit", "--model", model, *CNN[2:], "--data", collection, "--weights", weights, "--out", out)
    assert f"{weights}: " in said
    if "belong" not in says or model == "mobilenetv2":
        assert says in said
    assert "pickle" not in said


def test_half_a_keras_file_is_no_beginning(tmp_path: Path) -> None:
    model = find("cnn").build(64)
    model.save(tmp_path / "cnn.keras")
    half(tmp_path / "cnn.keras")
    with pytest.raises(UsageError, match=r"cnn\.keras: does not fit the network cnn"):
        load_trained(model, tmp_path / "cnn.keras")


def test_weights_that_the_run_would_write_over_are_refused(settings: FitSettings) -> None:
    run = fit(settings)
    with pytest.raises(UsageError, match=r"model\.keras: the run would write over it"):
        fit(replace(settings, weights=str(run / "model.keras"), resume=False))


def test_a_file_is_no_folder_for_results(settings: FitSettings, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for out in (file, file / "run"):
        said = told("fit", *CNN, "--data", settings.data, "--out", out)
        assert re.search(r"file\S*: cannot be made a folder: .*; name another with --out", said)
    run = fit(settings)
    assert "cannot be made a folder" in told("average", run, "--data", settings.data, "--out", file)


@pytest.mark.parametrize("command", ["fit", "average", "ablation"])
def test_without_keras_the_line_to_type_is_told(
    command: str, collection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("bonefrac_training.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "keras", None)
    words = [] if command == "fit" else [collection]
    said = told(command, *words, "--data", collection, "--out", tmp_path / "out")
    assert 'keras is missing: pip install "bonefrac[train]"' in said


def test_a_breach_of_our_own_is_no_missing_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "bonefrac_training.unlike", None)
    done = CliRunner().invoke(main, ["unlike", str(tmp_path / "pictures")])
    assert isinstance(done.exception, ImportError)


def test_pictures_need_what_the_extra_brings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pydicom", None)
    assert 'pydicom is missing: pip install "bonefrac[train]"' in told("unlike", tmp_path / "pictures")
    setup = configparser.ConfigParser()
    setup.read(Path(__file__).parents[2] / "setup.cfg", encoding="utf-8")
    brought = {re.split("[>=]", line)[0] for line in setup["options.extras_require"]["train"].split()}
    assert {"scikit-image", "pydicom", "pydicom-data"} <= brought


@pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="TensorFlow's lines are asked for")
def test_offline_is_one_sentence_and_tensorflow_says_nothing(collection: Path, tmp_path: Path) -> None:
    """As in a terminal: a network is built, its weights cannot be fetched, and there is nothing else to read."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TF_")}
    nowhere = {**environment, "KERAS_HOME": str(tmp_path), "https_proxy": "http://127.0.0.1:9", "no_proxy": ""}
    words = ["--model", "mobilenetv2", *CNN[2:], "--weights", "imagenet", "--data", str(collection)]
    program = "from bonefrac_training.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "fit", *words, "--out", str(tmp_path / "run")],
        env=nowhere, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    lines = [line for line in done.stderr.replace("\r", "\n").splitlines() if line and "films at 64 px" not in line]
    assert len(lines) == 3, done.stderr
    assert lines[0].startswith("Usage: ")
    said = " ".join(lines)
    assert "keras.applications.MobileNetV2: its ImageNet weights cannot be had: URL fetch failure" in said
    assert "give --weights an .npz, or none" in said


@pytest.mark.parametrize("command", sorted(main.commands))
def test_every_option_says_what_it_is(command: str) -> None:
    options = [option for option in main.commands[command].params if isinstance(option, click.Option)]
    assert [option.name for option in options if not option.help] == []
    if command == "fit":
        assert "cache beside --out" in " ".join(CliRunner().invoke(main, ["fit", "--help"]).output.split())
