"""The house's rules: which room may import what, one door a dependency, a clinic's side without TensorFlow."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = {
    "bonefrac": ROOT / "engine" / "bonefrac",
    "bonefrac_export": ROOT / "export" / "bonefrac_export",
    "bonefrac_training": ROOT / "training" / "bonefrac_training",
    "bonefrac_benchmarks": ROOT / "benchmarks" / "bonefrac_benchmarks",
}
# statistics have one home, and a card's figures are those of `bonefrac-bench accuracy`: these modules serve other rooms
SHARED = {
    "bonefrac_training": {"bonefrac_benchmarks.statistics"},
    "bonefrac_export": {
        "bonefrac_benchmarks.statistics",
        "bonefrac_benchmarks.accuracy",
        "bonefrac_benchmarks.accuracy_run",
        "bonefrac_benchmarks.accuracy_report",
        "bonefrac_benchmarks.split",
    },
}
# what a bundle is measured without; Keras is a peer of `bonefrac-bench peers`, behind one door
TRAINERS = ("tensorflow", "keras", "tf2onnx")
MEASURED_AGAINST = {"keras": {"engines"}}
# who may open the door to a foreign package, inside the clinic's side
DOORS = {
    "onnxruntime": {"backends"},
    "openvino": {"backends"},
    "cv2": {"decode", "preprocess", "regions", "annotate", "synthetic", "demo", "pipeline"},
    "simplejpeg": {"decode"},
    "click": {"cli", "cli_errors", "cli_watch"},
    "sqlite3": {"database"},
    "jinja2": {"report"},
    "tqdm": {"run"},
    "watchdog": {"wake"},
    "psutil": {"mounts"},
    "filelock": {"instance"},
    "platformdirs": {"graphs", "instance", "tuned", "watch"},
    "tensorflow": set(),
    "keras": set(),
    "torch": set(),
    "sklearn": set(),
    "onnx": set(),
}
# each module of the clinic's side and what it may know of the others; a reader's map, and cycles are impossible
ARROWS = {
    "errors": set(),
    "results": set(),
    "header": {"errors"},
    "labelled": {"errors"},
    "decode": {"errors", "results", "header"},
    "preprocess": {"results"},
    "regions": {"results", "preprocess"},
    "synthetic": set(),
    "sources": {"errors"},
    "database": {"errors"},
    "journal": {"database", "results"},
    "annotate": {"results", "header", "preprocess"},
    "sinks": {"results"},
    "machine": set(),
    "graphs": {"sinks"},
    "gpu": {"errors"},
    "backends": {"errors", "gpu", "graphs", "machine", "sinks"},
    "model": {"backends", "errors", "results", "preprocess"},
    "tuned": {"backends", "errors", "machine", "model", "sinks"},
    "tune": {"backends", "errors", "machine", "model", "tuned"},
    "pipeline": {"errors", "results", "decode", "preprocess", "model", "regions", "sources"},
    "log": set(),
    "mounts": set(),
    "service": {"errors"},
    "redact": {"errors", "sinks"},
    "status": {"errors", "log", "sinks"},
    "wake": {"mounts"},
    "instance": {"errors", "status"},
    "inbox": {"decode", "errors", "header", "mounts", "sources"},
    "ledger": {"database", "errors", "journal", "results"},
    "originals": {"errors", "inbox", "sinks"},
    "report": {"results", "sinks", "status"},
    "tables": {"ledger", "report", "results", "sinks", "status"},
    "desk": {
        "decode",
        "errors",
        "examiner",
        "inbox",
        "ledger",
        "model",
        "mounts",
        "originals",
        "pipeline",
        "results",
        "sinks",
        "sources",
        "status",
    },
    "watcher": {
        "desk",
        "errors",
        "inbox",
        "ledger",
        "log",
        "model",
        "redact",
        "results",
        "service",
        "status",
        "tables",
        "tuned",
        "wake",
        "sources",
    },
    "watch": {
        "errors",
        "examiner",
        "instance",
        "ledger",
        "log",
        "mounts",
        "outputs",
        "sinks",
        "sources",
        "status",
        "tuned",
        "wake",
        "watcher",
    },
    "outputs": {"errors", "header", "journal", "report", "sinks", "sources"},
    "examiner": {"results", "annotate", "backends", "machine", "model", "pipeline", "sinks"},
    "run": {"errors", "results", "examiner", "journal", "outputs", "pipeline", "report", "sinks", "sources", "tuned"},
    "demo": {"errors", "sinks", "synthetic"},
    "cli_errors": {"errors"},
    "cli_watch": {"cli_errors", "errors", "watch", "watcher", "status", "service"},
    "cli": {"cli_errors", "cli_watch", "run", "demo", "model", "tune", "tuned"},
}


def imports(source: str) -> Iterator[str]:
    """Every module named in an import statement, inside functions too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or "."


