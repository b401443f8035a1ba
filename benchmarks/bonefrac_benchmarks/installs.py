"""How much disk an engine needs: the files of its distributions and of all that they depend on, as they are
installed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from importlib.resources import files
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

_MB = 1e6


def missing(requirements: Sequence[str]) -> list[str]:
    """Those of them that are not installed, by name."""
    return [name for name in (Requirement(text).name for text in requirements) if _find(name) is None]


def install_mb(requirements: Sequence[str]) -> float:
    """MB (10^6 bytes) of the distributions, each counted once, with their dependencies; files of bytecode included as
    far as they are there. Requirements as pip takes them: `bonefrac[cpu]`. What is not installed counts nothing."""
    return sum(_bytes(found) for found in _closure(requirements).values()) / _MB


def _closure(requirements: Sequence[str]) -> dict[str, Distribution]:
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [(Requirement(text), "") for text in requirements]
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        there = _find(requirement.name)
        if there is None:
            continue
        name = canonicalize_name(requirement.name)
        found[name] = there
        for wanted in ("", *requirement.extras):
            if (name, wanted) not in seen:
                seen.add((name, wanted))
                waiting += [(Requirement(text), wanted) for text in there.requires or ()]
    return found


def _find(name: str) -> Distribution | None:
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


def _bytes(of: Distribution) -> int:
    """Its files that are there. Ours may be installed as a link to its sources: then the package that runs is
    counted."""
    if canonicalize_name(of.name) == "bonefrac":
        return sum(path.stat().st_size for path in _below(Path(str(files("bonefrac")))))
    return sum(
        path.stat().st_size for path in (Path(str(of.locate_file(file))) for file in of.files or ()) if path.is_file()
    )


def _below(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())
