"""A heat map -> the suspicious places on the film."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from bonefrac.preprocess import InputSpec, ToFilm
from bonefrac.results import Region

MAX_REGIONS = 8
_FINER = 4  # the map is interpolated so many times finer before it is cut at the level


def find_regions(
    heatmap: NDArray[np.float32], level: float, spec: InputSpec, to_film: ToFilm, size: tuple[int, int]
) -> tuple[Region, ...]:
    """Connected areas of `heatmap` (h, w) in [0, 1] above `level`, best first, at most MAX_REGIONS.

    `size` is (width, height) of the upright original in px: boxes and peaks are cut to it and hold at least a pixel.
    """
    rows, columns = heatmap.shape
    fine = cv2.resize(heatmap, (columns * _FINER, rows * _FINER), interpolation=cv2.INTER_LINEAR)
    count, labels, stats, _ = cv2.connectedComponentsWithStats((fine >= level).astype(np.uint8), connectivity=8)
    x_step, y_step = spec.width / fine.shape[1], spec.height / fine.shape[0]
    found = []
    for label in range(1, count):
        left, top, width, height = (int(v) for v in stats[label, :4])
        area = np.where(labels == label, fine, -1.0)
        peak_y, peak_x = np.unravel_index(int(area.argmax()), area.shape)
        x0, y0 = _inside(to_film(left * x_step, top * y_step), size)
        x1, y1 = _inside(to_film((left + width) * x_step, (top + height) * y_step), size)
        if x1 - x0 < 1 or y1 - y0 < 1:  # lies in the letterbox's border
            continue
        peak = _inside(to_film((peak_x + 0.5) * x_step, (peak_y + 0.5) * y_step), (size[0] - 1, size[1] - 1))
        found.append(Region((x0, y0, x1, y1), peak, round(float(area.max()), 3)))
    found.sort(key=lambda region: (-region.score, region.box))
    return tuple(found[:MAX_REGIONS])


def _inside(point: tuple[float, float], size: tuple[int, int]) -> tuple[float, float]:
    x, y = (float(round(min(max(v, 0), limit))) for v, limit in zip(point, size, strict=True))
    return x, y
