"""examine(films, model): bytes -> decode -> input -> batch -> results, in order, on all cores.

Each worker reads, decodes, prepares, infers and draws a small batch of its own on one shared, single-threaded session,
so that decoding never fights inference for the cores. A film is decoded once, for the model and its picture alike.
"""

from __future__ import annotations

import errno
import hashlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from bonefrac.decode import MAX_BYTES, decode
from bonefrac.errors import FilmError, NotAnalysed, OutputError, Unreadable
from bonefrac.model import Model
from bonefrac.preprocess import ToFilm, to_input
from bonefrac.regions import find_regions
from bonefrac.results import Failure, Finding, Radiograph, Result, Source
from bonefrac.sources import FilmFile

UNLIKE = "unlike the films this model was made for"
# what is wrong with one picture's name, and with no other's
_OF_ONE_NAME = frozenset({errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ})


@dataclass(frozen=True)
class Unchanged:
    """A film whose content was judged before with the same model and settings."""

    source: Source


@dataclass(frozen=True)
class View:
    """What a picture is made of: the film as it was decoded, the model's input (height, width, 1) and its heat map
    (h, w). What `later` is given is done beside the workers, and before the film's result is told: writing takes time
    of the disk alone."""

    film: Radiograph
    pixels: NDArray[np.uint8]
    heatmap: NDArray[np.float32]
    to_film: ToFilm
    later: Callable[[Callable[[], None]], None]


