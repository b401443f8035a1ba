"""A bundle: its manifest, and a session that computes its network.

Model files are data: their SHA-256 is checked before they are loaded, and nothing in them is executed but ONNX.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, is_dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

from bonefrac.backends import Share, open_session
from bonefrac.errors import BundleError
from bonefrac.preprocess import SPEC_VERSION, InputSpec
from bonefrac.results import FindingName

FORMAT = 2
Precision = Literal["int8", "float32", "float16"]
_ALONE = Share()
_GOLDEN_TOLERANCE = 0.02  # other CPUs sum int8 products in another order: 0.001 was seen; wrong polarity is far off


@dataclass(frozen=True)
class OperatingPoints:
    """Probabilities at or above which a film is suspicious, chosen on validation films only, and how."""

    sensitive: float
    specific: float
    chosen_on: str


@dataclass(frozen=True)
class TrainingData:
    """What the network learned from; `sha256` is that of the list of its films."""

    name: str
    licence: str
    source: str
    sha256: str


@dataclass(frozen=True)
class FileEntry:
    """A file of the bundle."""

    file: str
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """`manifest.json`, read strictly: a missing or unknown key is an error.

    `region_level` is the heat-map value above which connected cells make a region. A film whose familiarity is below
    `familiarity_limit` is unlike those the model was made for; 0 where the network does not tell. `figures` are the
    validation figures of the default precision, shown in reports as they are.
    """

    format: int
    name: str
    version: str
    input: InputSpec
    precisions: dict[str, FileEntry]
    default_precision: Precision
    operating_points: OperatingPoints
    region_level: float
    familiarity_limit: float
    golden: FileEntry
    training_data: TrainingData
    figures: dict[str, str]
    limits: list[str]
    made_with: dict[str, str]


def read_manifest(folder: Path) -> Manifest:
    """Read and check a bundle's manifest. Raises BundleError with what is wrong and what to do."""
    try:
        raw = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise BundleError(f"{folder}: no model bundle: manifest.json cannot be read; name a bundle's folder") from error
    except ValueError as error:
        raise BundleError(f"{folder}: manifest.json is damaged; install the bundle again") from error
    if isinstance(raw, dict) and raw.get("format") != FORMAT:
        raise BundleError(
            f"{folder}: bundle format {raw.get('format')!r}, this version reads {FORMAT}; update bonefrac"
        )
    try:
        manifest: Manifest = strictly(Manifest, raw, "manifest")
    except ValueError as error:
        raise BundleError(f"{folder}: manifest.json is not as it must be: {error}; install the bundle again") from error
    if manifest.input.version != SPEC_VERSION:
        raise BundleError(f"{folder}: made for input rules {manifest.input.version}, this version has {SPEC_VERSION}")
    points, spec = manifest.operating_points, manifest.input
    consistent = (
        0 < points.sensitive <= points.specific < 1
        and 0 < manifest.region_level < 1
        and 0 <= manifest.familiarity_limit < 1
        and 32 <= min(spec.width, spec.height) <= max(spec.width, spec.height) <= 4096
        and manifest.default_precision in manifest.precisions
    )
    if not consistent:
        raise BundleError(f"{folder}: manifest.json holds values that cannot be; install the bundle again")
    return manifest


def strictly(kind: Any, raw: Any, where: str) -> Any:
    """JSON as the type `kind`: dataclasses with exactly their keys, dict, list, Literal and plain values.

    Raises ValueError with the place that differs.
    """
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        if not isinstance(raw, dict) or set(raw) != set(hints):
            odd = set(hints) ^ set(raw if isinstance(raw, dict) else ())
            raise ValueError(f"unknown or missing in {where}: {', '.join(sorted(odd))}")
        return cast(Any, kind)(**{name: strictly(hint, raw[name], f"{where}.{name}") for name, hint in hints.items()})
    outer, inner = get_origin(kind), get_args(kind)
    if outer is dict and isinstance(raw, dict):
        return {name: strictly(inner[1], value, f"{where}.{name}") for name, value in raw.items()}
    if outer is list and isinstance(raw, list):
        return [strictly(inner[0], value, where) for value in raw]
    if outer is Literal and isinstance(raw, str) and raw in inner:
        return raw
    if kind is float and type(raw) in (int, float):
        return float(raw)
    if kind in (int, str) and type(raw) is kind:
        return raw
    raise ValueError(f"{where} is {raw!r}")


def find_bundle(name_or_path: str) -> Path:
    """A bundle's folder: a path as given, or one of the bundles that were installed with bonefrac, by name."""
    if Path(name_or_path).is_dir():
        return Path(name_or_path)
    installed = Path(str(resources.files("bonefrac_models")))
    if (installed / name_or_path / "manifest.json").is_file():
        return installed / name_or_path
    names = ", ".join(sorted(folder.parent.name for folder in installed.glob("*/manifest.json"))) or "none"
    raise BundleError(f"no model '{name_or_path}': give a bundle's folder or one of the installed names ({names})")


def model_file(folder: Path, manifest: Manifest, precision: str) -> tuple[str, FileEntry]:
    """The file of a precision, and the precision's name; `auto` is the manifest's default, for which alone points and
    figures were measured. Raises BundleError where the bundle has no such file."""
    chosen = manifest.default_precision if precision == "auto" else precision
    if chosen not in manifest.precisions:
        raise BundleError(f"{folder}: the bundle has no {chosen} file, only {', '.join(manifest.precisions)}")
    return chosen, manifest.precisions[chosen]


