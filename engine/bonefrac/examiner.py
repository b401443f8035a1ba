"""What batch and watch share: how many workers, which films get a picture, what makes earlier rows void."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Callable
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import bonefrac
from bonefrac.annotate import PICTURE_SIDE, Drawing, annotate, thumbnail
from bonefrac.decode import decode
from bonefrac.model import PROVIDERS, Model
from bonefrac.pipeline import View
from bonefrac.results import Finding, Result
from bonefrac.sinks import atomic


def usual_batch_size(provider: str) -> int:
    """One film at a time on a CPU, where more gain nothing and cost memory; 16 elsewhere."""
    return 1 if provider == PROVIDERS["cpu"] else 16


def usable_cores() -> int:
    """Cores this process may use: its affinity, cut by a cgroup v2 CPU quota (kernel documentation, cgroup-v2.rst)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            cores = min(cores, max(1, round(int(quota) / int(period))))
    except (OSError, ValueError):
        pass  # no cgroup v2: the affinity stands
    return cores


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
    """What an Examiner calls with each finding: draws the picture where `place` says for the film's name, if one is
    asked for, and adds the thumbnail."""
    caption = f"{model.name} {model.precision}, bonefrac {bonefrac.__version__}"
    manifest = model.manifest

    def illustrate(finding: Finding, view: View) -> Finding:
        if gets_picture(finding, annotated):
            film = decode(view.data, long_side=PICTURE_SIDE)
            drawing = Drawing(view.heatmap, manifest.input, view.to_film, manifest.region_level, caption)
            with atomic(place(finding.source.path)) as file:
                file.write(annotate(film, finding, drawing))
        return replace(finding, thumbnail=thumbnail(view.pixels, finding, view.to_film))

    return illustrate


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
    """Of bonefrac, Python and the packages that results depend on."""
    packages = ("numpy", "opencv-python-headless", "simplejpeg", "onnxruntime", "onnxruntime-gpu")
    found = {name: _version(name) for name in packages}
    return {
        "bonefrac": bonefrac.__version__,
        "python": platform.python_version(),
        **{name: number for name, number in found.items() if number},
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
