"""Commands as fresh processes: what a person at a terminal would start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bonefrac.errors import UsageError

BATCH = "from bonefrac.cli import batch_main; batch_main()"  # what the console script bonefrac-batch does
BATCH_WITH_PEAK = "from bonefrac_benchmarks.peak import main; main()"


def imports(device: str) -> str:
    """A program that only imports what examining a film on that device cannot do without."""
    return f"import {'openvino' if device == 'openvino' else 'onnxruntime'}, cv2, numpy"


def run_python(program: str, arguments: Sequence[object] = (), *, allowed: Sequence[int] = (0,)) -> None:
    """`python -c PROGRAM ARGUMENTS`, silent. Raises UsageError, with its last line, for any other exit status.

    It may keep what it compiles, as after any installation: else every start would compile the whole package.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        env=environment,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False,
    )  # fmt: skip
    if done.returncode not in allowed:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["it said nothing"]
        raise UsageError(f"bonefrac-batch ended with status {done.returncode} and cannot be measured: {said[-1]}")


def finished_run(out: Path) -> dict[str, Any]:
    """What bonefrac-batch wrote of its run. Raises UsageError where no film was analysed: nothing was measured then."""
    run: dict[str, Any] = json.loads((out / "run.json").read_text(encoding="utf-8"))
    if run["counts"]["analysed"] == 0:
        raise UsageError("none of the films could be analysed, so there is nothing to measure; name radiographs")
    return run
