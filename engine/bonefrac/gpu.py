"""A GPU kept busy: workers lay batches into its memory, and one feeder computes them, one after the other.

Every batch has the same size, the last ones filled up with blank films: cuDNN chooses its algorithms by a batch's
shape, and a film's scores must not depend on how many came with it.
"""

from __future__ import annotations

import queue
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bonefrac.errors import UsageError

FILMS = 16  # in each batch
_BATCHES = 3  # one is computed, one lies ready, one is being filled
_MEMORY = "cuda"


@dataclass(frozen=True)
class _Batch:
    """Memory of the GPU for one batch of pixels, and ONNX Runtime's binding of it to a session's inputs and outputs."""

    pixels: Any  # OrtValue, uint8 (FILMS, height, width, 1)
    binding: Any  # IOBinding


class GpuSession:
    """A session of ONNX Runtime on an NVIDIA GPU as `backends.Session`; `ort` is the onnxruntime module."""

    def __init__(self, ort: Any, session: Any) -> None:
        self._session = session
        self.provider: str = session.get_providers()[0]
        self.inputs: dict[str, list[Any]] = {entry.name: entry.shape for entry in session.get_inputs()}
        self._names = [entry.name for entry in session.get_outputs()]
        self.outputs = frozenset(self._names)
        ((_, shape),) = self.inputs.items()
        self._shape = (FILMS, *shape[1:])
        self._free: queue.Queue[_Batch] = queue.Queue()
        for _ in range(_BATCHES):
            self._free.put(self._bound(ort))
        self._feeder = ThreadPoolExecutor(1, thread_name_prefix="gpu-feeder")

    def _bound(self, ort: Any) -> _Batch:
        pixels = ort.OrtValue.ortvalue_from_shape_and_type(self._shape, np.uint8, _MEMORY)
        binding = self._session.io_binding()
        for name in self.inputs:
            binding.bind_ortvalue_input(name, pixels)
        for name in self._names:
            binding.bind_output(name)  # in the host's memory: a few numbers a film
        return _Batch(pixels, binding)

    def run(self, outputs: list[str], batch: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """The named outputs; raises UsageError where the GPU cannot compute them, its memory being full, say."""
        parts = [self._computed(batch[i : i + FILMS]) for i in range(0, len(batch), FILMS)]
        return [np.concatenate([part[name] for part in parts]) for name in outputs]

    def _computed(self, films: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        full = np.zeros(self._shape, np.uint8)
        full[: len(films)] = films
        batch = self._free.get()
        try:
            batch.pixels.update_inplace(full)  # copied by this worker, while the feeder computes another batch
            found = self._feeder.submit(self._compute, batch).result()
        except Exception as error:  # onnxruntime raises its own kinds, of no common base
            raise UsageError(
                f"the GPU stopped computing: {str(error).splitlines()[0]}; run the same with --device cpu"
            ) from error
        finally:
            self._free.put(batch)
        return {name: values[: len(films)] for name, values in found.items()}

    def _compute(self, batch: _Batch) -> dict[str, NDArray[np.float32]]:
        self._session.run_with_iobinding(batch.binding)
        return dict(zip(self._names, batch.binding.copy_outputs_to_cpu(), strict=True))
