"""`.npz` files, which may have been cut short, or be something else by that name."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bonefrac.errors import UsageError

# what a damaged file gives; one of another kind a ValueError, or an array instead of a file of them: AttributeError
DAMAGED = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, AttributeError, TypeError)


@contextmanager
def open_npz(path: Path) -> Iterator[Any]:
    """The arrays by their names, each read when it is asked for; closed afterwards, damaged or not. Raises DAMAGED."""
    with open(path, "rb") as file, np.load(file) as arrays:
        yield arrays


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays of a file, by name. Raises UsageError where it holds none or is damaged."""
    try:
        with open_npz(path) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except DAMAGED as error:
        raise UsageError(f"{path}: is no .npz of arrays, or was cut short; fetch or make it again") from error