@dataclass
class Stages:
    """Seconds spent in each stage, summed over all workers."""

    seconds: dict[str, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - started
            with self._lock:
                self.seconds[stage] = self.seconds.get(stage, 0.0) + spent


@dataclass(frozen=True)
class Examiner:
    """How films are examined. `known` maps a film's path to the SHA-256 it was last judged with, to skip it;
    `illustrate` is called in the worker with each finding and returns it, with a thumbnail or a picture made."""

    model: Model
    batch_size: int = 1
    workers: int = 1
    known: Mapping[str, str] = field(default_factory=dict)
    illustrate: Callable[[Finding, View], Finding] | None = None
    stages: Stages = field(default_factory=Stages)


def examine(films: Iterable[FilmFile], how: Examiner) -> Generator[Result | Unchanged, None, None]:
    """Exactly one result per film, in their order. At most a few batches are read ahead.

    Raises OutputError when a picture cannot be written; what one file holds never ends the run.
    """
    cv2.setNumThreads(1)
    films = iter(films)
    pool = ThreadPoolExecutor(how.workers, thread_name_prefix="film")
    disk = ThreadPoolExecutor(how.workers, thread_name_prefix="film-picture")
    pending: deque[Future[list[_Judged]]] = deque()
    try:
        while batch := list(islice(films, how.batch_size)):
            pending.append(pool.submit(_examine_batch, batch, how, disk))
            if len(pending) > 2 * how.workers:
                yield from map(_settled, pending.popleft().result())
        while pending:
            yield from map(_settled, pending.popleft().result())
    finally:
        for threads in (pool, disk):
            threads.shutdown(wait=True, cancel_futures=True)


@dataclass(frozen=True)
class _Judged:
    """A result, and what of its picture is still on its way to the disk."""

    result: Result | Unchanged
    writing: list[Future[None]] = field(default_factory=list)


def _examine_batch(films: list[FilmFile], how: Examiner, disk: Executor) -> list[_Judged]:
    prepared = [_prepare(film, how) for film in films]
    ready = [item for item in prepared if isinstance(item, _Ready)]
    judged: Iterator[_Judged] = iter(())
    if ready:
        with how.stages.time("infer"):
            scores = how.model.predict(np.stack([item.pixels for item in ready]))
        judged = map(_judge, ready, *scores, [how] * len(ready), [disk] * len(ready))
    return [next(judged) if isinstance(item, _Ready) else _Judged(item) for item in prepared]


@dataclass(frozen=True)
class _Ready:
    source: Source
    film: Radiograph
    pixels: NDArray[np.uint8]
    to_film: ToFilm


def _prepare(film: FilmFile, how: Examiner) -> _Ready | Failure | Unchanged:
    """One file up to the model's input. The one place where whatever a file does wrong becomes its own row."""
    source = Source(film.name, "")
    try:
        with how.stages.time("read"):
            data = _read(film)
            source = Source(film.name, hashlib.sha256(data).hexdigest())
        if how.known.get(film.name) == source.sha256:
            return Unchanged(source)
        spec = how.model.manifest.input
        with how.stages.time("decode"):
            radiograph = decode(data, long_side=spec.long_side)
        with how.stages.time("prepare"):
            pixels, to_film = to_input(radiograph, spec)
        return _Ready(source, radiograph, pixels, to_film)
    except NotAnalysed as error:
        return Failure(source, "not_analysed", str(error))
    except FilmError as error:
        return Failure(source, "failed", str(error))
    except Exception as error:  # one film may not end the run: its row says what happened
        return Failure(source, "failed", f"cannot be read: {type(error).__name__}: {error}")


def _read(film: FilmFile) -> bytes:
    if film.problem:
        raise Unreadable(film.problem)
    if film.content is not None:
        return film.content
    try:
        with open(film.at, "rb") as file:
            if os.fstat(file.fileno()).st_size > MAX_BYTES:
                raise NotAnalysed(f"the file is larger than {MAX_BYTES // 2**20} MB")
            return file.read()
    except FileNotFoundError as error:
        raise Unreadable("the file was there when the folder was listed and is gone now") from error
    except PermissionError as error:
        raise Unreadable("no permission to read the file") from error
    except OSError as error:
        raise Unreadable(f"the file cannot be read: {error.strerror}") from error


def _judge(
    item: _Ready, probability: np.float32, heatmap: NDArray[np.float32], familiarity: np.float32,
    how: Examiner, disk: Executor,
) -> _Judged:  # fmt: skip
    if not how.model.is_familiar(float(familiarity)):
        return _Judged(Failure(item.source, "not_analysed", UNLIKE, item.film.width, item.film.height))
    manifest = how.model.manifest
    rounded = round(float(probability), 4)  # as the CSV shows it, so that a row never contradicts its threshold
    finding = how.model.finding(rounded)
    size = (item.film.width, item.film.height)
    suspicious = finding != "no_fracture_detected"
    regions = find_regions(heatmap, manifest.region_level, manifest.input, item.to_film, size) if suspicious else ()
    result = Finding(item.source, finding, rounded, regions, *size)
    judged = _Judged(result)
    if how.illustrate is None:
        return judged

    def later(job: Callable[[], None]) -> None:
        judged.writing.append(disk.submit(_timed, job, how.stages))

    try:
        with how.stages.time("picture"):
            drawn = how.illustrate(result, View(item.film, item.pixels, heatmap, item.to_film, later))
    except Exception as error:
        drawn = _without_picture(result, error)
    return replace(judged, result=drawn)


def _timed(job: Callable[[], None], stages: Stages) -> None:
    with stages.time("write"):
        job()


def _settled(judged: _Judged) -> Result | Unchanged:
    """The result, its picture being on disk."""
    for writing in judged.writing:
        try:
            writing.result()
        except Exception as error:
            return _without_picture(cast(Finding, judged.result), error)
    return judged.result


def _without_picture(finding: Finding, error: Exception) -> Finding:
    """The finding stands, with a word that its picture is missing. Raises OutputError where others would be too."""
    if not isinstance(error, OSError):
        return replace(finding, message=f"no picture: {type(error).__name__}: {error}")
    if error.errno in _OF_ONE_NAME:
        return replace(finding, message=f"no picture: its name cannot be written there: {error.strerror}")
    raise OutputError(f"a picture cannot be written to the output folder: {error.strerror}") from error
