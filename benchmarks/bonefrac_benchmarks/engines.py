"""Other ways to run the same network on the same films: what somebody would write who has no bonefrac.

Each engine is a peer (see `peers`) that is measured from the film's file to its probability. Those that are fed by
`bonefrac`'s own decoding compute what the engine does; the loops and folders of Keras bring their own, as student
projects have it. The only door to Keras and OpenVINO.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bonefrac.decode import decode
from bonefrac.errors import BundleError, UsageError
from bonefrac.model import Manifest, read_manifest
from bonefrac.preprocess import to_input
from bonefrac_benchmarks.artefact import artefact
from bonefrac_benchmarks.films import fill
from bonefrac_benchmarks.peers import Job, Measure, Window, naive_input, naive_session, timed

BATCH = 8  # of the default ONNX Runtime session: more are no faster on a CPU
SAME = 0.02  # the largest difference of probabilities that counts as the same network: as for a bundle's golden samples

Pixels = NDArray[np.uint8]
Read = Callable[[Any], NDArray[np.float64]]


def onnxruntime_float32(job: Job) -> Measure:
    """ONNX Runtime as it comes, in batches, on the float32 file."""
    return _onnxruntime(job, "float32")


def onnxruntime_int8(job: Job) -> Measure:
    """The same on the int8 file."""
    return _onnxruntime(job, "int8")


def _onnxruntime(job: Job, precision: str) -> Measure:
    manifest = read_manifest(job.model)
    session = naive_session(job.model / artefact(job.model, precision).file)

    def measure(passes: int) -> Window:
        def run() -> list[float]:
            films, found = _inputs(job.films * passes, manifest), list[float]()
            while batch := list(islice(films, BATCH)):
                found += session.run(["probability"], {"pixels": np.stack(batch)})[0].tolist()
            return found[-len(job.films) :]

        return timed(passes * len(job.films), run)

    return measure


def openvino_float32(job: Job) -> Measure:
    """OpenVINO itself, in throughput mode with its queue, on the float32 file: in the precision that it chooses."""
    return _openvino(job, "float32")


def openvino_int8(job: Job) -> Measure:
    """The same on the int8 file."""
    return _openvino(job, "int8")


def _openvino(job: Job, precision: str) -> Measure:
    """The calling thread reads, decodes and prepares while the queue's requests, as many as OpenVINO takes for best,
    infer one film each.

    A request's result is fetched when it is free again, not by a callback: that would be Python in OpenVINO's threads,
    which they may still hold when the process ends, and abort it.
    """
    import openvino

    manifest, core = read_manifest(job.model), openvino.Core()
    network = core.read_model(str(job.model / artefact(job.model, precision).file))
    spec = manifest.input
    network.reshape([1, spec.height, spec.width, 1])
    compiled = core.compile_model(network, "CPU", {"PERFORMANCE_HINT": "THROUGHPUT"})
    queue = openvino.AsyncInferQueue(compiled)
    output = compiled.output("probability")
    computed_in = str(compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name())

    def probability(request: int) -> float:
        return float(queue[request].get_tensor(output).data[0])

    def measure(passes: int) -> Window:
        def run() -> list[float]:
            found, film_of = [0.0] * len(job.films), dict[int, int]()
            for number, pixels in enumerate(_inputs(job.films * passes, manifest)):
                request = queue.get_idle_request_id()  # the one that is started next
                if request in film_of:
                    found[film_of[request]] = probability(request)
                film_of[request] = number % len(job.films)
                queue.start_async({"pixels": pixels[None]})
            queue.wait_all()
            for request, film in film_of.items():
                found[film] = probability(request)
            return found

        return timed(
            passes * len(job.films), run, f"float parts computed in {computed_in}, {len(queue)} requests at once"
        )

    return measure


def keras_folder(job: Job) -> Measure:
    """Keras over a folder: `image_dataset_from_directory`, as it comes, and `predict`."""
    keras, network, read = _keras(job)
    spec, grey = read_manifest(job.model).input, network.input_shape[-1] == 1

    def measure(passes: int) -> Window:
        with tempfile.TemporaryDirectory(prefix="bonefrac-bench-") as temporary:
            folder = Path(temporary) / "films"
            fill(folder, job.films, passes * len(job.films))

            def run() -> list[float]:
                films = keras.utils.image_dataset_from_directory(
                    str(folder), labels=None, shuffle=False, image_size=(spec.height, spec.width),
                    color_mode="grayscale" if grey else "rgb", verbose=False,
                )  # fmt: skip
                return [float(value) for value in read(network.predict(films, verbose=0))[-len(job.films) :]]

            return timed(passes * len(job.films), run)

    return measure


def keras_loop(job: Job) -> Measure:
    """Keras film by film: `cv2.imread`, `cv2.resize`, `predict` of one."""
    _, network, read = _keras(job)
    spec = read_manifest(job.model).input

    def measure(passes: int) -> Window:
        def run() -> list[float]:
            found = [
                float(read(network.predict(_channels(naive_input(str(path), spec)[None], network), verbose=0))[0])
                for path in job.films * passes
            ]
            return found[-len(job.films) :]

        return timed(passes * len(job.films), run)

    return measure


def _inputs(films: tuple[Path, ...], manifest: Manifest) -> Iterator[Pixels]:
    """Each film as the engine has it: uint8 (height, width, 1)."""
    for path in films:
        yield to_input(decode(path.read_bytes(), long_side=manifest.input.long_side), manifest.input)[0]


def _channels(batch: Pixels, network: Any) -> Pixels:
    return batch if network.input_shape[-1] == 1 else np.repeat(batch, network.input_shape[-1], axis=3)


def _keras(job: Job) -> tuple[Any, Any, Read]:
    """Keras, the network of the job's file, and how the probability is read from what `predict` gives.

    Raises UsageError where the file is not the one that the bundle was made from, or cannot be loaded.
    """
    if job.keras is None:
        raise UsageError("the Keras peers need the Keras file that the bundle was made from: name it with --keras")
    check_keras(job.keras, job.model)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras

    try:
        network = keras.saving.load_model(job.keras, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises whatever the layer at fault raises
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(f"{job.keras}: Keras cannot load it: {line}") from error
    pixels, expected = _golden(job.model)
    return keras, network, _reading(network.predict(_channels(pixels, network), verbose=0), expected, job.keras)


def check_keras(file: Path, bundle: Path) -> str:
    """The file's SHA-256. Raises UsageError where the bundle was not made from this very file, by its manifest."""
    try:
        sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise UsageError(f"{file}: cannot be read: {error.strerror}; name the Keras file of the bundle") from error
    if sha256 not in read_manifest(bundle).made_with.values():
        raise UsageError(
            f"{file}: is not the Keras file that {bundle.name} was made from (another SHA-256); name that one, for all"
            " peers must run the same network"
        )
    return sha256


