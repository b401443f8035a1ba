"""Golden samples: drawn films and what the bundle says of them, replayed by `bonefrac check` on any machine."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from bonefrac.errors import BonefracError
from bonefrac.model import FileEntry, Precision
from bonefrac.preprocess import InputSpec, to_input
from bonefrac.results import Radiograph
from bonefrac.synthetic import draw_radiograph

DRAWN = ((1, True), (1, False), (2, True), (2, False))  # seed of the drawing, with a fracture or not


def write_golden(
    folder: Path, spec: InputSpec, models: Mapping[Precision, onnx.ModelProto], *, ranked: bool
) -> FileEntry:
    """Write the drawn films and each precision's probabilities. They are a replay: what a network makes of drawings
    says nothing of films.

    Only with `ranked`, for our own flagship, which sees what is drawn, raises BonefracError where a drawn fracture does
    not outscore every clean drawing.
    """
    drawn = [draw_radiograph(seed, fractured=fractured).pixels for seed, fractured in DRAWN]
    pixels = np.stack([to_input(Radiograph(film, film.shape[1], film.shape[0]), spec)[0] for film in drawn])
    scores = {}
    for precision, model in models.items():
        session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        scores[precision] = session.run(["probability"], {"pixels": pixels})[0]
        if ranked and scores[precision][::2].min() <= scores[precision][1::2].max():
            raise BonefracError(f"{precision} scores a drawn film without fracture above one with: {scores[precision]}")
    np.savez_compressed(folder / "golden.npz", pixels=pixels, **scores)
    return FileEntry("golden.npz", hashlib.sha256((folder / "golden.npz").read_bytes()).hexdigest())