def _checked_bytes(folder: Path, entry: FileEntry) -> bytes:
    """A file's bytes, if they are those of the manifest. The name may not lead out of the bundle."""
    if Path(entry.file).name != entry.file:
        raise BundleError(f"{folder}: the manifest names a file outside the bundle: {entry.file}")
    try:
        data = (folder / entry.file).read_bytes()
    except OSError as error:
        raise BundleError(f"{folder}: {entry.file} is missing or cannot be read; install the bundle again") from error
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        raise BundleError(f"{folder}: {entry.file} is not the file that was verified (wrong SHA-256); install it again")
    return data


class Scores(NamedTuple):
    """Of N films, float32 in [0, 1]: `probability` (N,) of a fracture, `heatmap` (N, h, w), which is (N, 0, 0) where
    the network has none, and `familiarity` (N,), how like the training films each is: 1 where it does not tell."""

    probability: NDArray[np.float32]
    heatmap: NDArray[np.float32]
    familiarity: NDArray[np.float32]


class Model:
    """A loaded bundle. `predict` may be called from several threads at once.

    Every film's scores are the same to the last bit whatever else is in its batch.
    """

    def __init__(
        self, folder: Path, *, device: str = "auto", precision: str = "auto", share: Share = _ALONE,
        beside: Executor | None = None,
    ) -> None:  # fmt: skip
        """Load, check hashes, and replay a golden sample. Raises BundleError, or UsageError for a missing device.

        With `beside` the golden sample is replayed there, while films are already read: `predict` then raises instead,
        for it gives no score before the sample has passed.
        """
        self.manifest = read_manifest(folder)
        self.precision, entry = model_file(folder, self.manifest, precision)
        self.sha256 = entry.sha256
        self._session = open_session(_checked_bytes(folder, entry), entry.sha256, device, share)
        self.provider = self._session.provider
        self._folder = folder
        self._check_interface()
        self._passed: Callable[[], object] = lambda: None
        if beside is None:
            self.check_golden(limit=1)
        else:
            self._passed = beside.submit(self.check_golden, limit=1).result

    def _check_interface(self) -> None:
        spec, outputs = self.manifest.input, self._session.outputs
        fits = {name: shape[1:] for name, shape in self._session.inputs.items()} == {
            "pixels": [spec.height, spec.width, 1]
        }
        wanted = {"probability"} | ({"familiarity"} if self.manifest.familiarity_limit else set())
        if not fits or not wanted <= outputs:
            raise BundleError(f"{self._folder}: the ONNX file does not fit its manifest; install the bundle again")
        self._outputs = [name for name in Scores._fields if name in outputs]

    @property
    def name(self) -> str:
        return f"{self.manifest.name} {self.manifest.version}"

    def predict(self, batch: NDArray[np.uint8]) -> Scores:
        """What the network says of uint8 (N, height, width, 1)."""
        scores = self._scores(batch)
        self._passed()
        return scores

    def _scores(self, batch: NDArray[np.uint8]) -> Scores:
        found = dict(zip(self._outputs, self._session.run(self._outputs, batch), strict=True))
        silent = {"heatmap": np.zeros((len(batch), 0, 0), np.float32), "familiarity": np.ones(len(batch), np.float32)}
        return Scores(**{**silent, **found})

    def is_familiar(self, familiarity: float) -> bool:
        """Is a film like those the model was made for? For others its probability means nothing."""
        return familiarity >= self.manifest.familiarity_limit

    def finding(self, probability: float) -> FindingName:
        """`fracture` at or above the specific point, `doubt` between the points."""
        points = self.manifest.operating_points
        if probability >= points.specific:
            return "fracture"
        return "doubt" if probability >= points.sensitive else "no_fracture_detected"

    def golden(self) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """The bundle's synthetic films, uint8 (N, height, width, 1), and their probabilities (N,) where it was made.

        Raises BundleError where they cannot be read.
        """
        data = _checked_bytes(self._folder, self.manifest.golden)
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as golden:
                return golden["pixels"], golden[self.precision]
        except (KeyError, ValueError, OSError) as error:
            raise BundleError(f"{self._folder}: the golden samples cannot be read; install the bundle again") from error

    def check_golden(self, limit: int | None = None) -> float:
        """Replay the bundle's synthetic films, or so many of them, those with the highest probability, which a wrong
        sum moves furthest; returns the largest difference to the stored probabilities.

        Raises BundleError where it is above the tolerance: the machine or the file computes something else.
        """
        pixels, expected = self.golden()
        chosen = np.argsort(-expected, kind="stable")[:limit]
        worst = float(np.abs(self._scores(pixels[chosen]).probability - expected[chosen]).max())
        if not worst <= _GOLDEN_TOLERANCE:
            raise BundleError(
                f"{self._folder}: the self-test gives other scores here (off by {worst:.3f}); do not use it"
            )
        return worst


def load_model(name_or_path: str, *, device: str = "auto", precision: str = "auto", share: Share = _ALONE) -> Model:
    """Find and load a bundle; see Model."""
    return Model(find_bundle(name_or_path), device=device, precision=precision, share=share)
