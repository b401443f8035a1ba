"""examine(films, model): bytes -> decode -> input -> batch -> results, in order, on all cores.

Each worker reads, decodes, prepares and infers a small batch of its own on one shared, single-threaded session, so that
decoding never fights inference for the cores.
"""

from __future__ import annotations

import errno
import hashlib
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice

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
    """What a picture is made of: the file's bytes, the model's input (height, width, 1) and its heat map (h, w)."""

    data: bytes
    pixels: NDArray[np.uint8]
    heatmap: NDArray[np.float32]
    to_film: ToFilm


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
    pending: deque[Future[list[Result | Unchanged]]] = deque()
    try:
        while batch := list(islice(films, how.batch_size)):
            pending.append(pool.submit(_examine_batch, batch, how))
            if len(pending) > 2 * how.workers:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _examine_batch(films: list[FilmFile], how: Examiner) -> list[Result | Unchanged]:
    prepared = [_prepare(film, how) for film in films]
    ready = [item for item in prepared if isinstance(item, _Ready)]
    judged: Iterator[Result] = iter(())
    if ready:
        with how.stages.time("infer"):
            scores = how.model.predict(np.stack([item.pixels for item in ready]))
        judged = map(_judge, ready, *scores, [how] * len(ready))
    return [next(judged) if isinstance(item, _Ready) else item for item in prepared]


@dataclass(frozen=True)
class _Ready:
    source: Source
    data: bytes
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
        return _Ready(source, data, radiograph, pixels, to_film)
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
        with open(film.path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise Unreadable("the file was there when the folder was listed and is gone now") from error
    except PermissionError as error:
        raise Unreadable("no permission to read the file") from error
    except OSError as error:
        raise Unreadable(f"the file cannot be read: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise NotAnalysed(f"the file is larger than {MAX_BYTES // 2**20} MB")
    return data


def _judge(
    item: _Ready, probability: np.float32, heatmap: NDArray[np.float32], familiarity: np.float32, how: Examiner
) -> Finding | Failure:
    if not how.model.is_familiar(float(familiarity)):
        return Failure(item.source, "not_analysed", UNLIKE, item.film.width, item.film.height)
    manifest = how.model.manifest
    rounded = round(float(probability), 4)  # as the CSV shows it, so that a row never contradicts its threshold
    finding = how.model.finding(rounded)
    size = (item.film.width, item.film.height)
    regions = find_regions(heatmap, manifest.region_level, manifest.input, item.to_film, size)
    result = Finding(item.source, finding, rounded, regions if finding != "no_fracture_detected" else (), *size)
    if how.illustrate is None:
        return result
    with how.stages.time("picture"):
        try:
            return how.illustrate(result, View(item.data, item.pixels, heatmap, item.to_film))
        except OSError as error:
            if error.errno in _OF_ONE_NAME:
                return replace(result, message=f"no picture: its name cannot be written there: {error.strerror}")
            raise OutputError(f"a picture cannot be written to the output folder: {error.strerror}") from error
        except Exception as error:  # the finding stands, with a word that its picture is missing
            return replace(result, message=f"no picture: {type(error).__name__}: {error}")
