"""Does the model look where the fracture is? Heat maps and regions against the boxes that people drew."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bonefrac.labelled import Box
from bonefrac.results import Region
from bonefrac_benchmarks.judged import Films, Judged
from bonefrac_benchmarks.statistics import by_group, froc, mean
from bonefrac_benchmarks.wording import interval, share

ENOUGH_IOU = 0.3


def localise(judged: Judged) -> dict[str, Any]:
    """The figures, for JSON. Shares are of the films with a fracture and a box; None where there is none of them, or
    the model has no heat map."""
    if not judged.heatmaps.size:
        judged = dataclasses.replace(judged, films=_without_boxes(judged.films))
    boxed = with_boxes(judged.films)
    heat = heat_in_boxes(judged)
    groups = [film.group for film, has_box in zip(judged.films.labels, boxed, strict=True) if has_box]
    return {
        "films_with_boxes": int(boxed.sum()),
        "best_region_centre_in_box": share(centre_hits(judged.films, judged.regions)),
        "map_peak_in_box": share(peak_hits(judged)),
        f"best_region_iou_from_{ENOUGH_IOU}": share(best_ious(judged) >= ENOUGH_IOU),
        "heat_in_boxes": interval(by_group(lambda weights: mean(heat, weights), groups)) if groups else None,
        "regions_on_a_film_without_fracture": _false_regions(judged),
        "froc": _froc(judged),
    }


def _without_boxes(films: Films) -> Films:
    return dataclasses.replace(films, labels=[dataclasses.replace(film, boxes=()) for film in films.labels])


def maps_agree(maps: NDArray[np.float32], exact: NDArray[np.float32]) -> dict[str, Any] | None:
    """Heat maps (n, h, w) against the exact ones of the same films: their correlation, the mean over films, and on how
    many the peaks lie in one cell or in neighbours; a map that is flat agrees in nothing. Films whose exact map is flat
    are left out; None where none is left."""
    rows = [row for row in range(len(exact)) if exact[row].size and np.ptp(exact[row]) > 0]
    if not rows:
        return None
    correlation, near = [], []
    for row in rows:
        if np.ptp(maps[row]) == 0:
            correlation.append(0.0)
            near.append(False)
            continue
        correlation.append(float(np.corrcoef(maps[row].ravel(), exact[row].ravel())[0, 1]))
        peaks = [np.unravel_index(of[row].argmax(), of[row].shape) for of in (maps, exact)]
        near.append(bool(np.abs(np.subtract(*peaks)).max() <= 1))
    return {
        "films": len(rows),
        "correlation": float(np.mean(correlation)),
        "peak_within_a_cell": share(np.array(near, bool)),
    }


def with_boxes(films: Films) -> NDArray[np.bool_]:
    """Which films (n,) have a fracture whose place is known."""
    return np.array([film.fractured and bool(film.boxes) for film in films.labels], bool)


def centre_hits(films: Films, regions: list[tuple[Region, ...]]) -> NDArray[np.bool_]:
    """For each film with boxes: does the best region's centre lie in one? No region is a miss."""
    return np.array([
        any(_holds(box, _centre(region.box)) for region in found[:1] for box in film.boxes)
        for film, found in zip(films.labels, regions, strict=True)
        if film.fractured and film.boxes
    ], bool)  # fmt: skip


def peak_hits(judged: Judged) -> NDArray[np.bool_]:
    """The pointing game: for each film with boxes, does the centre of its map's highest cell lie in one? (Zhang et al.,
    ECCV 2016, without their margin.)"""
    spec, hits = judged.model.manifest.input, []
    for row in np.flatnonzero(with_boxes(judged.films)):
        heatmap = judged.heatmaps[row]
        y, x = (np.array(np.unravel_index(int(heatmap.argmax()), heatmap.shape)) + 0.5) / heatmap.shape
        place = judged.films.to_film[row](float(x) * spec.width, float(y) * spec.height)
        hits.append(any(_holds(box, place) for box in judged.films.labels[row].boxes))
    return np.array(hits, bool)


