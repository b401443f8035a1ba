"""One batch: list, load, examine, journal, write out. Puts the rooms together for `bonefrac-batch` and the demo."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import bonefrac
from bonefrac.annotate import PICTURE_SIDE, Drawing, annotate, thumbnail
from bonefrac.decode import decode
from bonefrac.errors import OutputError, UsageError
from bonefrac.journal import Journal
from bonefrac.model import PROVIDERS, Model, load_model
from bonefrac.outputs import claim, out_folder, remove_parts, sweep, write_outputs
from bonefrac.pipeline import Examiner, Unchanged, View, examine
from bonefrac.results import Failure, Finding, Result
from bonefrac.sinks import atomic, picture_path
from bonefrac.sources import OWN_FOLDER, FilmFile, base_folder, list_films


@dataclass(frozen=True)
class BatchSettings:
    """What `bonefrac-batch` was asked for.

    `out` None: beside the input. `workers` 0: one for each core. `batch_size` 0: the device's usual one.
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
    """How a batch ended: counts by finding and status, and where the outputs lie."""

    counts: Counter[str]
    out: Path
    first_failure: Failure | None = None


def run_batch(settings: BatchSettings) -> Summary:
    """Examine every file below the inputs and write the outputs; goes on where an earlier run was stopped.

    Raises UsageError (or its kinds) when it cannot be carried out, KeyboardInterrupt after keeping what is finished.
    """
    started = time.monotonic()
    inputs = [_existing(path) for path in settings.inputs]
    base = base_folder(inputs)
    out = out_folder(settings.out, inputs, base)
    films = list_films(inputs, base, out)
    if not films:
        raise UsageError(f"no files to analyse in {', '.join(map(str, settings.inputs))}")
    model = load_model(settings.model, device=settings.device, precision=settings.precision)
    claim(out)
    pictures = out / "annotated"
    with Journal(out / OWN_FOLDER / "journal.sqlite", _key(settings, model), restart=settings.restart) as journal:
        remove_parts(out)
        how = Examiner(
            model,
            batch_size=settings.batch_size or usual_batch_size(model.provider),
            workers=settings.workers or usable_cores(),
            known=_known(journal, settings.annotate, pictures),
            illustrate=_illustrator(model, settings.annotate, pictures),
        )
        new, first_failure = _examine_all(films, how, journal, settings)
        if first_failure is not None and settings.fail_fast:
            return Summary(Counter(failed=1), out, first_failure)
        try:
            journal.keep_only({film.name for film in films})
            sweep(pictures, {picture_path(pictures, name) for name in _pictured(journal, settings.annotate)})
            counts = _counts(journal.results())
            counts.update(files=len(films), new=new, unchanged=len(films) - new)
            run = _run_record(settings, model, how, counts, time.monotonic() - started)
            write_outputs(out, journal, run, jsonl=settings.jsonl)
            journal.commit()
        except OSError as error:
            raise OutputError(
                f"{out}: cannot be written: {error.strerror}; free some space, run the same again"
            ) from error
    return Summary(counts, out)


def _examine_all(
    films: list[FilmFile], how: Examiner, journal: Journal, settings: BatchSettings
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


def usual_batch_size(provider: str) -> int:
    """One film at a time on a CPU, where more gain nothing and cost memory; 16 elsewhere."""
    return 1 if provider == PROVIDERS["cpu"] else 16


def usable_cores() -> int:
    """Cores this process may use: its affinity, cut by a cgroup v2 CPU quota (kernel documentation, cgroup-v2.rst)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            cores = min(cores, max(1, round(int(quota) / int(period))))
    except (OSError, ValueError):
        pass  # no cgroup v2: the affinity stands
    return cores


def _existing(path: Path) -> Path:
    if not os.path.exists(path):
        raise UsageError(f"{path}: there is no such file or folder")
    if not os.path.isdir(path) and not os.path.isfile(path):
        raise UsageError(f"{path}: is neither a file nor a folder, but a pipe or a device")
    return Path(os.path.abspath(path))


def _key(settings: BatchSettings, model: Model) -> str:
    """Whatever changes a row or a picture: another key makes an earlier journal void."""
    manifest = model.manifest
    parts = (bonefrac.__version__, model.sha256, model.provider, settings.annotate, asdict(manifest.operating_points),
             manifest.region_level, asdict(manifest.input), model.name)  # fmt: skip
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _wanted(result: Result, annotated: str) -> bool:
    if not isinstance(result, Finding) or annotated == "none":
        return False
    return annotated == "all" or result.finding != "no_fracture_detected"


def _pictured(journal: Journal, annotated: str) -> Iterator[str]:
    return (result.source.path for result in journal.results() if _wanted(result, annotated))


def _known(journal: Journal, annotated: str, pictures: Path) -> dict[str, str]:
    """What need not be examined again; a film whose picture was deleted must."""
    lost = {name for name in _pictured(journal, annotated) if not picture_path(pictures, name).is_file()}
    return {name: sha256 for name, sha256 in journal.known().items() if name not in lost}


def _illustrator(model: Model, annotated: str, pictures: Path) -> Callable[[Finding, View], Finding]:
    caption = f"{model.name} {model.precision}, bonefrac {bonefrac.__version__}"
    manifest = model.manifest

    def illustrate(finding: Finding, view: View) -> Finding:
        if _wanted(finding, annotated):
            film = decode(view.data, long_side=PICTURE_SIDE)
            drawing = Drawing(view.heatmap, manifest.input, view.to_film, manifest.region_level, caption)
            with atomic(picture_path(pictures, finding.source.path)) as file:
                file.write(annotate(film, finding, drawing))
        return replace(finding, thumbnail=thumbnail(view.pixels, finding, view.to_film))

    return illustrate


def _counts(results: Iterator[Result]) -> Counter[str]:
    counts: Counter[str] = Counter(fracture=0, doubt=0, no_fracture_detected=0, not_analysed=0, failed=0)
    for result in results:
        counts[result.finding if isinstance(result, Finding) else result.status] += 1
    counts["analysed"] = counts["fracture"] + counts["doubt"] + counts["no_fracture_detected"]
    return counts


def _run_record(
    settings: BatchSettings, model: Model, how: Examiner, counts: Counter[str], seconds: float
) -> dict[str, object]:
    """What `run.json` holds and the report shows. No path of the machine: reports are handed on."""
    manifest = model.manifest
    packages = ("numpy", "opencv-python-headless", "simplejpeg", "onnxruntime", "onnxruntime-gpu")
    asked = {name: value for name, value in asdict(settings).items() if name not in ("inputs", "out", "quiet", "model")}
    shipped = model.precision == manifest.default_precision
    return {
        "counts": dict(counts),
        "seconds": round(seconds, 2),
        "films_a_second": round(counts["new"] / seconds, 1) if counts["new"] else None,
        "stage_seconds": {stage: round(spent, 2) for stage, spent in how.stages.seconds.items()},
        "settings": {**asked, "workers": how.workers, "batch_size": how.batch_size},
        "model": {
            "name": model.name,
            "precision": model.precision,
            "sha256": model.sha256,
            "provider": model.provider,
            "operating_points": asdict(manifest.operating_points),
            "region_level": manifest.region_level,
            "training_data": asdict(manifest.training_data),
            "figures": manifest.figures if shipped else {},
            "limits": manifest.limits,
        },
        "versions": {
            "bonefrac": bonefrac.__version__,
            "python": platform.python_version(),
            **{name: found for name in packages if (found := _version(name))},
        },
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
