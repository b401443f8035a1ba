"""The very file that a figure is of: the speed of one file beside the accuracy of another says nothing of either."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path

from bonefrac.errors import BundleError, UsageError
from bonefrac.model import find_bundle, read_manifest


@dataclass(frozen=True)
class Artefact:
    """A file of a bundle. `model` is the bundle's name and version; `sha256` is of the bytes that lie there now."""

    model: str
    precision: str
    file: str
    sha256: str

    def line(self) -> str:
        return f"Model:   {self.model} {self.precision}, {self.file}, SHA-256 {self.sha256}"

    def record(self) -> dict[str, str]:
        """For JSON."""
        return asdict(self)


def artefact(bundle: Path, precision: str = "auto") -> Artefact:
    """The file of a bundle's folder that is measured; `auto` is the bundle's default.

    Raises UsageError where the bundle has no such precision, and BundleError where the file is missing or is not the
    one that its manifest names: nothing is measured with a changed bundle.
    """
    manifest = read_manifest(bundle)
    precision = manifest.default_precision if precision == "auto" else precision
    if precision not in manifest.precisions:
        known = ", ".join(manifest.precisions)
        raise UsageError(f"{bundle}: the bundle has no {precision} file, only {known}; name another")
    entry = manifest.precisions[precision]
    try:
        sha256 = hashlib.sha256((bundle / entry.file).read_bytes()).hexdigest()
    except OSError as error:
        raise BundleError(f"{bundle}: {entry.file} is missing or cannot be read; install the bundle again") from error
    if sha256 != entry.sha256:
        raise BundleError(
            f"{bundle}: {entry.file} is not the file that its manifest names (wrong SHA-256); install the bundle again"
        )
    return Artefact(f"{manifest.name} {manifest.version}", precision, entry.file, sha256)


def bundle_folder(name_or_path: str) -> Path:
    """An absolute path, for what is measured are other processes."""
    return find_bundle(name_or_path).resolve()
