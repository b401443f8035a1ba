"""The watcher's log: one line an event, on the terminal and in a file that never grows beyond its size.

No name and no path is ever written: a film is its number in the journal and the beginning of its content's hash.
"""

from __future__ import annotations

import json
import logging
import sys
from contextlib import suppress
from datetime import datetime, timezone
from logging.handlers import RotatingFileHandler
from pathlib import Path

_BYTES, _FILES = 5_000_000, 4


class _Lines(logging.Formatter):
    """Time (UTC, ISO 8601), level and message: as a line of text, or as JSON with the facts under their names."""

    def __init__(self, *, as_json: bool) -> None:
        super().__init__()
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds")
        message, facts = record.getMessage(), getattr(record, "facts", {})
        if self._as_json:
            return json.dumps({"time": when, "level": record.levelname, "message": message, **facts})
        shown = " ".join((message, *(f"{name}={value}" for name, value in facts.items())))
        return f"{when} {record.levelname} {' '.join(shown.split())}"  # on one line, whatever a message holds


class _File(RotatingFileHandler):
    """A log that cannot be written, on a full disk say, is told on the terminal, and ends nothing."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # logging's own name
        if self.stream is not None and self.stream.closed:  # by a rotation that failed half-way
            self.stream = None  # opened again with the next line
        with suppress(OSError, AttributeError):  # a service may have no terminal
            sys.stderr.write(f"bonefrac: the log cannot be written: {sys.exc_info()[1]}\n")

    def close(self) -> None:
        with suppress(OSError):  # what could not be written was told
            super().close()


class Log:
    """A context manager: `info` and `warning` take a message and facts."""

    def __init__(self, path: Path, *, as_json: bool, quiet: bool) -> None:
        self._logger = logging.Logger("bonefrac.watch")
        self._file = _File(path, maxBytes=_BYTES, backupCount=_FILES - 1, encoding="utf-8", delay=True)
        handlers: list[logging.Handler] = [self._file] if quiet else [self._file, logging.StreamHandler()]
        for handler in handlers:
            handler.setFormatter(_Lines(as_json=as_json))
            self._logger.addHandler(handler)

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def info(self, message: str, **facts: object) -> None:
        self._logger.info(message, extra={"facts": facts})

    def warning(self, message: str, **facts: object) -> None:
        self._logger.warning(message, extra={"facts": facts})

    def reopen(self) -> None:
        """Begin anew with whatever stands under the log's name now: somebody moved it away (logrotate)."""
        self._file.close()
