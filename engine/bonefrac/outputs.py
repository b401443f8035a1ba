"""The output folder: where it may lie, what is written into it, and what must go from it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from bonefrac.errors import OutputError, UsageError
from bonefrac.journal import Journal
from bonefrac.report import write_report
from bonefrac.sinks import CsvSink, JsonLinesSink, atomic
from bonefrac.sources import OWN_FOLDER


def out_folder(asked: Path | None, inputs: list[Path], base: Path) -> Path:
    """The output folder: as asked, or the input's name plus `-results`, beside it."""
    if asked is None:
        beside = inputs[0].with_suffix("") if len(inputs) == 1 and inputs[0].is_file() else base
        if not beside.name:
            raise UsageError("the input is a whole drive: name a folder for the results with --out DIR")
        return beside.with_name(beside.name + "-results")
    out = Path(os.path.abspath(asked))
    real = os.path.realpath(out)
    if any(os.path.realpath(entry) == real for entry in (*inputs, base)):
        raise OutputError(f"{asked}: is the input folder; choose another --out, for originals are never written to")
    return out


def claim(out: Path) -> None:
    """Make the output folder ours. Refuses one that holds other things."""
    try:
        if out.exists() and not (out / OWN_FOLDER).is_dir() and any(out.iterdir()):
            raise OutputError(
                f"{out}: holds files that are not bonefrac's; choose an empty or new folder with --out DIR"
            )
        (out / OWN_FOLDER).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{out}: cannot be made or written: {error.strerror}; choose another folder with --out DIR"
        ) from error


def remove_parts(out: Path) -> None:
    """Temporary files that a killed run left behind."""
    for part in out.rglob(".part-*"):
        part.unlink(missing_ok=True)


def sweep(pictures: Path, expected: set[Path]) -> None:
    """Remove pictures of films that are gone or whose finding changed, and folders left empty."""
    for path in sorted(pictures.rglob("*"), reverse=True):
        if path.is_dir():
            if not any(path.iterdir()):
                path.rmdir()
        elif path not in expected:
            path.unlink()


def write_outputs(out: Path, journal: Journal, run: dict[str, Any], *, jsonl: bool) -> None:
    """`results.csv`, the report and `run.json`, and `results.jsonl` where asked for; all from the journal and `run`."""
    model = run["model"]
    columns = {"model": model["name"], "model_sha256": model["sha256"], "precision": model["precision"]}
    with atomic(out / "results.csv") as file:
        sink = CsvSink(file, columns)
        for result in journal.results():
            sink.write(result)
    if jsonl:
        with atomic(out / "results.jsonl") as file:
            lines = JsonLinesSink(file, columns)
            for result in journal.results():
                lines.write(result)
    write_report(out / "report.html", worklist=journal.results("suspicion"), run=run)
    with atomic(out / "run.json") as file:
        file.write(json.dumps(run, indent=1).encode() + b"\n")
