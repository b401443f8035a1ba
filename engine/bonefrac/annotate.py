"""One finding drawn on one film. Nothing of the original file but its pixels goes into the picture."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from bonefrac.header import MARK
from bonefrac.preprocess import InputSpec, ToFilm, to_8_bit
from bonefrac.results import Finding, Grey, Radiograph, Region

PICTURE_SIDE = 1024  # px that a picture's long side has at most; it has fewer where the film was decoded smaller
_COLOUR = {"fracture": (0, 159, 230), "doubt": (233, 180, 86)}  # Okabe and Ito's orange and sky blue, as BGR
_WORDS = {
    "fracture": "fracture suspected",
    "doubt": "doubt",
    "no_fracture_detected": "no fracture detected above threshold",
}
_OVERLAY = 0.35  # opacity of the heat map at 1.0
_NARROWEST = 280  # px that the words need; a narrower film gets black beside it
_FONT = cv2.FONT_HERSHEY_SIMPLEX

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Drawing:
    """What is drawn beside the finding: the heat map (h, w) in [0, 1], (0, 0) where the network has none, the map back
    to the film, and the caption."""

    heatmap: NDArray[np.float32]
    spec: InputSpec
    to_film: ToFilm
    region_level: float
    caption: str  # model, version, precision


def annotate(film: Radiograph, finding: Finding, drawing: Drawing) -> bytes:
    """A JPEG (4:4:4) of the film with its regions, and a band below it with finding, score, model and a warning.

    The heat map is shown on the fixed scale of its values, from half the region level on, never on the film's own
    maximum. Boxes are solid for `fracture` and dashed for `doubt`; an arrow leads to the best region's peak.
    """
    picture = np.asarray(cv2.cvtColor(to_8_bit(_at_most(film.pixels, PICTURE_SIDE)), cv2.COLOR_GRAY2BGR), np.uint8)
    scale = picture.shape[1] / film.width, picture.shape[0] / film.height
    if finding.finding != "no_fracture_detected" and drawing.heatmap.size:
        picture = _overlay(picture, film, drawing)
        line = max(1, round(max(picture.shape[:2]) / 500))
        colour = _COLOUR[finding.finding]
        for region in finding.regions:
            _box(picture, region, scale, colour, line, dashed=finding.finding == "doubt")
        _arrow(picture, _peak(film, finding, drawing), scale, colour, line)
    words = f"{_WORDS[finding.finding]}  {finding.probability:.2f}"
    if finding.finding != "no_fracture_detected" and not finding.regions:
        words += ", no place stands out" if drawing.heatmap.size else ", this model shows no place"
    width = max(picture.shape[1], _NARROWEST)
    beside = np.zeros((picture.shape[0], width - picture.shape[1], 3), np.uint8)
    band = _band(width, (words, drawing.caption, "not for diagnosis"))
    return _jpeg(np.concatenate([np.concatenate([picture, beside], axis=1), band]))


def _at_most(pixels: Grey, side: int) -> Grey:
    """A film (h, w), shrunk where its long side is longer."""
    scale = side / max(pixels.shape)
    if scale >= 1:
        return pixels
    return cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA).astype(pixels.dtype, copy=False)


def thumbnail(pixels: NDArray[np.uint8], finding: Finding, to_film: ToFilm, side: int = 112) -> bytes:
    """A small JPEG of the model's input uint8 (height, width, 1), with its boxes."""
    scale = side / max(pixels.shape[:2])
    small = cv2.cvtColor(cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), cv2.COLOR_GRAY2BGR)
    for region in finding.regions:
        (x0, y0), (x1, y1) = to_film.inverse(*region.box[:2]), to_film.inverse(*region.box[2:])
        corners = [(round(x * scale), round(y * scale)) for x, y in ((x0, y0), (x1, y1))]
        cv2.rectangle(small, corners[0], corners[1], _COLOUR.get(finding.finding, (255, 255, 255)), 1)
    return cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 65])[1].tobytes()


