"""The same decisions on every CPU: a model under processors that a clinic may have and this machine is not.

Without VNNI, ONNX Runtime adds int8 products in pairs in 16 bits, and sums that do not fit saturate: 255 * 127 * 2 does
not, 255 * 64 * 2 does, which is why `reduce_range` mends it (ONNX Runtime, quantization.md, on U8S8). QEMU's user mode
runs this very Python and ONNX Runtime as another processor, slower by a hundred times.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from bonefrac.errors import BonefracError

CPUS = {"AVX2 without VNNI": "Haswell-noTSX", "SSE": "Nehalem"}  # to people -> to QEMU
_EMULATOR = "qemu-x86_64"  # of Debian's qemu-user
_CHILD = """
import sys, numpy, onnxruntime
model, films, scores = sys.argv[1:]
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
options.log_severity_level = 3
session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
name = session.get_inputs()[0].name
found = [session.run(["probability"], {name: film[None]})[0] for film in numpy.load(films)]
numpy.save(scores, numpy.concatenate(found))
"""
# what makes a library take kernels that the emulated processor has not
_FORCING = ("OPENBLAS_CORETYPE", "NPY_ENABLE_CPU_FEATURES", "ONEDNN_MAX_CPU_ISA")


@dataclass(frozen=True)
class OtherCpu:
    """What another processor makes of the same films: the largest difference of a probability, and the rows of the
    films whose decision differs at each threshold, by its name."""

    cpu: str
    films: int
    difference: float
    flips: dict[str, list[int]]


def emulator() -> str | None:
    """QEMU's program, or None where there is none or this machine is no x86-64."""
    return shutil.which(_EMULATOR) if platform.machine() in ("x86_64", "AMD64") else None


def probabilities(
    model: onnx.ModelProto, films: NDArray[np.uint8], qemu: str | None = None, cpu: str = "this machine's"
) -> NDArray[np.float32]:
    """The output `probability` (n,) for uint8 `films` (n, height, width, 1), computed in a child process on this CPU,
    or under `qemu` on one that it knows by the name `cpu`.

    Raises BonefracError where the child fails, for one with the last line that it said.
    """
    command = [*([] if qemu is None else [qemu, "-cpu", cpu]), sys.executable]
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, name) for name in ("model.onnx", "films.npy", "scores.npy")]
        onnx.save(model, paths[0])
        np.save(paths[1], films)
        environment = {name: value for name, value in os.environ.items() if name not in _FORCING}
        done = subprocess.run(  # noqa: S603 - this Python, or an emulator that runs it
            [*command, "-c", _CHILD, *map(str, paths)],
            env=environment, capture_output=True, text=True, errors="replace", check=False,
        )  # fmt: skip
        if done.returncode:
            said = (done.stderr.strip() or f"status {done.returncode}").splitlines()[-1]
            raise BonefracError(f"the model does not run on a CPU ({cpu}): {said}")
        found: NDArray[np.float32] = np.load(paths[2])
        return found


def on_other_cpus(
    model: onnx.ModelProto,
    films: NDArray[np.uint8],
    thresholds: Mapping[str, float],
    cpus: Mapping[str, str] = CPUS,
) -> list[OtherCpu] | None:
    """`model` on each of `cpus` against this machine, with decisions at `thresholds`; None where it cannot be checked.

    Raises what `probabilities` raises.
    """
    if (qemu := emulator()) is None:
        return None
    here = probabilities(model, films)
    with ThreadPoolExecutor() as pool:  # each processor in a child of its own
        found = list(pool.map(lambda cpu: probabilities(model, films, qemu, cpu), cpus.values()))
    return [compared(name, here, there, thresholds) for name, there in zip(cpus, found, strict=True)]


def compared(
    cpu: str, here: NDArray[np.float32], there: NDArray[np.float32], thresholds: Mapping[str, float]
) -> OtherCpu:
    """Two machines' probabilities (n,) of the same films."""
    flips = {
        name: [int(row) for row in np.flatnonzero((here >= limit) != (there >= limit))]
        for name, limit in thresholds.items()
    }
    return OtherCpu(cpu, len(here), float(np.abs(here - there).max(initial=0)), flips)
