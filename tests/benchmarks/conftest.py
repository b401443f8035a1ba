"""Shared by the tests of measurements: drawn films, and a bundle that costs nothing to run."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from bonefrac.model import read_manifest
from bonefrac.synthetic import draw_radiograph


@pytest.fixture(scope="session")
def xrays(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three drawn films, and a file that is none."""
    folder = tmp_path_factory.mktemp("xrays")
    for seed in range(3):
        pixels = (draw_radiograph(seed, fractured=seed == 0, height=480, width=360).pixels >> 4).astype(np.uint8)
        cv2.imwrite(str(folder / f"{seed}.jpg"), pixels)
    (folder / "notes.txt").write_text("no film")
    return folder


@pytest.fixture(scope="session")
def blank(tmp_path_factory: pytest.TempPathFactory, flagship: Path) -> Path:
    """A bundle whose network does nothing."""
    pytest.importorskip("onnx", reason='needs the extra: pip install ".[bench]"')
    from bonefrac_benchmarks.blank import make_blank

    return make_blank(tmp_path_factory.mktemp("bundles") / "blank", read_manifest(flagship))
