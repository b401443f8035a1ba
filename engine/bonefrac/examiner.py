"""What batch and watch share: which films get a picture, what makes earlier rows void."""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import bonefrac
from bonefrac.annotate import Drawing, annotate, thumbnail
from bonefrac.model import Model
from bonefrac.pipeline import View
from bonefrac.results import Finding, Result
from bonefrac.sinks import atomic


def result_key(model: Model, annotated: str) -> str:
    """Whatever changes a row or a picture: another key makes an earlier journal void."""
    manifest = model.manifest
    parts = (bonefrac.__version__, model.sha256, model.provider, annotated, asdict(manifest.operating_points),
             manifest.region_level, asdict(manifest.input), model.name)  # fmt: skip
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def gets_picture(result: Result, annotated: str) -> bool:
    """Whether `annotated` (findings, all or none) asks for a picture of this result."""
    if not isinstance(result, Finding) or annotated == "none":
        return False
    return annotated == "all" or result.finding != "no_fracture_detected"


def illustrator(model: Model, annotated: str, place: Callable[[str], Path]) -> Callable[[Finding, View], Finding]:
    """What an Examiner calls with each finding: draws the picture, to be written where `place` says for the film's
    name, if one is asked for, and adds the thumbnail."""
    caption = f"{model.name} {model.precision}, bonefrac {bonefrac.__version__}"
    manifest = model.manifest

    def illustrate(finding: Finding, view: View) -> Finding:
        if gets_picture(finding, annotated):
            drawing = Drawing(view.heatmap, manifest.input, view.to_film, manifest.region_level, caption)
            view.later(partial(_write, place(finding.source.path), annotate(view.film, finding, drawing)))
        return replace(finding, thumbnail=thumbnail(view.pixels, finding, view.to_film))

    return illustrate


def _write(path: Path, picture: bytes) -> None:
    with atomic(path) as file:
        file.write(picture)


def model_record(model: Model) -> dict[str, object]:
    """The model that ran, as reports show it."""
    manifest = model.manifest
    shipped = model.precision == manifest.default_precision
    return {
        "name": model.name,
        "precision": model.precision,
        "sha256": model.sha256,
        "provider": model.provider,
        "operating_points": asdict(manifest.operating_points),
        "region_level": manifest.region_level,
        "training_data": asdict(manifest.training_data),
        "figures": manifest.figures if shipped else {},
        "limits": manifest.limits,
    }


def versions() -> dict[str, str]:
    """Of bonefrac, Python and the packages in use that results depend on, as they tell it themselves."""
    packages = ("numpy", "cv2", "simplejpeg", "onnxruntime", "openvino")
    return {
        "bonefrac": bonefrac.__version__,
        "python": platform.python_version(),
        **{name: str(sys.modules[name].__version__) for name in packages if name in sys.modules},
    }
