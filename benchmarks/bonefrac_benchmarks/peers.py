"""What is measured against what: the pipeline, the whole command, each stage alone, and the naive loop. Other engines
are in `engines`.

Each peer is a function that loads what it needs and gives back a function that measures a number of passes over the
films. They run in processes of their own (see `processes`), for thread pools of one would slow the other down.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from bonefrac.backends import Share, usual_batch_size, usual_workers
from bonefrac.decode import decode
from bonefrac.errors import UsageError
from bonefrac.machine import usable_cores
from bonefrac.model import load_model, read_manifest
from bonefrac.pipeline import Examiner, Stages, examine
from bonefrac.preprocess import InputSpec, to_input
from bonefrac.results import Finding
from bonefrac.run import BatchSettings, run_batch
from bonefrac.sources import FilmFile
from bonefrac_benchmarks.artefact import artefact
from bonefrac_benchmarks.films import fill


@dataclass(frozen=True)
class Job:
    """What every peer is given. `model` is a bundle's folder, `workers` are the pipeline's, 0 as many as bonefrac-batch
    takes for `device`, which it runs on; `keras`: the Keras file that the bundle was made from."""

    films: tuple[Path, ...]
    model: Path
    workers: int = 0
    device: str = "cpu"
    keras: Path | None = None


@dataclass(frozen=True)
class Window:
    """What one peer did without a break: films examined, wall seconds, processor seconds of all its threads, seconds by
    stage summed over threads, and the probability of each film of the last pass, in their order: NaN where it gave
    none, empty where the peer tells none. `peak_mb` (10^6 bytes) is the process's highest resident memory so far;
    `note`: what it says of itself."""

    films: int
    seconds: float
    cpu_s: float = 0.0
    stages: dict[str, float] = field(default_factory=dict)
    probabilities: tuple[float, ...] = ()
    peak_mb: float = 0.0
    note: str = ""

    @property
    def films_a_second(self) -> float:
        return self.films / self.seconds


Measure = Callable[[int], Window]
Peer = Callable[[Job], Measure]


def timed(films: int, work: Callable[[], list[float]], note: str = "") -> Window:
    """The window of `work`, which gives the probabilities of `films` films of one pass or of several."""
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    probabilities = work()
    wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
    return Window(films, wall_s, cpu_s, probabilities=tuple(probabilities), note=note)


def pipeline(job: Job) -> Measure:
    """`bonefrac.pipeline.examine` with all workers: files in, findings with regions out; no pictures, no outputs."""
    cores = usable_cores()
    model = load_model(str(job.model), device=job.device, share=Share(workers=job.workers or cores))
    workers = job.workers or usual_workers(model.provider, cores)
    films = [FilmFile(path, str(number)) for number, path in enumerate(job.films)]

    def measure(passes: int) -> Window:
        how = Examiner(model, batch_size=usual_batch_size(model.provider), workers=workers)

        def examined() -> list[float]:
            results = examine(chain.from_iterable(repeat(films, passes)), how)
            found = [result.probability if isinstance(result, Finding) else float("nan") for result in results]
            return found[-len(films) :]

        window = timed(passes * len(films), examined, f"{model.precision} on {model.provider}")
        return replace(window, stages=how.stages.seconds)

    return measure


def pipeline_openvino(job: Job) -> Measure:
    """The same with OpenVINO in ONNX Runtime's place. Raises UsageError where the engine cannot."""
    return pipeline(replace(job, device="openvino"))


def batch(job: Job) -> Measure:
    """`bonefrac.run.run_batch` as bonefrac-batch runs it, but for the start of Python: listing, loading the model,
    journal, thumbnails, pictures of the findings, CSV and report, into a temporary folder that is made anew."""
    return _batch(job, "findings")


def batch_annotate_all(job: Job) -> Measure:
    """The same with a picture of each film."""
    return _batch(job, "all")


def _batch(job: Job, annotate: str) -> Measure:
    def measure(passes: int) -> Window:
        with tempfile.TemporaryDirectory(prefix="bonefrac-bench-") as folder:
            films, out = Path(folder) / "films", Path(folder) / "out"
            fill(films, job.films, passes * len(job.films))
            settings = BatchSettings(
                (films,), out, str(job.model), job.device, workers=job.workers, annotate=annotate, quiet=True
            )
            started = time.perf_counter()
            summary = run_batch(settings)
            return Window(summary.counts["analysed"], time.perf_counter() - started)

    return measure


def stages(job: Job) -> Measure:
    """Each stage alone, one film after the other, on one thread.

    `infer` is a film's share of a batch as large as the pipeline's, `infer one` a batch of one film.
    """
    model = load_model(str(job.model), device=job.device)
    spec, batch_size = model.manifest.input, usual_batch_size(model.provider)

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
            if number % batch_size == 0 or number == passes * len(job.films):
                with clock.time("infer"):
                    model.predict(np.stack(waiting))
                waiting.clear()
        return Window(passes * len(job.films), sum(clock.seconds.values()), stages=clock.seconds)

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
    session = naive_session(job.model / artefact(job.model, precision).file)
    paths = [str(path) for path in job.films]

    def measure(passes: int) -> Window:
        def looped() -> list[float]:
            return [naive_probability(path, session, spec) for _ in range(passes) for path in paths][-len(paths) :]

        return timed(passes * len(paths), looped)

    return measure


def naive_session(onnx: Path) -> Any:
    """ONNX Runtime as it comes: as many threads as cores, spinning; OpenCV's own threads are left on as well."""
    import onnxruntime

    return onnxruntime.InferenceSession(str(onnx), providers=["CPUExecutionProvider"])


def naive_probability(path: str, session: Any, spec: InputSpec) -> float:
    """Of a fracture, in [0, 1]. Raises UsageError for a film that OpenCV cannot read."""
    return float(session.run(["probability"], {"pixels": naive_input(path, spec)[None]})[0][0])


def naive_input(path: str, spec: InputSpec) -> NDArray[np.uint8]:
    """Read in colour, squeeze to the model's size, bilinear: uint8 (height, width, 1). To grey after the resize: the
    bundle's input is one channel, and so it costs the naive loop next to nothing."""
    film = cv2.imread(path)
    if film is None:
        raise UsageError(f"{path}: the naive loop cannot read it; leave damaged films out")
    small = cv2.resize(film, (spec.width, spec.height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), np.uint8)[:, :, None]


PEERS: dict[str, Peer] = {  # of `throughput`
    "pipeline": pipeline,
    "batch": batch,
    "batch, annotate all": batch_annotate_all,
    "stages": stages,
    "naive float32": naive_float32,
    "naive int8": naive_int8,
}