def _golden(bundle: Path) -> tuple[Pixels, NDArray[np.float64]]:
    """The bundle's drawn films and the float32 file's probabilities of them. Raises BundleError where it has none."""
    try:
        with np.load(bundle / read_manifest(bundle).golden.file, allow_pickle=False) as golden:
            return golden["pixels"], golden["float32"].astype(np.float64)
    except (KeyError, ValueError, OSError) as error:
        raise BundleError(f"{bundle}: the golden samples cannot be read; install the bundle again") from error


def _reading(said: Any, expected: NDArray[np.float64], file: Path) -> Read:
    """How a probability comes from the head: of a logit or a probability, of either polarity, through the calibration
    that export put into the bundle, a slope and an offset of the logit: the line that fits the golden samples. Raises
    UsageError where none does."""
    best = (np.inf, 1.0, 0.0, False)
    for ended in (False, True):
        z = _logits(said, ended=ended)
        if not np.isfinite(z).all():
            continue
        slope, offset = np.polyfit(z, np.log(expected / (1 - expected)), 1).tolist()
        apart = float(np.abs(_sigmoid(slope * z + offset) - expected).max())
        best = min(best, (apart, slope, offset, ended))
    apart, slope, offset, ended = best
    if not apart <= SAME:
        raise UsageError(
            f"{file}: on the bundle's golden samples Keras computes other probabilities (off by {apart:.3f})"
        )
    return lambda said: _sigmoid(slope * _logits(said, ended=ended) + offset)


def _logits(said: Any, *, ended: bool) -> NDArray[np.float64]:
    """The head (N,), the network's first output; of two classes, the second over the first. `ended`: it has gone
    through a sigmoid or a softmax. NaN for what is none of this."""
    outputs = list(said.values()) if isinstance(said, dict) else said if isinstance(said, list) else [said]
    head = np.asarray(outputs[0], np.float64).reshape(len(outputs[0]), -1)
    with np.errstate(divide="ignore", invalid="ignore"):
        if head.shape[1] == 2:
            return np.asarray(np.log(head[:, 1] / head[:, 0]) if ended else head[:, 1] - head[:, 0])
        return np.asarray(np.log(head[:, 0] / (1 - head[:, 0])) if ended else head[:, 0])


def _sigmoid(z: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-z)))
