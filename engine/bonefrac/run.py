"""One batch: list, load, examine, journal, write out. Puts the rooms together for `bonefrac-batch` and the demo."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from bonefrac.errors import OutputError, UsageError
from bonefrac.examiner import (
    gets_picture,
    illustrator,
    model_record,
    result_key,
    versions,
)
from bonefrac.journal import Journal
from bonefrac.outputs import claim, out_folder, remove_parts, sweep, write_outputs
from bonefrac.pipeline import Examiner, Unchanged, examine
from bonefrac.report import prepare_report
from bonefrac.results import Failure, Finding, Result
from bonefrac.sinks import picture_path
from bonefrac.sources import OWN_FOLDER, FilmFiles, base_folder, list_films
from bonefrac.tuned import Ready, load_ready


@dataclass(frozen=True)
class BatchSettings:
    """What `bonefrac-batch` was asked for.

    `out` None: beside the input. `workers` and `batch_size` 0: as was measured on this machine, or one for each core
    and the device's usual one.
    """

    inputs: tuple[Path, ...]
    out: Path | None = None
    model: str = "flagship"
    device: str = "auto"
    precision: str = "auto"
    batch_size: int = 0
    workers: int = 0
    annotate: str = "findings"
    restart: bool = False
    jsonl: bool = False
    quiet: bool = False
    fail_fast: bool = False


@dataclass(frozen=True)
class Summary:
    """How a batch ended: counts by finding and status, where the outputs lie, and what examined the films."""

    counts: Counter[str]
    out: Path
    ready: Ready
    first_failure: Failure | None = None


def run_batch(settings: BatchSettings, loading: Future[Ready] | None = None) -> Summary:
    """Examine every file below the inputs and write the outputs; goes on where an earlier run was stopped.

    `loading` is the model that the settings ask for, where its loading was begun before.
    Raises UsageError (or its kinds) when it cannot be carried out, KeyboardInterrupt after keeping what is finished.
    """
    started = time.monotonic()
    inputs = [_existing(path) for path in settings.inputs]
    base = base_folder(inputs)
    out = out_folder(settings.out, inputs, base)
    films = list_films(inputs, base, out)
    if not films:
        raise UsageError(f"no files to analyse in {', '.join(map(str, settings.inputs))}")
    prepare_report()  # while the model is loaded
    ready = loading.result() if loading is not None else load_ready(
        settings.model, device=settings.device, precision=settings.precision,
        workers=settings.workers, batch_size=settings.batch_size,
    )  # fmt: skip
    model = ready.model
    claim(out)
    pictures = out / "annotated"
    with Journal(
        out / OWN_FOLDER / "journal.sqlite", result_key(model, settings.annotate), restart=settings.restart
    ) as journal:
        remove_parts(out)
        how = Examiner(
            model,
            batch_size=ready.way.batch_size,
            workers=ready.way.workers,
            known=_known(journal, settings.annotate, pictures),
            illustrate=illustrator(model, settings.annotate, partial(picture_path, pictures)),
        )
        new, first_failure = _examine_all(films, how, journal, settings)
        if first_failure is not None and settings.fail_fast:
            return Summary(Counter(failed=1), out, ready, first_failure)
        try:
            journal.keep_only(films)
            sweep(pictures, {picture_path(pictures, name) for name in _pictured(journal, settings.annotate)})
            counts = _counts(journal.results())
            counts.update(files=len(films), new=new, unchanged=len(films) - new)
            run = _run_record(settings, ready, how, counts, time.monotonic() - started)
            write_outputs(out, journal, run, jsonl=settings.jsonl)
            journal.commit()
        except OSError as error:
            raise OutputError(
                f"{out}: cannot be written: {error.strerror}; free some space, run the same again"
            ) from error
    return Summary(counts, out, ready)


def _examine_all(
    films: FilmFiles, how: Examiner, journal: Journal, settings: BatchSettings
) -> tuple[int, Failure | None]:
    """Examine and record; returns how many films were judged now, and the first that failed."""
    new, failed = 0, None
    results = examine(films, how)
    for result in results if settings.quiet or not sys.stderr.isatty() else _with_progress(results, len(films)):
        if isinstance(result, Unchanged):
            continue
        journal.record(result)
        new += 1
        if isinstance(result, Failure) and result.status == "failed" and failed is None:
            failed = result
            if settings.fail_fast:
                results.close()
                break
    return new, failed


def _with_progress(results: Iterable[Result | Unchanged], total: int) -> Iterator[Result | Unchanged]:
    """Rate, remaining time and findings so far, on the terminal."""
    from tqdm import tqdm  # not for a script's quiet run: importing it takes as long as a film

    found = Counter[str]()
    with tqdm(results, total=total, unit="film") as progress:
        for result in progress:
            if isinstance(result, Finding):
                found[result.finding] += 1
                progress.set_postfix(fracture=found["fracture"], doubt=found["doubt"], refresh=False)
            yield result


def _existing(path: Path) -> Path:
    if not os.path.exists(path):
        raise UsageError(f"{path}: there is no such file or folder")
    if not os.path.isdir(path) and not os.path.isfile(path):
        raise UsageError(f"{path}: is neither a file nor a folder, but a pipe or a device")
    return Path(os.path.abspath(path))


def _pictured(journal: Journal, annotated: str) -> Iterator[str]:
    return (result.source.path for result in journal.results() if gets_picture(result, annotated))


def _known(journal: Journal, annotated: str, pictures: Path) -> dict[str, str]:
    """What need not be examined again; a film whose picture was deleted must."""
    lost = {name for name in _pictured(journal, annotated) if not picture_path(pictures, name).is_file()}
    return {name: sha256 for name, sha256 in journal.known().items() if name not in lost}


def _counts(results: Iterator[Result]) -> Counter[str]:
    counts: Counter[str] = Counter(fracture=0, doubt=0, no_fracture_detected=0, not_analysed=0, failed=0)
    for result in results:
        counts[result.finding if isinstance(result, Finding) else result.status] += 1
    counts["analysed"] = counts["fracture"] + counts["doubt"] + counts["no_fracture_detected"]
    return counts


def _run_record(
    settings: BatchSettings, ready: Ready, how: Examiner, counts: Counter[str], seconds: float
) -> dict[str, object]:
    """What `run.json` holds and the report shows. No path of the machine: reports are handed on."""
    asked = {name: value for name, value in asdict(settings).items() if name not in ("inputs", "out", "quiet", "model")}
    return {
        "counts": dict(counts),
        "seconds": round(seconds, 2),
        "films_a_second": round(counts["new"] / seconds, 1) if counts["new"] else None,
        "stage_seconds": {stage: round(spent, 2) for stage, spent in how.stages.seconds.items()},
        "settings": {**asked, "workers": how.workers, "batch_size": how.batch_size},
        "runs": {**asdict(ready.way), "why": ready.why},
        "model": model_record(ready.model),
        "versions": versions(),
    }
