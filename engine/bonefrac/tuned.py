"""How a model runs on this machine: in the way that `bonefrac check --tune` found fastest here, or else as is usual.

What was found lies in a small file in the user's settings folder, one a model file, and serves only where processor,
cores, backends and model file are those it was measured with. It never chooses the precision: operating points and
gates are those of the precision that the manifest names, and a model file is of one precision.
"""

from __future__ import annotations

import json
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from platformdirs import user_config_path

from bonefrac.backends import Share, usual_batch_size, usual_workers
from bonefrac.errors import OutputError
from bonefrac.machine import cpu, usable_cores
from bonefrac.model import Model, find_bundle, model_file, read_manifest, strictly
from bonefrac.sinks import atomic

_BACKENDS = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino", "openvino")


@dataclass(frozen=True)
class Way:
    """How a model runs: so many workers, each a small batch at a time, computed by so many threads for each.

    `workers` and `batch_size` 0: as is usual for the device."""

    device: str
    workers: int
    threads: int = 1
    batch_size: int = 0

    def __str__(self) -> str:
        return f"{self.device}, workers x threads {self.workers} x {self.threads}, batch {self.batch_size}"


@dataclass(frozen=True)
class Conditions:
    """What a measurement holds for: nothing of it may change."""

    cpu: str
    cores: int
    backends: dict[str, str]  # package -> version
    model_sha256: str


@dataclass(frozen=True)
class Profile:
    """What was measured: the fastest way, and films a second of inference alone in it."""

    conditions: Conditions
    way: Way
    films_a_second: float


@dataclass(frozen=True)
class Ready:
    """A loaded model, in which way it runs, and why in that. `warning` is a sentence for the user, or empty."""

    model: Model
    way: Way
    why: str
    warning: str = ""


def load_ready(
    name_or_path: str, *, device: str = "auto", precision: str = "auto", workers: int = 0, batch_size: int = 0,
    beside: Executor | None = None,
) -> Ready:  # fmt: skip
    """Load a bundle to run here; `beside` as for Model. `workers` and `batch_size` 0: as was measured, or as is usual.

    Raises BundleError, or UsageError for a device that is not there.
    """
    folder = find_bundle(name_or_path)
    cores = usable_cores()
    way, why, warning = Way(device, 0), f"device {device} was asked for", ""
    if device == "auto":
        why = "the usual way: bonefrac check --tune has not measured this model file on this machine"
        try:
            sha256 = model_file(folder, read_manifest(folder), precision)[1].sha256
            profile = read_profile(sha256)
            if profile is not None and profile.conditions == conditions(sha256):
                rate = f"{profile.films_a_second:g} films a second of inference alone"
                way, why = profile.way, f"the fastest that bonefrac check --tune measured on this machine: {rate}"
            elif profile is not None:
                why = "the usual way: processor, cores or backends are not those that were measured; tune again"
        except ValueError as error:
            why = warning = f"{error}, so the model runs in the usual way: type  bonefrac check --tune  again"
    if asked := [f"{name} {count}" for name, count in (("workers", workers), ("batch", batch_size)) if count]:
        why = f"{' and '.join(asked)} as was asked for; else {why}"
    way = replace(way, workers=workers or way.workers, batch_size=batch_size or way.batch_size)
    share = Share(way.workers or cores, way.threads)
    model = Model(folder, device=way.device, precision=precision, share=share, beside=beside)
    way = replace(
        way, workers=way.workers or usual_workers(model.provider, cores),
        batch_size=way.batch_size or usual_batch_size(model.provider),
    )  # fmt: skip
    return Ready(model, way, why, warning)


def profile_path(sha256: str) -> Path:
    """Where the profile of a model file lies."""
    return user_config_path("bonefrac") / "tuned" / f"{sha256}.json"


def read_profile(sha256: str) -> Profile | None:
    """The profile of a model file on this machine, None where there is none. Raises ValueError for a damaged one."""
    path = profile_path(sha256)
    try:
        profile: Profile = strictly(Profile, json.loads(path.read_text(encoding="utf-8")), "profile")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: is damaged or cannot be read") from error
    if min(profile.way.workers, profile.way.threads, profile.way.batch_size) < 1:
        raise ValueError(f"{path}: is damaged")
    return profile


def keep_profile(profile: Profile) -> Path:
    """Write a profile; returns where it lies. Raises OutputError."""
    path = profile_path(profile.conditions.model_sha256)
    try:
        with atomic(path) as file:
            file.write(json.dumps(asdict(profile), indent=1).encode() + b"\n")
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written: {error.strerror}; nothing is kept of what was measured"
        ) from error
    return path


def conditions(sha256: str) -> Conditions:
    """This machine's, for a model file."""
    return Conditions(cpu(), usable_cores(), _versions(), sha256)


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version  # only where there is a profile: it takes a while

    found = {}
    for package in _BACKENDS:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
