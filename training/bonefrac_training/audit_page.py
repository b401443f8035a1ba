"""`audit.html`: one file with pictures of what was found, the most important first."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

import cv2
import jinja2
import numpy as np
from numpy.typing import NDArray

from bonefrac.sinks import atomic, printable
from bonefrac_training.facts import Facts
from bonefrac_training.features import bone_contours, lbp_map, open_film, pick
from bonefrac_training.findings import Case, Finding, Item

_MOST_ITEMS, _MOST_FILMS, _MOST_LINES, _MOST_NAMES = 8, 4, 40, 12  # audit.json has all
_SIDE, _FEATURE_SIDE = 150, 320  # px of a picture
_BONE, _POINT, _BOX = (70, 190, 255), (255, 190, 60), (60, 160, 255)  # blue, green, red


def write_page(path: Path, case: Case, findings: Sequence[Finding], summary: dict[str, object]) -> None:
    """Write the page. `summary` is what audit.json holds."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("bonefrac_training"), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    page = environment.get_template("audit.html").render(
        summary=summary,
        findings=[_shown(case, finding) for finding in findings],
        pictures=_feature_pictures(case.facts) if summary["features"] else [],
    )
    with atomic(path) as file:
        file.write(page.encode("utf-8", "backslashreplace"))


def _shown(case: Case, finding: Finding) -> dict[str, object]:
    """A finding for the template: a few items with pictures, more without, and how many are not shown."""
    with_films = [item for item in finding.items if any(case.facts[place].readable for place in item.places)]
    pictured = with_films[:_MOST_ITEMS]
    rest = [item for item in finding.items if item not in pictured]
    return {
        "finding": finding,
        "items": [_pictured(case, item) for item in pictured],
        "lines": [_line(case, item) for item in rest[:_MOST_LINES]],
        "hidden": max(0, len(rest) - _MOST_LINES),
    }


def _line(case: Case, item: Item) -> str:
    """What is said of an item, and its films where that does not name them."""
    names = [printable(case.facts[place].film.name) for place in item.places]
    if all(name in item.text for name in names):
        return item.text
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return " — ".join(filter(None, (item.text, ", ".join(names[:_MOST_NAMES]) + more)))


def _pictured(case: Case, item: Item) -> dict[str, object]:
    facts = [case.facts[place] for place in item.places]
    films = [
        {
            "name": printable(fact.film.name),
            "said": ", ".join(filter(None, (fact.film.label, fact.film.split, "" if fact.film.use else "not in use"))),
            "picture": _picture(_with_boxes(fact)) if fact.readable else "",
        }
        for fact in facts[:_MOST_FILMS]
    ]
    return {"films": films, "text": item.text, "more": max(0, len(facts) - _MOST_FILMS)}


def _with_boxes(fact: Facts) -> NDArray[np.uint8]:
    grey = open_film(fact, _SIDE)
    colour = cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR)
    scale = grey.shape[1] / fact.width
    for x0, y0, x1, y1 in fact.boxes:
        cv2.rectangle(colour, (round(x0 * scale), round(y0 * scale)), (round(x1 * scale), round(y1 * scale)), _BOX, 1)
    return np.asarray(colour, np.uint8)


def _picture(pixels: NDArray[np.uint8]) -> str:
    """A data URL of a JPEG of uint8 (h, w) or (h, w, 3), blue first."""
    data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 78])[1].tobytes()
    return "data:image/jpeg;base64," + base64.b64encode(data).decode("ascii")


def _feature_pictures(facts: Sequence[Facts]) -> list[dict[str, str]]:
    """Two films of each class with their bone contours, key points and texture map."""
    rows = []
    for place in pick(facts, 2):
        grey = open_film(facts[place], _FEATURE_SIDE)
        contours = cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR)
        cv2.drawContours(contours, bone_contours(grey), -1, _BONE, 1)
        points = cv2.SIFT.create().detect(grey, None)
        keyed = cv2.drawKeypoints(grey, points, np.zeros(0), _POINT, cv2.DRAW_MATCHES_FLAGS_DRAW_RICH_KEYPOINTS)
        rows.append({
            "label": facts[place].film.label,
            "name": printable(facts[place].film.name),
            "film": _picture(grey),
            "contours": _picture(np.asarray(contours, np.uint8)),
            "points": _picture(np.asarray(keyed, np.uint8)),
            "texture": _picture((lbp_map(grey) * 28).astype(np.uint8)),
        })  # fmt: skip
    return rows
