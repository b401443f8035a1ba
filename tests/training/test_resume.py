"""A run that was stopped, killed or finished goes on as if nothing had been, or is left alone."""

from __future__ import annotations

import csv
import json
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("keras", reason='needs the extra: pip install ".[train]"', exc_type=ImportError)

import keras

from bonefrac.errors import BonefracError, UsageError
from bonefrac_training import checkpoint, trainer
from bonefrac_training.fit import FitSettings, fit
from bonefrac_training.networks import find

SIZE = 64
WRITTEN = {"network.keras", "best.keras", "model.keras", "checkpoint.npz", "input.json", "training.json", "history.csv",
           "steps.csv", "figures.json", "training.html"}  # fmt: skip


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def schedule(run: Path) -> list[tuple[str, ...]]:
    return [(row["epoch"], row["step"], row["learning_rate"], row["batch"]) for row in rows(run / "steps.csv")]


def stop(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_finished_run_is_left_as_it_is(settings: FitSettings) -> None:
    fit(settings)
    before = {name: (settings.out / name).read_bytes() for name in ("history.csv", "steps.csv", "figures.json")}
    weights = keras.saving.load_model(settings.out / "network.keras").get_weights()
    fit(settings)
    assert before == {name: (settings.out / name).read_bytes() for name in before}
    again = keras.saving.load_model(settings.out / "network.keras").get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(weights, again, strict=True))


def test_a_run_killed_at_any_step_goes_on_as_if_nothing_had_been(settings: FitSettings, tmp_path: Path) -> None:
    """SIGKILL at a random step; the same command then gives the same epochs, steps, rates and batches."""
    undisturbed = fit(replace(settings, out=tmp_path / "undisturbed", batch_size=2))
    program = (
        "import sys; from pathlib import Path; from bonefrac_training.fit import *\n"
        f"fit(FitSettings(Path({str(settings.data)!r}), Path({str(settings.out)!r}), model='cnn', image_size={SIZE},"
        "epochs=2, batch_size=2, checkpoint_s=0))"
    )
    at = random.randrange(2, 24)
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    steps, saved = settings.out / "steps.csv", settings.out / checkpoint.NAME
    while process.poll() is None and not (saved.exists() and steps.exists() and len(schedule(settings.out)) >= at):
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    output = process.communicate()[0].decode(errors="replace")
    assert process.returncode == -signal.SIGKILL, output

    kept = checkpoint.read(saved).step
    losses = [row["loss"] for row in rows(steps)][:kept]
    assert 0 < kept < 32, "it was not killed on its way"
    fit(replace(settings, batch_size=2, checkpoint_s=0))
    assert schedule(settings.out) == schedule(undisturbed), f"killed after step {at}, checkpoint at {kept}"
    assert [row["loss"] for row in rows(steps)][:kept] == losses, "steps before the checkpoint were done again"
    assert [row["step"] for row in rows(settings.out / "history.csv")] == ["16", "32"]
    assert {path.name for path in settings.out.iterdir()} >= WRITTEN


def test_a_checkpoint_brings_back_weights_and_moments(settings: FitSettings) -> None:
    """Stopped in its second epoch, a run ends with the weights of an undisturbed one."""
    whole = fit(replace(settings, out=settings.out.with_name("whole")))
    with pytest.MonkeyPatch.context() as patch:
        train, calls = trainer.Trainer._step, iter(range(100))

        def stop_in_the_second(self: Any, batch: Any) -> tuple[object, ...]:
            if next(calls) == 6:
                raise KeyboardInterrupt
            row = train(self, batch)
            self._save()
            return row

        patch.setattr(trainer.Trainer, "_step", stop_in_the_second)
        with pytest.raises(KeyboardInterrupt):
            fit(settings)
    assert checkpoint.read(settings.out / checkpoint.NAME).step == 6
    fit(settings)
    networks = [keras.saving.load_model(run / "network.keras").get_weights() for run in (whole, settings.out)]
    assert all(np.allclose(a, b, atol=1e-3) for a, b in zip(*networks, strict=True))
    losses = [[float(row["loss"]) for row in rows(run / "steps.csv")] for run in (whole, settings.out)]
    assert np.allclose(*losses, rtol=1e-2)


def test_files_that_a_kill_left_out_are_made_from_the_checkpoint(settings: FitSettings) -> None:
    run = fit(settings)
    before = (run / "figures.json").read_bytes()
    last = len(rows(run / "history.csv")) == json.loads(before)["epoch"]
    for name in ("history.csv", "figures.json", "network.keras", *(["best.keras"] if last else [])):
        (run / name).unlink()
    fit(settings)
    assert {path.name for path in run.iterdir()} == WRITTEN
    assert (run / "figures.json").read_bytes() == before


