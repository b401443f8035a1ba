"""The training loop: steps, checkpoints, validation, and the files of a run. What follows from the step alone (batches,
learning rates, phases) is somebody else's, so a run that was killed goes on as if nothing had been."""

from __future__ import annotations

import csv
import json
import math
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from bonefrac.errors import BonefracError
from bonefrac.sinks import atomic
from bonefrac_training import checkpoint
from bonefrac_training.batches import Batch, Batches
from bonefrac_training.checkpoint import State
from bonefrac_training.cost import multiply_adds, parameters
from bonefrac_training.curves_page import write_page
from bonefrac_training.figures import figures
from bonefrac_training.films import Inputs
from bonefrac_training.kinds import Arrays, Kind, uncompiled
from bonefrac_training.networks import Network
from bonefrac_training.schedule import Schedule

_STEP_COLUMNS = ("epoch", "step", "learning_rate", "loss", "batch")


@dataclass(frozen=True)
class Limits:
    """When a run ends before its last epoch, and how much of it a kill may cost. A checkpoint is written every
    `checkpoint_s`, less often where writing it takes more than a twentieth of the time."""

    patience: int = 8
    budget_s: float = math.inf
    checkpoint_s: float = 120.0


def predict(model: keras.Model, pixels: NDArray[np.uint8], batch: int = 16) -> Arrays:
    """The network's outputs for uint8 inputs (n, size, size, 1), by their names."""
    parts = [model.predict_on_batch(pixels[at : at + batch].astype(np.float32)) for at in range(0, len(pixels), batch)]
    return {name: np.concatenate([np.atleast_1d(part[name]) for part in parts]).astype(np.float32) for name in parts[0]}


def compile_for(model: keras.Model, kind: Kind, rate: float) -> None:
    """The kind's losses and AdamW (Loshchilov and Hutter, ICLR 2019), ready for a checkpoint's moments."""
    optimizer = keras.optimizers.AdamW(rate, weight_decay=1e-4, clipnorm=5.0)
    model.compile(optimizer, loss=dict(kind.losses), loss_weights=kind.loss_weights and dict(kind.loss_weights))
    optimizer.build(model.trainable_variables)


