"""What is measured against what: the pipeline, the whole command, each stage alone, and the naive loop.

Each peer is a function that loads what it needs and gives back a function that measures a number of passes over the
films. They run in processes of their own (see `processes`), for thread pools of one would slow the other down.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from bonefrac.decode import decode
from bonefrac.errors import UsageError
from bonefrac.model import find_bundle, load_model, read_manifest
from bonefrac.pipeline import Examiner, Stages, examine
from bonefrac.preprocess import InputSpec, to_input
from bonefrac.run import BatchSettings, run_batch
from bonefrac.sources import FilmFile
from bonefrac_benchmarks.films import fill


@dataclass(frozen=True)
class Job:
    """What every peer is given. `model` is a bundle's folder; `workers` threads and `batch_size` are the pipeline's."""

    films: tuple[Path, ...]
    model: Path
    workers: int
    batch_size: int


@dataclass(frozen=True)
class Window:
    """What one peer did without a break: films examined, wall seconds, and seconds by stage summed over threads."""

    films: int
    seconds: float
    stages: dict[str, float] = field(default_factory=dict)

    @property
    def films_a_second(self) -> float:
        return self.films / self.seconds


Measure = Callable[[int], Window]


def pipeline(job: Job) -> Measure:
    """`bonefrac.pipeline.examine` with all workers: files in, findings with regions out; no pictures, no outputs."""
    model = load_model(str(job.model), device="cpu")
    films = [FilmFile(path, str(number)) for number, path in enumerate(job.films)]

    def measure(passes: int) -> Window:
        how = Examiner(model, batch_size=job.batch_size, workers=job.workers)
        started = time.perf_counter()
        count = sum(1 for _ in examine(chain.from_iterable(repeat(films, passes)), how))
        return Window(count, time.perf_counter() - started, how.stages.seconds)

    return measure


def batch(job: Job) -> Measure:
    """`bonefrac.run.run_batch` as bonefrac-batch runs it, but for the start of Python: listing, loading the model,
    journal, thumbnails, pictures of the findings, CSV and report, into a temporary folder that is made anew."""

    def measure(passes: int) -> Window:
        with tempfile.TemporaryDirectory(prefix="bonefrac-bench-") as folder:
            films, out = Path(folder) / "films", Path(folder) / "out"
            fill(films, job.films, passes * len(job.films))
            settings = BatchSettings((films,), out, str(job.model), "cpu", batch_size=job.batch_size,
                                     workers=job.workers, quiet=True)  # fmt: skip
            started = time.perf_counter()
            summary = run_batch(settings)
            return Window(summary.counts["analysed"], time.perf_counter() - started)

    return measure


def stages(job: Job) -> Measure:
    """Each stage alone, one film after the other, on one thread.

    `infer` is a film's share of a batch as large as the pipeline's, `infer one` a batch of one film.
    """
    model = load_model(str(job.model), device="cpu")
    spec = model.manifest.input

    def measure(passes: int) -> Window:
        cv2.setNumThreads(1)
        clock = Stages()
        waiting: list[NDArray[np.uint8]] = []
        for number, path in enumerate(job.films * passes, 1):
            with clock.time("read"):
                data = _read(path)
            with clock.time("decode"):
                film = decode(data, long_side=spec.long_side)
            with clock.time("prepare"):
                waiting.append(to_input(film, spec)[0])
            with clock.time("infer one"):
                model.predict(waiting[-1][None])
            if number % job.batch_size == 0 or number == passes * len(job.films):
                with clock.time("infer"):
                    model.predict(np.stack(waiting))
                waiting.clear()
        return Window(passes * len(job.films), sum(clock.seconds.values()), clock.seconds)

    return measure


def _read(path: Path) -> bytes:
    """The pipeline's first stage: the file's bytes, and their hash for the film's row."""
    data = path.read_bytes()
    hashlib.sha256(data).digest()
    return data


def naive_float32(job: Job) -> Measure:
    """The loop of the reference student projects, on the bundle's float32 file."""
    return _naive(job, "float32")


def naive_int8(job: Job) -> Measure:
    """The same loop on the bundle's int8 file, for information."""
    return _naive(job, "int8")


def _naive(job: Job, precision: str) -> Measure:
    spec = read_manifest(job.model).input
    session = naive_session(job.model / precision_file(job.model, precision)[0])
    paths = [str(path) for path in job.films]

    def measure(passes: int) -> Window:
        started = time.perf_counter()
        for path in chain.from_iterable(repeat(paths, passes)):
            naive_probability(path, session, spec)
        return Window(passes * len(paths), time.perf_counter() - started)

    return measure


def naive_session(onnx: Path) -> Any:
    """ONNX Runtime as it comes: as many threads as cores, spinning; OpenCV's own threads are left on as well."""
    import onnxruntime

    return onnxruntime.InferenceSession(str(onnx), providers=["CPUExecutionProvider"])


def naive_probability(path: str, session: Any, spec: InputSpec) -> float:
    """Read in colour, squeeze to the model's size, bilinear, infer a batch of one. To grey after the resize: the
    bundle's input is one channel, and so it costs the naive loop next to nothing."""
    film = cv2.imread(path)
    if film is None:
        raise UsageError(f"{path}: the naive loop cannot read it; leave damaged films out")
    small = cv2.resize(film, (spec.width, spec.height), interpolation=cv2.INTER_LINEAR)
    grey = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY)
    return float(session.run(["probability"], {"pixels": grey[None, :, :, None]})[0][0])


def precision_file(bundle: Path, precision: str) -> tuple[str, str]:
    """Name and SHA-256 of a bundle's file, hashed here and now. Raises UsageError where the bundle has none."""
    precisions = read_manifest(bundle).precisions
    if precision not in precisions:
        raise UsageError(f"{bundle}: the bundle has no {precision} file, only {', '.join(precisions)}; name another")
    name = precisions[precision].file
    try:
        return name, hashlib.sha256((bundle / name).read_bytes()).hexdigest()
    except OSError as error:
        raise UsageError(f"{bundle}: {name} is missing or cannot be read; install the bundle again") from error


def bundle_folder(name_or_path: str) -> Path:
    """An absolute path, for the peers are other processes."""
    return find_bundle(name_or_path).resolve()


PEERS: dict[str, Callable[[Job], Measure]] = {
    "pipeline": pipeline,
    "batch": batch,
    "stages": stages,
    "naive float32": naive_float32,
    "naive int8": naive_int8,
}
