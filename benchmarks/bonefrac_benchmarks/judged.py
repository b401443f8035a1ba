"""Labelled films, and what a model says of them: by the engine's own decoder, input, network and regions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from bonefrac.decode import decode
from bonefrac.errors import FilmError
from bonefrac.labelled import LabelledFilm
from bonefrac.machine import usable_cores
from bonefrac.model import Model
from bonefrac.pipeline import UNLIKE
from bonefrac.preprocess import InputSpec, ToFilm, to_input
from bonefrac.regions import find_regions
from bonefrac.results import Region

_BATCH = 4


@dataclass(frozen=True)
class Films:
    """Films as the model sees them: `pixels` uint8 (n, height, width, 1), maps back and sizes (width, height)."""

    labels: list[LabelledFilm]
    pixels: NDArray[np.uint8]
    to_film: list[ToFilm]
    sizes: list[tuple[int, int]]

    @property
    def fractured(self) -> NDArray[np.bool_]:
        return np.array([film.fractured for film in self.labels], bool)

    @property
    def groups(self) -> list[str]:
        return [film.group for film in self.labels]

    def only(self, keep: NDArray[np.bool_]) -> Films:
        """The films for which `keep` (n,) is true."""
        rows = np.flatnonzero(keep)
        return Films([self.labels[row] for row in rows], self.pixels[rows], [self.to_film[row] for row in rows],
                     [self.sizes[row] for row in rows])  # fmt: skip


@dataclass(frozen=True)
class LeftOut:
    """A film without a finding, and why."""

    film: LabelledFilm
    reason: str


@dataclass(frozen=True)
class Judged:
    """What `model` says of `films`: `probability` float64 (n,) in [0, 1], to four digits as rows have it, `heatmaps`
    float32 (n, h, w) in [0, 1], and the regions of every film, whatever its probability. `left_out` are the films that
    it sets aside as unlike those it was made for: the engine gives them no finding."""

    model: Model
    films: Films
    probability: NDArray[np.float64]
    heatmaps: NDArray[np.float32]
    regions: list[tuple[Region, ...]]
    left_out: list[LeftOut]

    def called(self, threshold: float) -> NDArray[np.bool_]:
        """Which films (n,) are called at this operating point, as the engine does."""
        return self.probability >= threshold


def load(labelled: Sequence[LabelledFilm], spec: InputSpec) -> tuple[Films, list[LeftOut]]:
    """Decode films with the engine's `decode` and `to_input`; those that cannot be are left out, with the reason."""

    def prepare(film: LabelledFilm) -> tuple[NDArray[np.uint8], ToFilm, tuple[int, int]] | LeftOut:
        try:
            radiograph = decode(film.path.read_bytes(), long_side=spec.long_side)
        except FilmError as error:
            return LeftOut(film, str(error))
        except OSError as error:
            return LeftOut(film, f"the file cannot be read: {error.strerror}")
        return *to_input(radiograph, spec), (radiograph.width, radiograph.height)

    with ThreadPoolExecutor(usable_cores()) as pool:
        progress = tqdm(pool.map(prepare, labelled), total=len(labelled), desc="films decoded", disable=None)
        prepared = list(zip(labelled, progress, strict=True))
    done = [(film, *parts) for film, parts in prepared if not isinstance(parts, LeftOut)]
    pixels = np.zeros((len(done), spec.height, spec.width, 1), np.uint8)
    for row, (_, of_film, _, _) in enumerate(done):
        pixels[row] = of_film
    films = Films([film for film, *_ in done], pixels, [item[2] for item in done], [item[3] for item in done])
    return films, [parts for _, parts in prepared if isinstance(parts, LeftOut)]


def predict_all(
    model: Model, pixels: NDArray[np.uint8]
) -> tuple[NDArray[np.float64], NDArray[np.float32], NDArray[np.float32]]:
    """Probabilities (n,) as the engine's rows have them, to four digits, heat maps (n, h, w) and familiarity (n,)."""
    batches = [pixels[at : at + _BATCH] for at in range(0, len(pixels), _BATCH)]
    with ThreadPoolExecutor(usable_cores()) as pool:
        scores = list(tqdm(pool.map(model.predict, batches), total=len(batches), desc=model.precision, disable=None))
    probability, heatmap, familiarity = (np.concatenate(parts) for parts in zip(*scores, strict=True))
    return np.array([round(float(p), 4) for p in probability]), heatmap, familiarity


def regions_of(films: Films, heatmaps: NDArray[np.float32], model: Model, level: float) -> list[tuple[Region, ...]]:
    """Every film's regions at `level`, whatever its probability."""
    found = partial(find_regions, level=level, spec=model.manifest.input)
    return [
        found(heatmap, to_film=to_film, size=size)
        for heatmap, to_film, size in zip(heatmaps, films.to_film, films.sizes, strict=True)
    ]


def judge(model: Model, films: Films) -> Judged:
    """Films without a finding, because they are unlike those the model was made for, are left out."""
    probability, heatmaps, familiarity = predict_all(model, films.pixels)
    familiar = np.array([model.is_familiar(float(value)) for value in familiarity], bool)
    left_out = [LeftOut(film, UNLIKE) for film in _those(films.labels, ~familiar)]
    films, heatmaps = films if familiar.all() else films.only(familiar), heatmaps[familiar]
    regions = regions_of(films, heatmaps, model, model.manifest.region_level)
    return Judged(model, films, probability[familiar], heatmaps, regions, left_out)


def judge_again(judged: Judged, model: Model) -> Judged:
    """The very films of `judged` by another file of the bundle, whatever it would set aside itself."""
    probability, heatmaps, _ = predict_all(model, judged.films.pixels)
    regions = regions_of(judged.films, heatmaps, model, model.manifest.region_level)
    return Judged(model, judged.films, probability, heatmaps, regions, judged.left_out)


def _those(labels: list[LabelledFilm], which: NDArray[np.bool_]) -> Iterator[LabelledFilm]:
    return (film for film, chosen in zip(labels, which, strict=True) if chosen)
