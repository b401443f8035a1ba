"""What computes a network: ONNX Runtime on one of its providers, or OpenVINO natively. The only door to both.

Which is the fastest on a machine is measured by `tune`, not believed.
"""

from __future__ import annotations

import io
import secrets
import threading
from contextlib import nullcontext, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bonefrac import graphs
from bonefrac.errors import BundleError, UsageError
from bonefrac.gpu import FILMS, GpuSession
from bonefrac.machine import cpu, usable_cores
from bonefrac.sinks import PART

PROVIDERS = {  # device -> ONNX Runtime's provider
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "directml": "DmlExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "openvino-ep": "OpenVINOExecutionProvider",  # of the package onnxruntime-openvino
}
OPENVINO = "OpenVINO"  # the provider of the device `openvino`: the plain package, without ONNX Runtime
DEVICES = (*PROVIDERS, "openvino")
_WARNING, _FATAL = 2, 4  # what ONNX Runtime logs: from the start, and while a device may prove not to be there
# ONNX Runtime's arena, grown by what a film needs and no more: half the memory that malloc takes for the same
_EXACT = {"arena_extend_strategy": "kSameAsRequested"}
# scores must not be a matter of which algorithm won a race, nor of the processor's coarser kind of float32
_NVIDIA = {
    PROVIDERS["cuda"]: {"cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0"},
    PROVIDERS["tensorrt"]: {"trt_fp16_enable": "0"},
}


@dataclass(frozen=True)
class Share:
    """How a session shares the cores: so many workers call it at once, and so many threads compute for each."""

    workers: int = 1
    threads: int = 1


