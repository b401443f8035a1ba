"""`bonefrac-bench peers`: other engines with the same network on the same films, interleaved in one run, beside ours.

Each peer is a process of its own, loaded once; the peers take turns (A B C A B C ...), and ratios are formed round by
round, for a shared machine is faster in one minute than in the next. Before that each is started afresh some times, for
how long its first result takes. What a peer computes is compared, film by film, with what the engine computes from the
same file.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bonefrac.decode import decode
from bonefrac.errors import UsageError
from bonefrac.model import load_model, read_manifest
from bonefrac.preprocess import InputSpec, to_input
from bonefrac_benchmarks import engines, peers
from bonefrac_benchmarks.artefact import Artefact, artefact, bundle_folder
from bonefrac_benchmarks.figures import Goal, Spread, table
from bonefrac_benchmarks.films import sample
from bonefrac_benchmarks.installs import install_mb, missing
from bonefrac_benchmarks.machine import Machine, this_machine
from bonefrac_benchmarks.peers import Job, Peer, Window
from bonefrac_benchmarks.processes import started
from bonefrac_benchmarks.throughput import passes_for
from bonefrac_benchmarks.validity import FEWEST_WINDOWS, Validity, unstable

KERAS_FOLDER_TARGET, KERAS_LOOP_TARGET = 8.0, 20.0
OPENVINO_TARGET, WITHOUT_OPENVINO_TARGET = 1.0, 0.9
_OPENED_BY_ALL = (".jpg", ".jpeg", ".png")  # Keras reads no TIFF from a folder
_RUNTIME, _OPENVINO = ("onnxruntime", "opencv-python-headless"), ("openvino", "opencv-python-headless")
_KERAS = ("keras", "tensorflow")
_PIPELINE = "`throughput` calls it pipeline, in another run with other films: do not compare the two"
_OWN_INPUT = "prepares films its own way: squeezed to a square, bilinear"


@dataclass(frozen=True)
class Rival:
    """A peer, what it does, the distributions that it needs, which of the bundle's files it runs, and how it prepares
    films where it does not do so as the engine."""

    start: Peer
    what: str
    needs: tuple[str, ...]
    precision: str
    own_input: str = ""
    keras: bool = False


OURS, OURS_OPENVINO = "bonefrac", "bonefrac with OpenVINO"
KERAS_FOLDER, KERAS_LOOP = "Keras, folder", "Keras, film by film"
RIVALS: dict[str, Rival] = {
    OURS: Rival(peers.pipeline, f"bonefrac's own pipeline, ONNX Runtime; {_PIPELINE}", ("bonefrac[cpu]",), "auto"),
    OURS_OPENVINO: Rival(
        peers.pipeline_openvino, "the same pipeline with OpenVINO in its place", ("bonefrac", "openvino"), "auto"
    ),
    "OpenVINO, int8": Rival(engines.openvino_int8, "throughput mode, async queue", _OPENVINO, "int8"),
    "OpenVINO, float32 file": Rival(
        engines.openvino_float32, "the same, in the precision that it chooses itself", _OPENVINO, "float32"
    ),
    "ONNX Runtime, int8": Rival(
        engines.onnxruntime_int8, f"default session, batches of {engines.BATCH}, one loop", _RUNTIME, "int8"
    ),
    "ONNX Runtime, float32": Rival(engines.onnxruntime_float32, "the same", _RUNTIME, "float32"),
    "ONNX Runtime, film by film": Rival(
        peers.naive_float32, "cv2.imread, cv2.resize, default session, float32", _RUNTIME, "float32", _OWN_INPUT
    ),
    KERAS_FOLDER: Rival(
        engines.keras_folder, "image_dataset_from_directory, model.predict", _KERAS, "float32", _OWN_INPUT, keras=True
    ),
    KERAS_LOOP: Rival(
        engines.keras_loop, "cv2.imread, cv2.resize, model.predict of one film", (*_KERAS, "opencv-python-headless"),
        "float32", _OWN_INPUT, keras=True,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class PeersSettings:
    """What was asked for. `films` are taken from the folder at most, `seconds` a window lasts at least; `keras` is the
    file that the bundle was made from."""

    folder: Path
    model: str = "flagship"
    keras: Path | None = None
    rounds: int = 7
    starts: int = 3
    seconds: float = 5.0
    films: int = 48


@dataclass(frozen=True)
class Standing:
    """One peer. `rate` films a second, `cpu_ms` processor milliseconds a film over all threads, `start_s` seconds from
    the start of its process to the first film's result, all a sample a round; `peak_mb` and `install_mb` in 10^6 bytes;
    `apart` the median and the worst difference of its probabilities to the engine's of the same file."""

    rival: Rival
    note: str
    rate: Spread
    cpu_ms: Spread
    start_s: Spread
    peak_mb: float
    install_mb: float
    apart: tuple[float, float]

    def record(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "what": self.rival.what,
            "note": self.note,
            "own_input": self.rival.own_input,
            "films_a_second": self.rate.record(),
            "cpu_ms_a_film": self.cpu_ms.record(),
            "start_s": self.start_s.record(),
            "peak_mb": self.peak_mb,
            "install_mb": self.install_mb,
            "apart": {"median": self.apart[0], "worst": self.apart[1]},
        }


