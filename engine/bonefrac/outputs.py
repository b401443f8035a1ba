"""The output folder: where it may lie, what is written into it, and what must go from it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from bonefrac.errors import OutputError, UsageError
from bonefrac.header import MARK
from bonefrac.journal import Journal
from bonefrac.report import write_report
from bonefrac.sinks import PART, PICTURE, CsvSink, JsonLinesSink, atomic
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
    if any(Path(os.path.realpath(entry)).is_relative_to(real) for entry in inputs):
        raise OutputError(f"{asked}: holds the input; choose another --out, for nothing is written beside originals")
    return out


def apart(inbox: Path, folder: Path, option: str) -> None:
    """Raises OutputError where the inbox and a folder of ours contain each other, through links or mounts either."""
    for inner, outer in ((folder, inbox), (inbox, folder)):
        real = Path(os.path.realpath(inner))
        above = [place for place in (real, *real.parents) if place.exists() and outer.exists()]
        if real.is_relative_to(os.path.realpath(outer)) or any(place.samefile(outer) for place in above):
            raise OutputError(
                f"{option} {folder}: lies in the inbox or holds it; choose another folder, for nothing is written"
                " beside originals, and nothing of ours is ever a film"
            )


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
    for part in out.rglob(PART + "*"):
        part.unlink(missing_ok=True)


def sweep(pictures: Path, expected: set[Path]) -> None:
    """Remove pictures of ours whose film is gone or whose finding changed, and folders left empty. What does not bear
    our mark is not ours."""
    for path in sorted(pictures.rglob("*" + PICTURE), reverse=True):
        if path not in expected and _is_ours(path):
            path.unlink()
            for folder in path.parents:
                if folder == pictures.parent or any(folder.iterdir()):
                    break
                folder.rmdir()


def _is_ours(path: Path) -> bool:
    with open(path, "rb") as file:
        return MARK.encode() in file.read(256)


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