def arrow(peak: tuple[float, float], width: int, height: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """(tail, head) of an arrow to `peak` on a picture of that size: both on the picture, never the same point.

    The tail lies towards the picture's middle, where there is always room.
    """
    head = np.array([min(max(round(peak[0]), 0), width - 1), min(max(round(peak[1]), 0), height - 1)])
    towards = np.array([width / 2, height / 2]) - head
    distance = float(np.hypot(*towards))
    direction = towards / distance if distance > 0.05 * max(width, height) else np.array([0.6, 0.8])
    length = max(2.0, 0.12 * max(width, height))
    tail = np.clip(np.rint(head + direction * length), 0, (width - 1, height - 1)).astype(int)
    if (tail == head).all():
        tail = np.where(head == 0, np.minimum(1, (width - 1, height - 1)), head - 1)
    return (int(tail[0]), int(tail[1])), (int(head[0]), int(head[1]))


def _overlay(picture: Picture, film: Radiograph, drawing: Drawing) -> Picture:
    """Blend the heat map in, its values mapped back through the letterbox; only where there is heat."""
    height, width = picture.shape[:2]
    rows, columns = drawing.heatmap.shape
    per_x, per_y = columns / drawing.spec.width, rows / drawing.spec.height
    left, top = drawing.to_film.inverse(0, 0)
    x_step, y_step = film.width / drawing.to_film.x_scale / width, film.height / drawing.to_film.y_scale / height
    to_map = np.array([  # from a pixel of the picture to a place in the map, cells counted from their centres
        [x_step * per_x, 0, (left + x_step / 2) * per_x - 0.5],
        [0, y_step * per_y, (top + y_step / 2) * per_y - 0.5],
    ])  # fmt: skip
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    heat = cv2.warpAffine(drawing.heatmap, to_map, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    floor = drawing.region_level / 2
    x, y, w, h = cv2.boundingRect((heat > floor).astype(np.uint8))
    part = np.clip((heat[y : y + h, x : x + w] - floor) / (1 - floor), 0, 1)
    if part.size:
        opacity = (_OVERLAY * np.sqrt(part))[:, :, None]
        colour = cv2.applyColorMap((128 + 127 * part).astype(np.uint8), cv2.COLORMAP_INFERNO)
        picture[y : y + h, x : x + w] = picture[y : y + h, x : x + w] * (1 - opacity) + colour * opacity
    return picture


def _box(
    picture: Picture,
    region: Region,
    scale: tuple[float, float],
    colour: tuple[int, int, int],
    line: int,
    *,
    dashed: bool,
) -> None:
    x0, x1 = (round(v * scale[0]) for v in region.box[::2])
    y0, y1 = (round(v * scale[1]) for v in region.box[1::2])
    x1, y1 = min(x1, picture.shape[1] - 1), min(y1, picture.shape[0] - 1)
    if not dashed:
        cv2.rectangle(picture, (x0, y0), (x1, y1), colour, line)
        return
    dash = 6 * line
    for y in (y0, y1):
        for x in range(x0, x1, 2 * dash):
            cv2.line(picture, (x, y), (min(x + dash, x1), y), colour, line)
    for x in (x0, x1):
        for y in range(y0, y1, 2 * dash):
            cv2.line(picture, (x, y), (x, min(y + dash, y1)), colour, line)


def _peak(film: Radiograph, finding: Finding, drawing: Drawing) -> tuple[float, float]:
    """Where the arrow leads, in pixels of the upright original: the best region's peak, else the map's highest cell."""
    if finding.regions:
        return finding.regions[0].peak
    row, column = np.unravel_index(int(drawing.heatmap.argmax()), drawing.heatmap.shape)
    step_x, step_y = drawing.spec.width / drawing.heatmap.shape[1], drawing.spec.height / drawing.heatmap.shape[0]
    x, y = drawing.to_film((column + 0.5) * step_x, (row + 0.5) * step_y)
    return min(max(x, 0.0), film.width - 1.0), min(max(y, 0.0), film.height - 1.0)


def _arrow(
    picture: Picture, peak: tuple[float, float], scale: tuple[float, float], colour: tuple[int, int, int], line: int
) -> None:
    tail, head = arrow((peak[0] * scale[0], peak[1] * scale[1]), picture.shape[1], picture.shape[0])
    cv2.arrowedLine(picture, tail, head, colour, line, cv2.LINE_AA, tipLength=0.25)


def _band(width: int, texts: tuple[str, ...]) -> Picture:
    """Black lines of text as wide as the picture, each as large as fits; outside the film, so it hides nothing."""
    lines = []
    for text in texts:
        (full, high), base = cv2.getTextSize(text, _FONT, 1.0, 2)
        size = min((width - 16) / full, max(0.5, width / 1100))
        line = np.zeros((max(14, round((high + base) * size * 1.35)), width, 3), np.uint8)
        at = (8, round(line.shape[0] / 2 + high * size / 2))
        cv2.putText(line, text, at, _FONT, size, (255, 255, 255), max(1, round(1.6 * size)), cv2.LINE_AA)
        lines.append(line)
    return np.vstack(lines)


def _jpeg(picture: Picture) -> bytes:
    """Thin lines survive only without chroma subsampling. The comment makes our own pictures known again."""
    parameters = [cv2.IMWRITE_JPEG_QUALITY, 90,
                  cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]  # fmt: skip
    data = cv2.imencode(".jpg", picture, parameters)[1].tobytes()
    comment = MARK.encode()
    after = 4 + int.from_bytes(data[4:6], "big")  # JFIF wants its own segment first
    return data[:after] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + data[after:]