@dataclass(frozen=True)
class Peers:
    """What was measured; `absent` says why a peer is not among the `standings`."""

    settings: PeersSettings
    machine: Machine
    artefacts: tuple[Artefact, ...]
    films: int
    left_out: int
    standings: dict[str, Standing]
    absent: dict[str, str]

    @property
    def validity(self) -> Validity:
        return validity({name: standing.rate for name, standing in self.standings.items()}, self.films)

    @property
    def goals(self) -> list[Goal]:
        """Ours is the faster of our backends, by the median, and so is OpenVINO's mode."""
        rates = {name: standing.rate for name, standing in self.standings.items()}
        ours = _fastest(rates, [OURS, OURS_OPENVINO])
        native = _fastest(rates, [name for name in rates if name.startswith("OpenVINO")])
        asked = [(ours, KERAS_FOLDER, KERAS_FOLDER_TARGET), (ours, KERAS_LOOP, KERAS_LOOP_TARGET)]
        if native:
            asked += [(ours, native, OPENVINO_TARGET), (OURS, native, WITHOUT_OPENVINO_TARGET)]
        return [
            Goal(f"{one} / {other}", rates[one].over(rates[other]), target, digits=2,
                 unstable=unstable({name: rates[name] for name in (one, other)}))
            for one, other, target in asked
            if other in rates
        ]  # fmt: skip

    def lines(self) -> list[str]:
        left_out = f" ({self.left_out} more cannot be read by every peer)" if self.left_out else ""
        rows = [
            ("", "films a second", "CPU ms a film", "peak MB", "first result s", "install MB", "apart, median (worst)")
        ]
        rows += [
            (name, f"{of.rate.median:.1f}", f"{of.cpu_ms.median:.1f}", f"{of.peak_mb:.0f}", f"{of.start_s.median:.2f}",
             f"{of.install_mb:.0f}", f"{of.apart[0]:.4f} ({of.apart[1]:.4f})")
            for name, of in self.standings.items()
        ]  # fmt: skip
        notes = [
            f"  {name}: {'; '.join(word for word in (of.rival.what, of.note, of.rival.own_input) if word)}"
            for name, of in self.standings.items()
        ]
        return [
            *self.machine.lines(),
            *(one.line() for one in self.artefacts),
            f"Films:   {self.films}{left_out}, whole passes of at least {self.settings.seconds:g} s,"
            f" {self.settings.rounds} rounds in turn, each peer a process of its own",
            "",
            *table(rows),
            *notes,
            "  first result: from the start of a fresh process; install: all that it needs but the network; apart: its",
            "  probabilities of these films from the engine's of the same file",
            *(f"  left out: {name}: {why}" for name, why in self.absent.items()),
            "",
            *(goal.line() for goal in self.goals),
            self.validity.line(),
        ]

    def record(self) -> dict[str, Any]:
        """For JSON: every sample."""
        return {
            "benchmark": "peers",
            "settings": {
                **vars(self.settings),
                "folder": self.settings.folder.name,
                "model": Path(self.settings.model).name,
                "keras": self.settings.keras and self.settings.keras.name,
            },
            "machine": self.machine.record(),
            "artefact": self.artefacts[0].record(),
            "other_files": [one.record() for one in self.artefacts[1:]],
            "films": self.films,
            "films_left_out": self.left_out,
            "peers": {
                name: {**standing.record(), "validity": validity({name: standing.rate}, self.films).record()}
                for name, standing in self.standings.items()
            },
            "absent": self.absent,
            "goals": [goal.record() for goal in self.goals],
            "validity": self.validity.record(),
        }


def validity(rates: dict[str, Spread], films: int) -> Validity:
    """Of each peer's films a second: a comparison is as good as the worst of those compared."""
    rounds = min(len(rate.samples) for rate in rates.values())
    return Validity(rounds, FEWEST_WINDOWS, f"rounds of all {films} films", "one pass before", rates)


def _fastest(rates: dict[str, Spread], names: Sequence[str]) -> str:
    there = [name for name in names if name in rates]
    return max(there, key=lambda name: rates[name].median) if there else ""