class Trainer:
    """One run of one network in the folder `out`."""

    def __init__(
        self, network: Network, model: keras.Model, plain: keras.Model, batches: Batches, validation: Inputs,
        schedule: Schedule, limits: Limits, state: State, out: Path, clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        """`plain` is the model itself, or its twin in float32 where it computes in mixed precision."""
        self._network, self._model, self._plain = network, model, plain
        self._exported = network.of_kind.exported(plain)
        self._batches, self._validation, self._schedule, self._limits = batches, validation, schedule, limits
        self._state, self._out, self._clock = state, out, clock
        self._frozen: bool | None = None
        self._saved_at, self._saving_s = clock(), 0.0

    def train(self) -> str:
        """Train until an end is reached; returns which. A run that has ended is left as it is."""
        self._resume()
        while not (end := self._end()):
            self._epoch()
        if not self._state.row_at(self._state.step):
            self._validate()
        return end

    @property
    def best(self) -> int:
        """The epoch (from 1) with the best validation, the first of equals; 0 before any."""
        watched = [row[self._network.of_kind.watched] for row in self._state.history]
        return watched.index(max(watched)) + 1 if watched else 0

    @property
    def best_is_last(self) -> bool:
        return self.best == len(self._state.history)

    def _end(self) -> str:
        state, limits = self._state, self._limits
        if state.step >= self._schedule.steps:
            return "all epochs"
        if state.row_at(state.step) and len(state.history) - self.best >= limits.patience:
            return f"no better epoch after {self.best} for {limits.patience} epochs"
        return f"budget of {limits.budget_s / 60:g} minutes" if state.seconds >= limits.budget_s else ""

    def _resume(self) -> None:
        """Bring model, optimiser and the run's files to where the checkpoint stands."""
        path, state = self._out / checkpoint.NAME, self._state
        self._enter_phase()
        if path.exists():
            checkpoint.restore(path, self._model, optimizer=state.step != self._schedule.thaw)
        self._cut_steps()
        if state.row_at(state.step):  # a kill may have fallen between the checkpoint and these
            self._write_networks()

    def _enter_phase(self) -> None:
        """Freeze or thaw the trunk, with a new optimiser, where the step wants it otherwise than it is."""
        frozen = self._schedule.frozen(self._state.step)
        if frozen == self._frozen:
            return
        self._frozen = frozen
        self._network.freeze(self._model, frozen=frozen)
        compile_for(self._model, self._network.of_kind, self._schedule.peak)

    def _epoch(self) -> None:
        """Train to the epoch's end, or until the budget is spent, and validate."""
        state, steps = self._state, len(self._batches)
        last = (state.step // steps + 1) * steps
        self._enter_phase()
        bar = tqdm(total=steps, initial=state.step % steps, desc=f"epoch {last // steps} of {self._schedule.epochs}")
        with (
            bar,
            closing(self._batches.stream(state.step, last)) as stream,
            open(self._out / "steps.csv", "a", newline="", encoding="utf-8") as file,
        ):
            log, began = csv.writer(file, lineterminator="\n"), self._clock()
            for batch in stream:
                log.writerow(self._step(batch))
                file.flush()
                bar.update()
                bar.set_postfix(loss=round(state.sums["loss"] / state.summed, 3))
                state.seconds += self._clock() - began
                if state.seconds >= self._limits.budget_s:
                    break
                self._save_if_due()
                began = self._clock()
        self._validate()

    def _step(self, batch: Batch) -> tuple[object, ...]:
        """Learn from one batch; returns its row in `steps.csv`. Raises BonefracError when the loss is no number."""
        state, rate = self._state, self._schedule.rate(self._state.step)
        self._model.optimizer.learning_rate = rate
        losses = self._model.train_on_batch(batch.grey, batch.targets, return_dict=True)
        if not math.isfinite(losses["loss"]):
            raise BonefracError(f"the loss is no number at step {state.step}: begin anew with a lower --learning-rate")
        state.sums = {name: state.sums.get(name, 0.0) + float(value) for name, value in losses.items()}
        state.summed += 1
        state.step += 1
        epoch = (state.step - 1) // len(self._batches) + 1
        return epoch, state.step, f"{rate:.8g}", f"{float(losses['loss']):.6g}", batch.check

    def _validate(self) -> None:
        """A row of history, then the checkpoint, then all files that people and the export room read."""
        state, kind = self._state, self._network.of_kind
        epoch = -(-state.step // len(self._batches))
        outputs = predict(self._float32(), self._validation.pixels)
        row: dict[str, float] = {"epoch": epoch, "step": state.step, "minutes": round(state.seconds / 60, 2)}
        row |= {name: round(value / max(1, state.summed), 4) for name, value in state.sums.items()}
        row |= kind.measure(outputs, self._validation)
        state.history = [old for old in state.history if old["epoch"] < epoch] + [row]
        state.last = {"epoch": epoch, **figures(outputs, self._validation)}
        if self.best_is_last:
            state.figures = state.last
        if state.step % len(self._batches) == 0:
            state.sums, state.summed = {}, 0
        tqdm.write(", ".join(f"{name} {value:g}" for name, value in row.items() if not math.isnan(value)))
        self._save()
        self._write_networks()

    def _float32(self) -> keras.Model:
        """The network as it is exported, with the weights of now."""
        if self._plain is not self._model:
            self._plain.set_weights(self._model.get_weights())
        return self._exported

    def _save_if_due(self) -> None:
        if self._clock() - self._saved_at > max(self._limits.checkpoint_s, 20 * self._saving_s):
            self._save()

    def _save(self) -> None:
        began = self._clock()
        checkpoint.save(self._out / checkpoint.NAME, self._state, self._model)
        self._saved_at = self._clock()
        self._saving_s = self._saved_at - began

    def _write_networks(self) -> None:
        """`model.keras` to go on from, `network.keras`, of the last epoch, for export, `best.keras`, the figures of
        both, history and page."""
        exported = self._float32()
        save_network(uncompiled(self._plain), self._out / "model.keras")
        save_network(exported, self._out / "network.keras")
        if self.best_is_last:
            save_network(exported, self._out / "best.keras")
        self._write_reports(exported)

    def _write_reports(self, exported: keras.Model) -> None:
        state, facts = self._state, self._state.facts
        found = {
            **describe(self._network, facts, exported, self._out / "network.keras"),
            "epochs": len(state.history),
            "minutes": state.history[-1]["minutes"],
            **state.figures,
            **({"last": state.last} if state.last else {}),  # a checkpoint of before had none
        }
        write_figures(self._out, found)
        rows = [",".join(state.history[0]), *(",".join(map(_cell, row.values())) for row in state.history)]
        with atomic(self._out / "history.csv") as file:
            file.write(("\n".join(rows) + "\n").encode())
        write_page(self._out / "training.html", facts, state.history, best=self.best)

    def _cut_steps(self) -> None:
        """Take from `steps.csv` what was done after the checkpoint: it will be done again."""
        path = self._out / "steps.csv"
        rows = path.read_text(encoding="utf-8").splitlines()[1 : self._state.step + 1] if path.exists() else []
        with atomic(path) as file:
            file.write(("\n".join([",".join(_STEP_COLUMNS), *rows]) + "\n").encode())


def _cell(value: float) -> str:
    """NaN, where there was nothing to measure, is an empty cell."""
    return "" if math.isnan(value) else str(value)


def describe(network: Network, facts: dict[str, Any], exported: keras.Model, file: Path) -> dict[str, Any]:
    """What a trained network is and costs, for `figures.json`; `file` holds it."""
    return {
        "model": facts["model"],
        "summary": network.summary,
        "began_from": facts["began_from"],
        "split": f"{facts['data']}, fold {facts['fold']}",
        "image_size": facts["image_size"],
        "parameters": parameters(exported),
        "multiply_adds": multiply_adds(exported),
        "bytes": file.stat().st_size,
    }


def write_figures(run: Path, found: dict[str, Any]) -> None:
    with atomic(run / "figures.json") as file:
        file.write(json.dumps(found, indent=1).encode() + b"\n")


def save_network(network: keras.Model, path: Path) -> None:
    """Whole or not at all."""
    part = path.with_suffix(".part.keras")
    network.save(part)
    part.replace(path)
