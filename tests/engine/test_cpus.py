"""The shipped bundle on other x86-64 processors: QEMU's user mode runs this very engine as one of them."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_CHILD = """
import sys
from bonefrac.machine import cpu
from bonefrac.model import load_model
print(cpu())
print(load_model(sys.argv[1], device="cpu").check_golden())
"""
# what makes a library take kernels that the emulated processor has not
_FORCING = ("OPENBLAS_CORETYPE", "NPY_ENABLE_CPU_FEATURES", "ONEDNN_MAX_CPU_ISA")
QEMU = shutil.which("qemu-x86_64") if platform.machine() in ("x86_64", "AMD64") else None


@pytest.mark.skipif(QEMU is None, reason="qemu-x86_64 (Debian's qemu-user) is not installed")
@pytest.mark.parametrize(("name", "lacks"), [("Nehalem", "AVX2"), ("Haswell-noTSX", "AVX512F")])
def test_the_golden_scores_hold_on_older_processors(flagship: Path, name: str, lacks: str) -> None:
    """From an optimised graph of this processor, too, if one is kept: another's is never taken."""
    environment = {key: value for key, value in os.environ.items() if key not in _FORCING}
    done = subprocess.run(
        [str(QEMU), "-cpu", name, sys.executable, "-c", _CHILD, str(flagship)],
        env=environment, capture_output=True, text=True, errors="replace", check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    cpu, worst = done.stdout.splitlines()
    assert lacks not in cpu.split(), "the processor was not emulated"
    assert float(worst) <= 0.02