def measure_peers(settings: PeersSettings) -> Peers:
    """Run it. Raises UsageError or BundleError for what cannot be measured with, before any waiting, and UsageError for
    a peer that computes something else than the engine."""
    machine, bundle = this_machine(), bundle_folder(settings.model)
    manifest = read_manifest(bundle)
    files = {name: artefact(bundle, name) for name in dict.fromkeys((manifest.default_precision, *manifest.precisions))}
    artefacts = [*files.values()]
    if settings.keras is not None:
        sha256 = engines.check_keras(settings.keras, bundle)
        artefacts.append(Artefact(artefacts[0].model, "Keras", settings.keras.name, sha256))
    films, left_out = sample(settings.folder, settings.films, manifest.input.long_side, suffixes=_OPENED_BY_ALL)
    keras = settings.keras and settings.keras.resolve()
    job = Job(tuple(path.resolve() for path in films), bundle, keras=keras)
    absent = {name: why for name, rival in RIVALS.items() if (why := _absent(rival, files, job))}
    rivals = {name: rival for name, rival in RIVALS.items() if name not in absent}
    starts = _starts(rivals, job, settings.starts)
    windows = _interleaved(rivals, job, settings)
    exact = {name: _probabilities(job.films, bundle, name, manifest.input) for name in files}
    standings = {
        name: _standing(
            name, rival, windows[name], starts[name], exact.get(rival.precision, exact[manifest.default_precision])
        )
        for name, rival in rivals.items()
    }
    return Peers(settings, machine, tuple(artefacts), len(films), left_out, standings, absent)


def _absent(rival: Rival, files: dict[str, Artefact], job: Job) -> str:
    """Why a peer cannot be measured here; empty where it can."""
    if lacking := missing(rival.needs):
        return f"{' and '.join(lacking)} not installed"
    if rival.keras and job.keras is None:
        return "it needs the Keras file that the bundle was made from: --keras FILE"
    if rival.precision not in ("auto", *files):
        return f"the bundle has no {rival.precision} file"
    if rival.start is peers.pipeline_openvino:
        try:
            load_model(str(job.model), device="openvino")
        except UsageError as error:
            return str(error).replace(str(job.model), job.model.name)  # no path of this machine in a report
    return ""


def _starts(rivals: dict[str, Rival], job: Job, count: int) -> dict[str, Spread]:
    """Seconds from a process's start to its first film's result, in turn; one round before brings files into memory."""
    one = replace(job, films=job.films[:1])
    seconds: dict[str, list[float]] = {name: [] for name in rivals}
    for _ in range(count + 1):
        for name, rival in rivals.items():
            began_s = time.perf_counter()
            with started(rival.start, one) as measure:
                measure(1)
                seconds[name].append(time.perf_counter() - began_s)
    return {name: Spread(tuple(of_peer[1:])) for name, of_peer in seconds.items()}


def _interleaved(rivals: dict[str, Rival], job: Job, settings: PeersSettings) -> dict[str, list[Window]]:
    with ExitStack() as stack:
        measures = {name: stack.enter_context(started(rival.start, job)) for name, rival in rivals.items()}
        passes = {name: passes_for(measure(1), settings.seconds) for name, measure in measures.items()}
        windows: dict[str, list[Window]] = {name: [] for name in rivals}
        for _ in range(settings.rounds):
            for name, measure in measures.items():
                windows[name].append(measure(passes[name]))
        return windows


def _probabilities(films: Sequence[Path], bundle: Path, precision: str, spec: InputSpec) -> NDArray[np.float64]:
    """The engine's own, film by film (n,)."""
    model = load_model(str(bundle), device="cpu", precision=precision)
    inputs = (to_input(decode(path.read_bytes(), long_side=spec.long_side), spec)[0] for path in films)
    return np.array([model.predict(pixels[None]).probability[0] for pixels in inputs], np.float64)


def _standing(
    name: str, rival: Rival, windows: Sequence[Window], start_s: Spread, exact: NDArray[np.float64]
) -> Standing:
    last = windows[-1]
    return Standing(
        rival, last.note,
        Spread(tuple(window.films_a_second for window in windows)),
        Spread(tuple(1000 * window.cpu_s / window.films for window in windows)),
        start_s, last.peak_mb, install_mb(rival.needs), apart(name, rival, last.probabilities, exact),
    )  # fmt: skip


def apart(name: str, rival: Rival, found: Sequence[float], exact: NDArray[np.float64]) -> tuple[float, float]:
    """The median and the worst difference of a peer's probabilities (n,) from the engine's; films without one are left
    out.

    Raises UsageError where a peer that is fed the engine's own pixels computes something else, or has no results.
    """
    differences = np.abs(np.asarray(found, np.float64) - exact)
    differences = differences[~np.isnan(differences)]
    middle = float(np.median(differences)) if len(differences) else float("inf")
    if not rival.own_input and not middle <= engines.SAME:
        raise UsageError(
            f"the peer '{name}' computes something else than the engine: its probabilities differ by {middle:.3f} in"
            " the median; a comparison of speed would say nothing"
        )
    return middle, float(differences.max())
