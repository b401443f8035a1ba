"""From a command line to the first row: nothing slow is imported or started that one film does not need."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from click.testing import CliRunner

from bonefrac.cli import batch

_CHILD = """
import os, sys
from bonefrac.cli import batch_main
try:
    batch_main()
except SystemExit as ended:
    assert not ended.code, ended.code
print(os.environ["OPENBLAS_NUM_THREADS"])
print(*sys.modules)
"""
_SLOW = {"importlib.metadata", "logging.handlers", "numpy.ma", "openvino", "psutil", "tqdm", "watchdog", "unittest"}


def one_film(folder: Path, **environment: str) -> tuple[str, set[str]]:
    """OPENBLAS_NUM_THREADS and the modules of a process that examined one film."""
    inherited = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, str(folder / "film.jpg"), "--out", str(folder / "out"), "--quiet"],
        env=inherited | environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    threads, modules = done.stdout.splitlines()
    return threads, set(modules.split())


def test_one_film_needs_no_slow_module(tmp_path: Path, write_film: Callable[..., bytes]) -> None:
    write_film(tmp_path / "film.jpg")
    threads, modules = one_film(tmp_path)
    assert {"cv2", "onnxruntime", "jinja2", "sqlite3"} <= modules
    assert _SLOW & modules == set()
    assert threads == "1"


def test_what_a_user_set_for_openblas_stands(tmp_path: Path, write_film: Callable[..., bytes]) -> None:
    write_film(tmp_path / "film.jpg")
    assert one_film(tmp_path, OPENBLAS_NUM_THREADS="2")[0] == "2"


def test_a_self_check_that_fails_while_films_are_read_leaves_no_result(
    tmp_path: Path, write_film: Callable[..., bytes], flagship: Path
) -> None:
    bundle = shutil.copytree(flagship, tmp_path / "bundle")
    with np.load(bundle / "golden.npz") as stored:
        arrays = dict(stored)
    np.savez(bundle / "golden.npz", **{**arrays, "int8": arrays["int8"] - np.float32(0.1)})
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["golden"]["sha256"] = hashlib.sha256((bundle / "golden.npz").read_bytes()).hexdigest()
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    write_film(tmp_path / "xrays" / "film.jpg")
    out = tmp_path / "out"
    done = CliRunner().invoke(
        batch, [str(tmp_path / "xrays"), "--out", str(out), "--model", str(bundle), "--annotate", "all"]
    )
    assert done.exit_code == 2
    assert "self-test gives other scores" in done.stderr
    assert {path.name for path in out.iterdir()} <= {".bonefrac"}
