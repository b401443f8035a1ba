"""The run of one Keras backend goes on with another: nothing but arrays and numbers stands between them."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("keras", reason='needs the extra: pip install ".[train]"', exc_type=ImportError)

import keras

from bonefrac_training.fit import FitSettings, fit

ROOT = Path(__file__).parents[2]
ROOMS = [str(ROOT / room) for room in ("engine", "training", "benchmarks")]
PYTHON = os.environ.get("BONEFRAC_JAX_PYTHON", sys.executable)  # JAX may have an environment of its own
JAX = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join(ROOMS)}


@pytest.fixture(scope="module")
def _jax() -> None:
    done = subprocess.run([PYTHON, "-c", "import jax, keras"], env=JAX, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"{PYTHON} has no JAX; BONEFRAC_JAX_PYTHON names one that has: {done.stderr.splitlines()[-1]}")


def steps(run: Path) -> list[tuple[str, ...]]:
    with open(run / "steps.csv", newline="", encoding="utf-8") as file:
        return [(row["epoch"], row["step"], row["learning_rate"], row["batch"]) for row in csv.DictReader(file)]


@pytest.mark.usefixtures("_jax")
@pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="begins with TensorFlow")
def test_a_run_that_tensorflow_began_goes_on_with_jax(settings: FitSettings, tmp_path: Path) -> None:
    """First without a step, which writes what the checkpoint holds; then to the end, as TensorFlow would have."""
    whole = fit(replace(settings, out=tmp_path / "whole"))
    fit(replace(settings, budget_minutes=1e-9))
    assert len(steps(settings.out)) == 1
    shutil.copytree(settings.out, tmp_path / "begun")
    program = (
        "import sys; from bonefrac_training.cli import main; import keras\n"
        "assert keras.config.backend() == 'jax' and 'tensorflow' not in sys.modules\nmain()"
    )
    words = ["--model", "cnn", "--image-size", "64", "--epochs", "2", "--batch-size", "8", "--data", str(settings.data)]
    for run, more in ((tmp_path / "begun", ["--budget-minutes", "1e-9"]), (settings.out, [])):
        done = subprocess.run(
            [PYTHON, "-c", program, "fit", *words, "--out", str(run), *more],
            env=JAX, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    begun, kept = (
        keras.saving.load_model(run / "network.keras").get_weights() for run in (tmp_path / "begun", settings.out)
    )
    assert len(steps(tmp_path / "begun")) == 1
    with np.load(tmp_path / "begun" / "checkpoint.npz") as arrays:
        held = [arrays[name] for name in arrays.files if name.startswith("model/") and arrays[name].dtype == np.float32]
    assert all(np.array_equal(a, b) for a, b in zip(held, begun, strict=True)), "the weights are not the checkpoint's"
    assert any(not np.array_equal(a, b) for a, b in zip(begun, kept, strict=True)), "nothing was learnt"
    assert len(steps(whole)) == 8
    assert steps(settings.out) == steps(whole), "other learning rates or batches"
