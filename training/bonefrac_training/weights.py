"""What a network begins with: an ImageNet trunk from a file or from keras.applications, or a network trained before."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from bonefrac.errors import UsageError
from bonefrac_training.npz import read_npz

Arrays = Mapping[str, np.ndarray[Any, Any]]


def load_npz(model: keras.Model, path: Path) -> None:
    """Fill a model's trunk from an `.npz` of `LAYER/VARIABLE` arrays. Raises UsageError where they do not match."""
    fill(model, read_npz(path), path)


def fill(model: keras.Model, arrays: Arrays, source: Path | str) -> None:
    """Assign every array to the variable of its name. Raises UsageError if one has no place or another shape."""
    variables = {
        f"{layer.name}/{variable.path.rsplit('/', 1)[-1]}": variable
        for layer in model.layers
        for variable in layer.weights
    }
    for name, value in arrays.items():
        if name not in variables or tuple(variables[name].shape) != value.shape:
            raise UsageError(f"{source}: its array {name} {value.shape} does not belong to the network {model.name}")
        variables[name].assign(value)


def load_application(model: keras.Model, application: str) -> None:
    """Fill a model's trunk with keras.applications' own ImageNet weights, which Keras downloads once and keeps.

    Raises UsageError where it cannot."""
    try:
        make = getattr(keras.applications, application)
        trunk = make(weights="imagenet", include_top=False, input_shape=(224, 224, 3))
    except Exception as error:  # Keras has no narrower one for a download that fails
        raise UsageError(
            f"keras.applications.{application}: its ImageNet weights cannot be had: {str(error).splitlines()[0]}; fetch"
            " them on a machine that is online, or give --weights an .npz, or none"
        ) from error
    fill(model, arrays_of(trunk, only=model), f"keras.applications.{application}")


def arrays_of(model: keras.Model, *, only: keras.Model) -> Arrays:
    """The variables of `model` in layers that `only` has too, by `LAYER/VARIABLE`."""
    shared = {layer.name for layer in only.layers}
    return {
        f"{layer.name}/{variable.path.rsplit('/', 1)[-1]}": keras.ops.convert_to_numpy(variable)
        for layer in model.layers
        if layer.name in shared
        for variable in layer.weights
    }


def load_trained(model: keras.Model, path: Path) -> None:
    """All weights of a `model.keras` that `fit` wrote for the same network. Raises UsageError where they do not fit."""
    try:
        model.set_weights(keras.saving.load_model(path, compile=False, safe_mode=True).get_weights())
    except (OSError, ValueError, TypeError, KeyError, zipfile.BadZipFile) as error:
        raise UsageError(
            f"{path}: does not fit the network {model.name}: {str(error).splitlines()[0]}; give a model.keras of the"
            " same network"
        ) from error