def breaches(room: str, module: str, source: str) -> list[str]:
    """What a module's imports break of the rules."""
    found = []
    for name in imports(source):
        top, _, inner = name.partition(".")
        if top.startswith("bonefrac") and top not in (room, "bonefrac") and name not in SHARED.get(room, ()):
            found.append(f"{room}.{module} imports the room {top}")
        if room == "bonefrac" and module != "__init__":
            if top == "bonefrac" and inner and inner not in ARROWS[module]:
                found.append(f"bonefrac.{module} knows {inner}, which the arrows do not allow")
            if top in DOORS and module not in DOORS[top]:
                found.append(f"bonefrac.{module} opens the door to {top}")
        elif top in TRAINERS and room == "bonefrac_benchmarks" and module not in MEASURED_AGAINST.get(top, ()):
            found.append(f"{room}.{module} imports {top}")
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_every_import_follows_the_arrows(room: str) -> None:
    files = sorted(ROOMS[room].glob("*.py"))
    assert files
    assert [b for file in files for b in breaches(room, file.stem, file.read_text(encoding="utf-8"))] == []


def test_every_module_is_on_the_map() -> None:
    assert {file.stem for file in ROOMS["bonefrac"].glob("*.py")} - {"__init__"} == set(ARROWS)


@pytest.mark.parametrize(
    ("room", "module", "planted"),
    [
        ("bonefrac", "decode", "from bonefrac.model import Model"),
        ("bonefrac", "run", "def f():\n    import bonefrac_training"),
        ("bonefrac", "sinks", "import onnxruntime"),
        ("bonefrac", "model", "def f():\n    from tensorflow import keras"),
        ("bonefrac_export", "convert", "from bonefrac_training.flagship import flagship"),
        ("bonefrac_export", "bundle", "from bonefrac_benchmarks.throughput import bound"),
        ("bonefrac_export", "bundle", "from bonefrac_benchmarks import accuracy"),
        ("bonefrac_training", "figures", "from bonefrac_benchmarks.accuracy import measure"),
        ("bonefrac_benchmarks", "accuracy", "from bonefrac_export.evaluate import figures"),
        ("bonefrac", "report", "from bonefrac_benchmarks.statistics import wilson"),
        ("bonefrac_benchmarks", "throughput", "import keras"),
        ("bonefrac_benchmarks", "engines", "import tensorflow"),
    ],
)
def test_a_planted_breach_is_found(room: str, module: str, planted: str) -> None:
    assert breaches(room, module, planted)


def test_the_command_line_needs_no_optional_package() -> None:
    """Neither TensorFlow nor ONNX Runtime: a missing package is told by the function that needs it."""
    blocked = ("tensorflow", "keras", "torch", "onnx", "tf2onnx", "sklearn", "scipy", "onnxruntime", "psutil")
    program = (
        "import sys\n"
        f"for name in {blocked!r}: sys.modules[name] = None\n"
        "import bonefrac.cli, bonefrac.run, bonefrac.demo\n"
        "from bonefrac.errors import UsageError\n"
        "from bonefrac.model import load_model\n"
        "try: load_model('flagship')\n"
        "except UsageError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert 'pip install "bonefrac[cpu]"' in done.stdout


@pytest.mark.parametrize(
    ("module", "lacking"),
    [
        ("statistics", ("onnx", "onnxruntime", "matplotlib", "tensorflow", "psutil", "sklearn")),
        ("accuracy", ("matplotlib", "tensorflow", "keras", "psutil")),
    ],
)
def test_what_other_rooms_share_needs_nothing_that_their_extras_lack(module: str, lacking: tuple[str, ...]) -> None:
    program = f"import sys\nfor name in {lacking!r}: sys.modules[name] = None\nimport bonefrac_benchmarks.{module}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_help_loads_neither_decoder_nor_runtime() -> None:
    program = "import sys, bonefrac.cli; print(sorted({'cv2', 'onnxruntime', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_modules_stay_readable() -> None:
    for folder in ROOMS.values():
        for file in folder.glob("*.py"):
            lines = file.read_text(encoding="utf-8").count("\n")
            assert lines <= 400, f"{file.name} has {lines} lines"
