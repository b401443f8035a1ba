"""A run's state on disk, whole at every moment: weights, the optimiser's moments and where the run stands, in one file.

Plain arrays in an `.npz`, so that a run can go on with another Keras backend.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from bonefrac.errors import UsageError
from bonefrac.sinks import atomic
from bonefrac_training.npz import DAMAGED, open_npz

NAME = "checkpoint.npz"


@dataclass
class State:
    """Where a run stands. `facts`: what decides its schedule; `seconds` of training so far; `sums` of the losses over
    the `summed` steps of this epoch; `history`, a row an epoch; `figures` of the best epoch, `last` of the last."""

    facts: dict[str, Any]
    step: int = 0
    seconds: float = 0.0
    summed: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    last: dict[str, Any] = field(default_factory=dict)

    def row_at(self, step: int) -> bool:
        """Was the network validated at this very step?"""
        return bool(self.history) and self.history[-1]["step"] == step


def save(path: Path, state: State, model: keras.Model) -> None:
    """Write all at once: the file is the old one or the new one, also after a power cut."""
    arrays: dict[str, Any] = {f"model/{i}": keras.ops.convert_to_numpy(v) for i, v in enumerate(_variables(model))}
    arrays |= {f"optimizer/{i}": keras.ops.convert_to_numpy(v) for i, v in enumerate(model.optimizer.variables)}
    with atomic(path) as file:
        np.savez(file, state=json.dumps(asdict(state)), **arrays)


def read(path: Path) -> State:
    """Where the run in this checkpoint stands. Raises UsageError for a file that is no checkpoint."""
    try:
        with open_npz(path) as arrays:
            return State(**json.loads(str(arrays["state"])))
    except DAMAGED as error:
        raise _unreadable(path) from error


def restore(path: Path, model: keras.Model, *, optimizer: bool) -> None:
    """Give a model, and its built optimizer where asked, the values of a checkpoint. Raises UsageError for a damaged
    one."""
    parts = [("model", _variables(model)), *([("optimizer", model.optimizer.variables)] if optimizer else [])]
    try:
        with open_npz(path) as arrays:
            for part, variables in parts:
                for index, variable in enumerate(variables):
                    variable.assign(arrays[f"{part}/{index}"])
    except DAMAGED as error:
        raise _unreadable(path) from error


def _unreadable(path: Path) -> UsageError:
    return UsageError(f"{path}: is no checkpoint that can be read, perhaps cut short; --restart begins anew")


def _variables(model: keras.Model) -> list[keras.Variable]:
    """Weights, batch statistics and the states of random generators, without those of metrics."""
    return [variable for layer in model.layers for variable in layer.variables]
