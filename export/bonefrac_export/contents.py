"""What a network's file says of itself, read without running anything in it: by which Keras it was written, and whether
it holds code."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py

from bonefrac.errors import UsageError

_KERAS_MODULES = ("builtins", "keras", "tf_keras", "tensorflow.keras", "tensorflow.python.keras")
# TensorFlow's functions that old files name are looked up in all of TensorFlow, which can also write files
_FUNCTIONS = ("__operators__.", "cast", "concat", "expand_dims", "image.", "math.", "nn.", "repeat", "reshape")
_FORBIDDEN = frozenset({"EagerPyFunc", "PyFunc", "PyFuncStateless", "ReadFile", "SaveV2", "WriteFile"})


def keras_version(path: Path) -> str:
    """The Keras that wrote a `.keras` or `.h5` file, "" where the file does not say.

    Raises UsageError for a file that is neither, is cut short, has weights alone, or holds code.
    """
    if not path.exists():
        raise UsageError(f"{path}: there is no such file")
    try:
        with open(path, "rb") as file:
            magic = file.read(8)
        if magic.startswith(b"PK"):
            version, config = _of_keras_file(path)
        elif magic == b"\x89HDF\r\n\x1a\n":
            version, config = _of_h5_file(path)
        else:
            raise UsageError(f"{path}: is no Keras file: give a .keras or .h5 file, or a SavedModel's folder")
    except (OSError, EOFError, zipfile.BadZipFile, KeyError, ValueError) as error:
        raise UsageError(f"{path}: is cut short or damaged; copy it again: {_line(error)}") from error
    if config is None:
        raise UsageError(f"{path}: holds weights without a network; save the whole model, with model.save()")
    if code := next(_code(config), ""):
        raise UsageError(f"{path}: holds code ({code}), which is never run here; save it with Keras' own layers only")
    return version


def check_saved_model(folder: Path) -> None:
    """Raises UsageError for a folder that is no SavedModel, or one whose graph calls Python or touches files.

    A SavedModel's own way to its weights (RestoreV2) is no such thing; SaveV2 stands in its saver, which is not run.
    """
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    if not (folder / "saved_model.pb").is_file():
        raise UsageError(
            f"{folder}: is no SavedModel: it has no saved_model.pb; give a .keras or .h5 file, or its folder"
        )
    saved = SavedModel()
    try:
        saved.ParseFromString((folder / "saved_model.pb").read_bytes())
    except Exception as error:  # protobuf's error has no public name
        raise UsageError(f"{folder}: saved_model.pb is cut short or damaged; copy it again") from error
    for graph in (meta.graph_def for meta in saved.meta_graphs):
        nodes = [(function.signature.name, node) for function in graph.library.function for node in function.node_def]
        for name, node in nodes + [("", node) for node in graph.node]:
            if node.op in _FORBIDDEN and not (node.op == "SaveV2" and "save" in (name or node.name)):
                raise UsageError(f"{folder}: holds code ({node.op}), which is never run here")


def _of_keras_file(path: Path) -> tuple[str, Any]:
    with zipfile.ZipFile(path) as file:
        if not {"metadata.json", "config.json"} <= set(file.namelist()):
            raise UsageError(
                f"{path}: is no Keras file, but a zip of other things: unpack it, and give the file inside"
            )
        if damaged := file.testzip():
            raise zipfile.BadZipFile(damaged)
        return json.loads(file.read("metadata.json"))["keras_version"], json.loads(file.read("config.json"))


def _of_h5_file(path: Path) -> tuple[str, Any]:
    with h5py.File(path) as file:
        version, config = (_text(file.attrs.get(name, "")) for name in ("keras_version", "model_config"))
        return version, json.loads(config) if config else None


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _code(config: Any) -> Iterator[str]:
    """Whatever in a network's configuration would need, or be, code beside Keras' own."""
    if isinstance(config, dict):
        name, module = config.get("class_name"), config.get("module")
        if name in ("Lambda", "__lambda__"):
            yield "a Lambda layer"
        if name == "TFOpLambda" and not (function := str(config["config"]["function"])).startswith(_FUNCTIONS):
            yield function
        if name == "function" and module not in (None, "builtins"):  # found by its name, whatever it does
            yield f"{module}.{config.get('config')}"
        if isinstance(name, str) and isinstance(module, str) and not _is_keras(module):
            yield f"{module}.{name}"
    for part in config.values() if isinstance(config, dict) else config if isinstance(config, list) else ():
        yield from _code(part)


def _is_keras(module: str) -> bool:
    return any(module == known or module.startswith(known + ".") for known in _KERAS_MODULES)


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
