"""What a part must hold before anything of it is read: a file that was cut, changed by hand or written by something
else is refused in one sentence, and not half-way through a table."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bonefrac_benchmarks.accuracy import SPECIFICITY
from bonefrac_benchmarks.localisation import ENOUGH_IOU


@dataclass(frozen=True)
class _Maybe:
    """Null, or of that shape."""

    shape: Any


# A dictionary has the keys that are named; `?` after a name: it may be missing; `*`: all others are of this shape. A
# list has any number of its one shape. `float` is any finite number.
_SPREAD: dict[str, Any] = {"median": float, "min": float, "max": float, "interval": _Maybe([float]), "samples": [float]}
_GOAL = {**_SPREAD, "name": str, "unit": str, "digits": int, "reached": bool, "at_least?": float, "at_most?": float}
_FIGURE = _Maybe({name: _Maybe(float) for name in ("value", "low", "high")} | {"count?": int, "of?": int})
_FILE = {"model": str, "precision": str, "file": str, "sha256": str}
_MACHINE = {
    "cpu": str, "cores": int, "quota?": object, "flags": [str], "memory_gb": float, "power": {"*": str}, "system": str,
    "python": str, "versions": {"*": str}, "load": _Maybe(float),
}  # fmt: skip
_VALIDITY = {"valid": bool, "enough": bool, "unstable": bool, "line": str}
_TIMED = {"artefact": _FILE, "machine": _MACHINE, "goals": [_GOAL], "validity": _VALIDITY, "other_files?": [_FILE]}
_WAITED = {
    **_TIMED,
    "row_s": {
        "quantiles": {"*": {"needs": int, **{name: _Maybe(float) for name in ("value", "low", "high")}}},
        "samples": [float],
    },
}
_RATE = {**_SPREAD, "what": str}
_PEER = {
    "what": str, "note": str, "own_input": str, "films_a_second": _SPREAD, "cpu_ms_a_film": _SPREAD, "start_s": _SPREAD,
    "peak_mb": float, "install_mb": float, "apart": {"median": float, "worst": float}, "validity?": _VALIDITY,
}  # fmt: skip
_POINT = {
    "threshold": float, "sensitivity": _FIGURE, "specificity": _FIGURE, "precision": _FIGURE, "accuracy": _FIGURE,
    "f1": _FIGURE, "confusion": dict.fromkeys(
        ("true_positive", "false_negative", "false_positive", "true_negative"), int
    ),
}  # fmt: skip
_SOME = [
    {"of": str, "films": int, "fractured": int, "auroc": _FIGURE, "sensitivity": _FIGURE, "specificity": _FIGURE},
]
_RANKING = {
    **dict.fromkeys(("auroc", "auprc", f"sensitivity_at_specificity_{SPECIFICITY:.2f}"), _FIGURE),
    "auroc_delong": _FIGURE.shape,
}
_VALUES = {"ppv": _FIGURE, "npv": _FIGURE}
_BETWEEN = {
    "precisions": [str], "other_sha256": str, "films": int, "auroc_difference": float, "delong_p": float,
    "heatmaps": _Maybe({"films": int, "correlation": float, "peak_within_a_cell": _FIGURE}),
    "points": {"*": {"flips": int, "right": {"*": int}, "mcnemar_p": float}},
}  # fmt: skip

SHAPES: dict[str, Any] = {
    "throughput": {
        **_TIMED, "settings": {"workers": int}, "films": int,
        "films_a_second": {"pipeline": _RATE, "batch": _RATE, "*": _RATE}, "stage_alone_ms_a_film": {"*": _SPREAD},
        "stage_within_pipeline_ms_a_film": {"*": _SPREAD}, "bound_films_a_second": _SPREAD,
        "cores_had_by_pipeline": _SPREAD,
    },
    "latency": _WAITED,
    "watch": {**_WAITED, "settings": {"rate": float, "settle": float}},
    "startup": {**_TIMED, "batch_s": _SPREAD, "imports_s": _SPREAD},
    "peers": {
        **_TIMED, "settings": {"keras": _Maybe(str)}, "films": int, "peers": {"bonefrac": _PEER, "*": _PEER},
        "absent": {"*": str},
    },
    "scale": {
        **_TIMED, "settings": {"blank": bool, "rounds": int}, "growth": _FIGURE,
        "runs": [{"films": int, "seconds": float, "peak_mb": float}],
        "sizes": [{"films": int, "ms_a_film": _SPREAD, "peak_mb": _SPREAD}],
    },
    "accuracy": {
        "artefact": {**_FILE, "region_level": float, "points_chosen_on": str, "points_chosen_with": str},
        "machine": _MACHINE, "split": {"name": str, "films": int, "warning": str}, "films": int, "fractured": int,
        "groups": int, "points": {"sensitive": _POINT, "specific": _POINT}, "ranking": _RANKING,
        "prevalence": [{"prevalence": float, "sensitive": _VALUES, "specific": _VALUES}],
        "calibration": {"bins": int, "ece": float, "brier": float,
                        "reliability": [{"films": int, "probability": float, "fractured": float}]},
        "body_regions": _SOME, "hardware": _SOME, "between_precisions": _Maybe(_BETWEEN), "limits": [str],
        "localisation": {"films_with_boxes": int, "froc?": object, **dict.fromkeys((
            "best_region_centre_in_box", "map_peak_in_box", f"best_region_iou_from_{ENOUGH_IOU}", "heat_in_boxes",
            "regions_on_a_film_without_fracture"), _FIGURE)},
    },
}  # fmt: skip
_NOT_EMPTY = ("samples", "runs", "sizes", "peers")


def fault(part: Any) -> str:
    """What is first found wrong with a part, in words; empty where nothing is, and for parts that no report takes."""
    if not isinstance(part, dict) or not isinstance(part.get("benchmark"), str):
        return "it does not say what was measured (benchmark)"
    return next(_faults(part, SHAPES.get(part["benchmark"], {}), ""), "") or _fault_between(part)


def _fault_between(part: dict[str, Any]) -> str:
    """Each point tells of both precisions how often they are right."""
    between = part.get("between_precisions") if part["benchmark"] == "accuracy" else None
    if between is None:
        return ""
    precisions = set(between["precisions"])
    ok = len(precisions) == 2 and all(point["right"].keys() >= precisions for point in between["points"].values())
    return "" if ok else "between_precisions does not tell of two precisions how often each is right"


def _faults(value: Any, shape: Any, where: str) -> Iterator[str]:
    name = where.rpartition(".")[2]
    if isinstance(shape, _Maybe):
        if value is not None:
            yield from _faults(value, shape.shape, where)
    elif isinstance(shape, dict):
        yield from _of_dict(value, shape, where)
    elif isinstance(shape, list):
        if not isinstance(value, list):
            yield f"{where} is no list"
            return
        if not value and name in _NOT_EMPTY:
            yield f"{where} is empty"
        for number, item in enumerate(value):
            yield from _faults(item, shape[0], f"{where}[{number}]")
    elif shape is float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            yield f"{where} is no number"
    elif not isinstance(value, shape) or (shape is int and isinstance(value, bool)):
        yield f"{where} is no {_WORDS[shape]}"


def _of_dict(value: Any, shape: dict[str, Any], where: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{where} is no table of names and values"
        return
    named = {name.rstrip("?"): (of, name.endswith("?")) for name, of in shape.items() if name != "*"}
    for name, (of, may_miss) in named.items():
        place = f"{where}.{name}" if where else name
        if name in value:
            yield from _faults(value[name], of, place)
        elif not may_miss:
            yield f"{place} is missing"
    if "at_least" in named and not ("at_least" in value or "at_most" in value):
        yield f"{where} has no target"
    for name in value.keys() - named.keys() if "*" in shape else ():
        yield from _faults(value[name], shape["*"], f"{where}.{name}")


_WORDS = {str: "text", int: "whole number", bool: "yes or no"}