class Session(Protocol):
    """A network ready to compute. `inputs` has the shape of each input by name, its first side being the batch's."""

    provider: str
    inputs: dict[str, list[Any]]
    outputs: frozenset[str]

    def run(self, outputs: list[str], batch: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """The named outputs for a batch of the one input; may be called from several threads at once."""
        ...


def on_processor(provider: str) -> bool:
    """Does it compute on the cores that decode? Otherwise on a GPU or the like."""
    return provider in (PROVIDERS["cpu"], PROVIDERS["openvino-ep"], OPENVINO)


def usual_batch_size(provider: str) -> int:
    """One film at a time on a processor, where more gain nothing and cost memory; 16 elsewhere."""
    return 1 if on_processor(provider) else FILMS


def batch_sizes(provider: str) -> set[int]:
    """Those worth trying: OpenVINO computes film by film, a GPU of NVIDIA batches of one size."""
    if provider == OPENVINO or provider in _NVIDIA:
        return {usual_batch_size(provider)}
    return {1, 4, usual_batch_size(provider)}


def usual_workers(provider: str, cores: int) -> int:
    """One a core, which computes what it prepared. More where others compute meanwhile: one more than OpenVINO has
    streams, and twice as many for a GPU."""
    if provider == OPENVINO:
        return cores + 1
    return cores if on_processor(provider) else 2 * cores


def installed() -> dict[str, str]:
    """The devices whose software is here, by name, with its version; whether each works is another question."""
    found = {}
    with suppress(ImportError):
        import onnxruntime as ort

        there = set(ort.get_available_providers())
        found = {name: f"ONNX Runtime {ort.__version__}" for name, provider in PROVIDERS.items() if provider in there}
    with suppress(ImportError):
        import openvino

        found["openvino"] = f"OpenVINO {openvino.__version__}"
    return found


def open_session(onnx: bytes, sha256: str, device: str, share: Share) -> Session:
    """A session on exactly the device asked for; `auto` is CUDA where it really works, else the CPU.

    `sha256` is that of `onnx`. Raises UsageError for a device that is not there, BundleError for a network that it does
    not take.
    """
    if device not in ("auto", *DEVICES):
        raise UsageError(f"unknown device '{device}': choose auto, {', '.join(DEVICES)}")
    if device == "openvino":
        return _OpenVino(onnx, share)
    if device != "auto":
        return _onnx_runtime(onnx, sha256, device, share.threads)
    try:
        return _onnx_runtime(onnx, sha256, "cuda", share.threads)
    except UsageError:
        return _onnx_runtime(onnx, sha256, "cpu", share.threads)


def _onnx_runtime(onnx: bytes, sha256: str, device: str, threads: int) -> Session:
    """A session of ONNX Runtime on the provider of a device."""
    try:
        import onnxruntime as ort
    except ImportError as error:
        raise UsageError('ONNX Runtime is missing: type  pip install "bonefrac[cpu]"  (or bonefrac[gpu])') from error
    provider, told = PROVIDERS[device], ""
    try:
        if provider in ort.get_available_providers():
            if device == "cpu":
                return _Plain(_optimised_once(ort, onnx, sha256, threads))
            session, told = _elsewhere(ort, onnx, provider, threads)
            if session.get_providers()[0] == provider:  # else it fell back to the CPU
                return GpuSession(ort, session) if provider in _NVIDIA else _Plain(session, alone=device == "directml")
    except Exception as error:  # onnxruntime raises its own kinds, of no common base
        raise BundleError(f"ONNX Runtime cannot load this model on {device}: {str(error).splitlines()[0]}") from error
    why = f" ({told.splitlines()[0]})" if told else ""
    raise UsageError(f"device '{device}' is not there on this machine{why}; leave --device out to use the CPU")


def _elsewhere(ort: Any, onnx: bytes, provider: str, threads: int) -> tuple[Any, str]:
    """A session on another provider than the CPU's, or on the CPU where that one fails, and what was printed of it."""
    asked = (provider, _NVIDIA[provider]) if provider in _NVIDIA else provider
    ort.set_default_logger_severity(_FATAL)
    try:
        with redirect_stdout(io.StringIO()) as told:
            if provider in _NVIDIA and hasattr(ort, "preload_dlls"):
                ort.preload_dlls()  # CUDA and cuDNN of bonefrac[gpu] lie where the loader does not look
            options = _options(ort, threads)
            options.enable_mem_pattern = (
                provider != PROVIDERS["directml"]
            )  # it takes none (DirectML-ExecutionProvider.md)
            session = ort.InferenceSession(onnx, options, providers=[asked])
    finally:
        ort.set_default_logger_severity(_WARNING)
    return session, told.getvalue()


class _Plain:
    """A session of ONNX Runtime that every worker calls: at once, or one after the other where it must be `alone`, as
    on DirectML (ONNX Runtime, DirectML-ExecutionProvider.md)."""

    def __init__(self, session: Any, *, alone: bool = False) -> None:
        self._session = session
        self._turn = threading.Lock() if alone else nullcontext()
        self.provider: str = session.get_providers()[0]
        self.inputs: dict[str, list[Any]] = {entry.name: entry.shape for entry in session.get_inputs()}
        self.outputs = frozenset(entry.name for entry in session.get_outputs())

    def run(self, outputs: list[str], batch: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        with self._turn:
            return self._session.run(outputs, dict.fromkeys(self.inputs, batch))


def _options(ort: Any, threads: int) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # decoders need the cores
    options.log_severity_level = 3
    return options


def _optimised_once(ort: Any, onnx: bytes, sha256: str, threads: int) -> Any:
    """A session on the CPU, from the graph that an earlier start left on this machine, or else one that leaves it.

    The layout of an optimised graph is one processor's (ONNX Runtime, graph-optimizations.md), so that `cpu` is part of
    its name; its scores are those of the network, to the last bit.
    """
    path = graphs.place(sha256, ort.__version__, cpu())
    providers = [(PROVIDERS["cpu"], _EXACT)]
    if (graph := graphs.kept(path)) is not None:
        options = _options(ort, threads)
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        return ort.InferenceSession(graph, options, providers=providers)
    saved = path.with_name(PART + secrets.token_hex(8))
    options = _options(ort, threads)
    options.optimized_model_filepath = str(saved)
    options.add_session_config_entry("session.save_model_format", "ORT")  # loads faster than ONNX
    try:
        saved.parent.mkdir(parents=True, exist_ok=True)
        session = ort.InferenceSession(onnx, options, providers=providers)
        _keep(path, saved)
    except Exception:  # no place to write, or a network that cannot be loaded, which is told by loading it again
        return ort.InferenceSession(onnx, _options(ort, threads), providers=providers)
    finally:
        with suppress(OSError):
            saved.unlink(missing_ok=True)
    return session


def _keep(path: Path, saved: Path) -> None:
    with suppress(OSError):  # a full disk: the next start optimises again
        graphs.keep(path, saved.read_bytes())


class _OpenVino:
    """OpenVINO's CPU plug-in, film by film, in the network's own precision: a stream for each worker, but no more
    threads in all than there are cores.

    Left alone it would turn float32 into bfloat16 where the processor has that, and the operating points were not
    chosen with it; and it would tie its threads to cores, where whatever else runs makes them wait. Raises UsageError
    where the package is missing.
    """

    provider = OPENVINO

    def __init__(self, onnx: bytes, share: Share) -> None:
        try:
            import openvino
        except ImportError as error:
            raise UsageError(
                "device 'openvino' is not there on this machine: type  pip install \"bonefrac[openvino]\","
                " or leave --device out"
            ) from error
        try:
            core = openvino.Core()
            network = core.read_model(io.BytesIO(onnx))
            self.inputs: dict[str, list[Any]] = {
                entry.any_name: [side.get_length() if side.is_static else None for side in entry.partial_shape]
                for entry in network.inputs
            }
            network.reshape({name: [1, *shape[1:]] for name, shape in self.inputs.items()})
            streams = max(1, min(share.workers, usable_cores() // share.threads))
            self._compiled = core.compile_model(network, "CPU", {
                "INFERENCE_PRECISION_HINT": "f32",
                "NUM_STREAMS": streams,
                "INFERENCE_NUM_THREADS": streams * share.threads,
                "ENABLE_CPU_PINNING": False,
            })  # fmt: skip
        except Exception as error:  # openvino raises RuntimeError and kinds of its own
            raise BundleError(f"OpenVINO cannot load this model: {str(error).strip().splitlines()[-1]}") from error
        self.outputs = frozenset(name for entry in self._compiled.outputs for name in entry.names)
        self._of_thread = threading.local()
        # the first inference of all alone: two at once wait in its binding's set-up for Python's lock, for ever
        blank = {name: np.zeros([1, *shape[1:]], np.uint8) for name, shape in self.inputs.items()}
        self._compiled.create_infer_request().infer(blank)

    def run(self, outputs: list[str], batch: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """Film by film, so that no film's scores depend on its batch."""
        request = getattr(self._of_thread, "request", None)
        if request is None:  # one that is in use may not be called again
            request = self._of_thread.request = self._compiled.create_infer_request()
        found = []
        for film in batch:
            request.infer(dict.fromkeys(self.inputs, film[None]), share_inputs=True)
            found.append([request.get_tensor(name).data.copy() for name in outputs])
        return [np.concatenate(parts) for parts in zip(*found, strict=True)]
