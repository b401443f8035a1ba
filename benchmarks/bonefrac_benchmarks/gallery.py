"""The worst errors, as the engine draws them: only a report's page shows them, for they are films."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

import bonefrac
from bonefrac.annotate import PICTURE_SIDE, Drawing, annotate
from bonefrac.decode import decode
from bonefrac.results import Finding, Source
from bonefrac.sinks import printable
from bonefrac_benchmarks.judged import Judged

_MOST, _MOST_FLIPS = 6, 24


@dataclass(frozen=True)
class Picture:
    """A data URL, words, and the true boxes: (left, top, width, height) in percent of the picture."""

    url: str
    words: str
    boxes: list[tuple[float, float, float, float]]


def misses(judged: Judged) -> list[Picture]:
    """Fractured films below the sensitive point, the least suspicious first."""
    missed = judged.films.fractured & ~judged.called(judged.model.manifest.operating_points.sensitive)
    return [_picture(judged, row) for row in _first(missed, judged.probability)]


def false_alarms(judged: Judged) -> list[Picture]:
    """Films without a fracture above the specific point, the most suspicious first."""
    called = ~judged.films.fractured & judged.called(judged.model.manifest.operating_points.specific)
    return [_picture(judged, row) for row in _first(called, -judged.probability)]


def flips(judged: Judged, again: Judged) -> list[tuple[Picture, Picture]]:
    """Films whose decision at an operating point differs between two files of the bundle: by the one and by the other,
    those that differ most first."""
    points = judged.model.manifest.operating_points
    differs = np.zeros(len(judged.probability), bool)
    for threshold in (points.sensitive, points.specific):
        differs |= judged.called(threshold) != again.called(threshold)
    rows = _first(differs, -np.abs(judged.probability - again.probability), _MOST_FLIPS)
    return [(_picture(judged, row), _picture(again, row)) for row in rows]


def _first(of: NDArray[np.bool_], by: NDArray[np.float64], most: int = _MOST) -> list[int]:
    return sorted(np.flatnonzero(of).tolist(), key=lambda row: float(by[row]))[:most]


def _picture(judged: Judged, row: int) -> Picture:
    label, manifest = judged.films.labels[row], judged.model.manifest
    data = label.path.read_bytes()
    film = decode(data, long_side=PICTURE_SIDE)
    probability = float(judged.probability[row])
    name = judged.model.finding(probability)
    finding = Finding(
        Source(label.path.name, hashlib.sha256(data).hexdigest()), name, probability,
        judged.regions[row] if name != "no_fracture_detected" else (), film.width, film.height,
    )  # fmt: skip
    caption = f"{judged.model.name} {judged.model.precision}, bonefrac {bonefrac.__version__}"
    drawing = Drawing(judged.heatmaps[row], manifest.input, judged.films.to_film[row], manifest.region_level, caption)
    jpeg = annotate(film, finding, drawing)
    height, width = np.asarray(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_GRAYSCALE)).shape  # with the band
    rows, columns = film.pixels.shape
    across, down = 100 * columns / film.width / width, 100 * rows / film.height / height
    boxes = [(x0 * across, y0 * down, (x1 - x0) * across, (y1 - y0) * down) for x0, y0, x1, y1 in label.boxes]
    truth = "fracture" if label.fractured else "no fracture"
    words = ", ".join(
        [printable(label.path.name), truth, f"{judged.model.precision} {probability:.4f}", *label.regions]
    )
    return Picture("data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii"), words, boxes)
