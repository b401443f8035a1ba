"""A heat map -> the suspicious places on the film."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from bonefrac.preprocess import InputSpec, ToFilm
from bonefrac.results import Region

MAX_REGIONS = 8
_FINER = 5  # times finer the map is interpolated before it is cut; odd, so that cells keep their own value
_BOX_FROM = 0.75  # of its peak: a region's box goes round its summit, for a map's slopes reach far beyond a fracture


def find_regions(
    heatmap: NDArray[np.float32], level: float, spec: InputSpec, to_film: ToFilm, size: tuple[int, int]
) -> tuple[Region, ...]:
    """Connected areas of `heatmap` (h, w) in [0, 1] above `level`, best first, at most MAX_REGIONS; none of (0, 0),
    which a network without a heat map gives.

    A region's box holds what lies above `_BOX_FROM` of its peak (on FracAtlas' validation fold, boxes round the whole
    area overlapped the true ones by a third (IoU >= 0.3) less than half as often).
    `size` is (width, height) of the upright original in px: boxes and peaks are cut to it and hold at least a pixel.
    """
    if not heatmap.size or heatmap.max() < level:
        return ()
    rows, columns = heatmap.shape
    fine = cv2.resize(heatmap, (columns * _FINER, rows * _FINER), interpolation=cv2.INTER_LINEAR)
    _, labels, stats, _ = cv2.connectedComponentsWithStats((fine >= level).astype(np.uint8), connectivity=8)
    x_step, y_step = spec.width / fine.shape[1], spec.height / fine.shape[0]
    found = []
    for label, (left, top, width, height, _) in enumerate(stats.tolist()[1:], 1):  # 0 is what lies below the level
        frame = np.s_[top : top + height, left : left + width]
        area = np.where(labels[frame] == label, fine[frame], -1.0)
        peak_y, peak_x = np.array([top, left]) + np.unravel_index(int(area.argmax()), area.shape)
        summit_y, summit_x = np.array([[top], [left]]) + np.nonzero(area >= _BOX_FROM * area.max())
        x0, y0 = _inside(to_film(summit_x.min() * x_step, summit_y.min() * y_step), size)
        x1, y1 = _inside(to_film((summit_x.max() + 1) * x_step, (summit_y.max() + 1) * y_step), size)
        x, y = to_film((peak_x + 0.5) * x_step, (peak_y + 0.5) * y_step)
        if not (0 <= x < size[0] and 0 <= y < size[1]) or x1 - x0 < 1 or y1 - y0 < 1:
            continue  # it lies in the letterbox's border
        peak = _inside((x, y), (size[0] - 1, size[1] - 1))
        found.append(Region((x0, y0, x1, y1), peak, round(float(area.max()), 3)))
    found.sort(key=lambda region: (-region.score, region.box))
    return tuple(found[:MAX_REGIONS])


def _inside(point: tuple[float, float], size: tuple[int, int]) -> tuple[float, float]:
    x, y = (float(round(min(max(v, 0), limit))) for v, limit in zip(point, size, strict=True))
    return x, y