def best_ious(judged: Judged) -> NDArray[np.float64]:
    """For each film with boxes: IoU of its best region with the box that it meets best, 0 without a region."""
    return np.array([
        max((_iou(region.box, box) for region in judged.regions[row][:1] for box in judged.films.labels[row].boxes),
            default=0.0)
        for row in np.flatnonzero(with_boxes(judged.films))
    ])  # fmt: skip


def heat_in_boxes(judged: Judged) -> NDArray[np.float64]:
    """For each film with boxes: the share of the heat map's sum inside them (Wang et al., Score-CAM, CVPRW 2020); a
    cell that a box cuts counts by its part inside."""
    shares = []
    for row in np.flatnonzero(with_boxes(judged.films)).tolist():
        heatmap = judged.heatmaps[row].astype(np.float64)
        inside = np.zeros(heatmap.shape)
        for box in judged.films.labels[row].boxes:
            inside = np.maximum(inside, _covered(judged, row, box))
        shares.append(float((heatmap * inside).sum() / max(heatmap.sum(), 1e-12)))
    return np.array(shares)


def false_regions(films: Films, regions: list[tuple[Region, ...]], shown: NDArray[np.bool_]) -> float:
    """Regions on a film without fracture, in the mean; only films that are `shown` to be suspicious have any."""
    return float(_shown_regions(regions, shown)[~films.fractured].mean())


def _shown_regions(regions: list[tuple[Region, ...]], shown: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.array([len(found) for found in regions]) * shown.astype(np.float64)


def _false_regions(judged: Judged) -> dict[str, Any]:
    shown = judged.called(judged.model.manifest.operating_points.sensitive)
    counts = _shown_regions(judged.regions, shown)[~judged.films.fractured]
    groups = [film.group for film in judged.films.labels if not film.fractured]
    return interval(by_group(lambda weights: mean(counts, weights), groups))


def _froc(judged: Judged) -> dict[str, Any] | None:
    """Lesions are boxes, marks all regions at the model's level by their score, whatever their film's probability; a
    mark is on a lesion where its centre is in the box. Films with a fracture but no box are left out."""
    scores: list[float] = []
    lesion: list[int] = []
    lesions = films = 0
    for film, found in zip(judged.films.labels, judged.regions, strict=True):
        if film.fractured and not film.boxes:
            continue
        boxes = film.boxes if film.fractured else ()
        for region in found:
            on = [number for number, box in enumerate(boxes) if _holds(box, _centre(region.box))]
            scores += [region.score] * max(1, len(on))  # boxes may overlap: one mark can be on two lesions
            lesion += [lesions + number for number in on] or [-1]
        lesions, films = lesions + len(boxes), films + 1
    if not lesions:
        return None
    curve = froc(np.array(scores), np.array(lesion, np.intp), lesions=lesions, films=films)
    return {"lesions": lesions, "films": films, **dataclasses.asdict(curve)}


def _covered(judged: Judged, row: int, box: Box) -> NDArray[np.float64]:
    """The part of each cell of the map (h, w) that lies in a box, in [0, 1]."""
    spec, to_film = judged.model.manifest.input, judged.films.to_film[row]
    corners = np.array([to_film.inverse(*box[:2]), to_film.inverse(*box[2:])]) / (spec.width, spec.height)
    parts = []
    for (low, high), cells in zip(corners.T, judged.heatmaps.shape[:0:-1], strict=True):  # x, then y
        edges = np.arange(cells + 1)
        parts.append(np.clip(np.minimum(edges[1:], high * cells) - np.maximum(edges[:-1], low * cells), 0, 1))
    return np.outer(parts[1], parts[0])


def _centre(box: Box) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def _holds(box: Box, place: tuple[float, float]) -> bool:
    return box[0] <= place[0] <= box[2] and box[1] <= place[1] <= box[3]


def _iou(one: Box, other: Box) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    common = max(0.0, width) * max(0.0, height)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return common / (areas - common)