def test_another_run_is_not_gone_on_with(settings: FitSettings) -> None:
    fit(settings)
    with pytest.raises(UsageError, match=r"learning rate 0\.001, not 0\.1: take another folder"):
        fit(replace(settings, learning_rate=0.1))
    with pytest.raises(UsageError, match="holds a run with model cnn, not ann"):
        fit(replace(settings, model="ann"))
    fit(replace(settings, patience=3, budget_minutes=1000))
    (settings.out / checkpoint.NAME).unlink()
    with pytest.raises(UsageError, match=r"holds a run without checkpoint\.npz"):
        fit(settings)
    fit(replace(settings, learning_rate=0.1, resume=False))
    assert len(schedule(settings.out)) == 8
    (settings.out / checkpoint.NAME).write_bytes(b"half")
    with pytest.raises(UsageError, match="is no checkpoint"):
        fit(settings)


def test_what_cannot_begin_anew_leaves_the_run_before_as_it_is(settings: FitSettings) -> None:
    """Everything is checked before anything is deleted."""
    fit(settings)
    before = {path.name: path.read_bytes() for path in settings.out.iterdir()}
    weights = settings.out.parent / "damaged.keras"
    weights.write_bytes(b"no network")
    for changes in (
        {"weights": str(weights)}, {"weights": "imagenet"}, {"fixed_until": "no layer"}, {"batch_size": 64}, {"fold": 9}
    ):  # fmt: skip
        with pytest.raises(UsageError):
            fit(replace(settings, resume=False, **changes))  # type: ignore[arg-type]
        assert {path.name: path.read_bytes() for path in settings.out.iterdir()} == before, changes


def test_a_run_begun_anew_leaves_nothing_of_the_one_before(settings: FitSettings) -> None:
    """Stopped before its first epoch has ended, it must not stand beside another run's network and figures."""
    fit(settings)
    with pytest.raises(BonefracError, match="no number"):
        fit(replace(settings, resume=False, learning_rate=1e38))
    assert {path.name for path in settings.out.iterdir()} == {"training.json", "input.json", "steps.csv"}
    fit(settings)
    assert {path.name for path in settings.out.iterdir()} == WRITTEN


@pytest.mark.usefixtures("eager")
def test_the_trunk_is_frozen_then_thawed_also_after_a_stop(settings: FitSettings, tmp_path: Path) -> None:
    """Two phases with ImageNet weights; a run stopped between them begins the second as an undisturbed one does."""
    model = find("mobilenetv2").build(SIZE)
    trunk = {
        f"{layer.name}/{weight.path.rsplit('/', 1)[-1]}": keras.ops.convert_to_numpy(weight)
        for layer in model.layers
        for weight in layer.weights
        if not layer.name.startswith("head")
    }
    np.savez(tmp_path / "trunk.npz", **trunk)
    wanted = replace(settings, model="mobilenetv2", weights=str(tmp_path / "trunk.npz"), batch_size=16)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer.Trainer, "_write_networks", stop)
        with pytest.raises(KeyboardInterrupt):
            fit(wanted)  # stopped at the end of its first epoch, after the checkpoint
    state = checkpoint.read(wanted.out / checkpoint.NAME)
    assert state.step == 2
    fit(replace(wanted, budget_minutes=1e-9))  # writes the files of the first epoch, and trains no step
    network = keras.saving.load_model(wanted.out / "network.keras")
    assert np.array_equal(network.get_layer("Conv1").kernel, trunk["Conv1/kernel"]), "the frozen trunk learned"
    assert np.array_equal(network.get_layer("Conv_1_bn").moving_mean, trunk["Conv_1_bn/moving_mean"])
    fit(wanted)
    network = keras.saving.load_model(wanted.out / "network.keras")
    assert not np.array_equal(network.get_layer("Conv1").kernel, trunk["Conv1/kernel"])
    assert not np.array_equal(network.get_layer("Conv_1_bn").moving_mean, trunk["Conv_1_bn/moving_mean"])
    rates = [float(row["learning_rate"]) for row in rows(wanted.out / "steps.csv")]
    assert max(rates[2:]) <= 0.3 * max(rates[:2]) + 1e-12
    assert json.loads((wanted.out / "figures.json").read_text())["began_from"] == "ImageNet"
