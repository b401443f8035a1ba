"""What a run writes: CSV, JSON Lines, pictures. Nothing ever stands half-written under its final name."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from bonefrac.results import Failure, Result

COLUMNS = ("path", "sha256", "status", "finding", "probability", "regions", "width", "height",
           "model", "model_sha256", "precision", "message")  # fmt: skip
_FORMULA = (
    "=",
    "+",
    "-",
    "@",
    "\t",
    "\r",
    "\n",
    "＝",
    "＋",
    "－",
    "＠",
)  # OWASP, CSV injection: a spreadsheet runs a cell that begins so
PART = ".bonefrac-part-"  # how a file is called until it is whole
PICTURE = ".marked.jpg"  # no folder is called so, which would stand in a picture's way
_LONGEST_NAME = 240  # bytes; file systems take 255, and a temporary name needs some more


@contextmanager
def atomic(path: Path, *, durable: bool = True) -> Iterator[IO[bytes]]:
    """Write a file under a temporary name, to disk, then rename it over `path`; on any error `path` stays as it was.

    Not `durable`: a power cut may undo it, which is nothing to a heartbeat.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.parent / (PART + secrets.token_hex(8))
    try:
        with open(part, "xb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(part, path)
        if durable:
            sync_folder(path.parent)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """A rename is on disk when its folder is (POSIX); Windows has no such call."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def printable(name: str) -> str:
    """A file name as text: bytes that are no UTF-8 become \\xNN, so that any name can be written."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _cell(text: str) -> str:
    return "'" + text if text.startswith(_FORMULA) else text


def as_record(result: Result, model: dict[str, str]) -> dict[str, object]:
    """A result in the columns' names and order; `model` has `model`, `model_sha256` and `precision`."""
    judged: dict[str, object] = {"status": "ok", "finding": "", "probability": None, "regions": []}
    if isinstance(result, Failure):
        judged["status"] = result.status
    else:
        judged["finding"], judged["probability"] = result.finding, result.probability
        judged["regions"] = [{"box": [int(v) for v in r.box], "score": r.score} for r in result.regions]
    return {
        "path": printable(result.source.path),
        "sha256": result.source.sha256,
        **judged,
        "width": result.width or None,
        "height": result.height or None,
        **model,
        "message": result.message,
    }


CSV_HEADER = (",".join(COLUMNS) + "\r\n").encode()


def csv_line(result: Result, model: dict[str, str]) -> bytes:
    """A row of `results.csv`: UTF-8, text cells that no spreadsheet takes for a formula."""
    record = as_record(result, model)
    ok = record["status"] == "ok"
    cells = {
        **record,
        "path": _cell(str(record["path"])),
        "message": _cell(str(record["message"])),
        "model": _cell(str(record["model"])),
        "probability": f"{record['probability']:.4f}" if ok else "",
        "regions": json.dumps(record["regions"]) if ok else "",
    }
    text = io.StringIO(newline="")
    csv.writer(text).writerow([cells[column] for column in COLUMNS])
    return text.getvalue().encode("utf-8", "backslashreplace")


class CsvSink:
    """`results.csv`: a header, one row a result."""

    def __init__(self, file: IO[bytes], model: dict[str, str]) -> None:
        self._file, self._model = file, model
        self._file.write(CSV_HEADER)

    def write(self, result: Result) -> None:
        self._file.write(csv_line(result, self._model))


class JsonLinesSink:
    """`results.jsonl`: the same records, one JSON object a line."""

    def __init__(self, file: IO[bytes], model: dict[str, str]) -> None:
        self._file, self._model = file, model

    def write(self, result: Result) -> None:
        self._file.write(
            json.dumps(as_record(result, self._model), ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
        )


def picture_path(folder: Path, name: str) -> Path:
    """Where a film's picture lies: the input tree mirrored, an ending added, so that a.png and a.tif never meet.

    A name too long for that is cut and told apart by its hash.
    """
    *parents, last = name.split("/")
    last = re.sub(r'[\x00-\x1f<>:"\\|?*]', "_", last) if os.name == "nt" else last
    if len(os.fsencode(last)) > _LONGEST_NAME - len(PICTURE):
        digest = hashlib.sha256(os.fsencode(last)).hexdigest()[:12]
        last = os.fsencode(last)[: _LONGEST_NAME - 40].decode("utf-8", "ignore") + "-" + digest
    return folder.joinpath(*parents, last + PICTURE)
