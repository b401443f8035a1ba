"""Optimised graphs, kept on this machine: optimising a network takes as long as judging a film.

A graph lies in the user's cache folder under the hash of all that it depends on, and begins with its own SHA-256: one
that is damaged or cut short is as good as none. Where nothing can be written, nothing is kept.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from platformdirs import user_cache_path

from bonefrac.sinks import atomic

_MOST = 8  # files; a new model or runtime leaves older ones behind
_DIGEST = hashlib.sha256().digest_size


def place(*depends_on: str) -> Path:
    """Where the graph lies that depends on nothing but these."""
    name = hashlib.sha256(json.dumps(depends_on).encode()).hexdigest()
    return user_cache_path("bonefrac") / "graphs" / name


def kept(path: Path) -> bytes | None:
    """The graph kept at `path`; None where there is none that is whole."""
    try:
        with open(path, "rb") as file:
            digest, graph = file.read(_DIGEST), file.read()
    except OSError:
        return None
    return graph if hashlib.sha256(graph).digest() == digest else None


def keep(path: Path, graph: bytes) -> None:
    """Keep a graph at `path`, and of all graphs the newest few. Raises OSError where that cannot be."""
    with atomic(path, durable=False) as file:
        file.write(hashlib.sha256(graph).digest())
        file.write(graph)
    for old in sorted(path.parent.iterdir(), key=os.path.getmtime)[:-_MOST]:
        old.unlink(missing_ok=True)
