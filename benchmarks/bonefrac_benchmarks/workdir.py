"""Where a long run keeps its films and results: a temporary folder, or one that stays to be looked into."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bonefrac.errors import UsageError


@contextmanager
def working_in(folder: Path | None) -> Iterator[Path]:
    """The named folder, which stays afterwards, or a temporary one. Raises UsageError where it is not empty."""
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="bonefrac-bench-") as temporary:
            yield Path(temporary)
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise UsageError(f"{folder}: is not empty; name a new folder to work in")
    except OSError as error:
        raise UsageError(f"{folder}: cannot be made: {error.strerror}; name another folder to work in") from error
    yield folder.absolute()
