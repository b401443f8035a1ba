"""model.py: bundles are read strictly, run where asked, and score each film alone."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import sys
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bonefrac.errors import BundleError, UsageError
from bonefrac.model import Model, find_bundle, load_model, read_manifest
from bonefrac.preprocess import to_input
from bonefrac.results import Radiograph

ort = pytest.importorskip("onnxruntime")
Make = Callable[..., Any]
GONE = object()


@pytest.fixture
def bundle(tmp_path: Path, flagship: Path) -> Path:
    """A copy of the shipped bundle that a test may change."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    for file in flagship.iterdir():
        if file.suffix in (".json", ".npz"):
            shutil.copy(file, folder)
        else:
            (folder / file.name).symlink_to(file)
    return folder


def edit(folder: Path, where: str, value: object) -> None:
    """Change or remove one entry of the manifest; `where` is its keys, joined by dots."""
    path = folder / "manifest.json"
    raw = json.loads(path.read_text())
    *parents, last = where.split(".")
    inner = reduce(lambda part, key: part[key], parents, raw)
    if value is GONE:
        del inner[last]
    else:
        inner[last] = value
    path.write_text(json.dumps(raw))


# --- the manifest ----------------------------------------------------------------------------------------------


def test_the_shipped_manifest_is_read(flagship: Path) -> None:
    manifest = read_manifest(flagship)
    assert manifest.name == "flagship"
    assert 0 < manifest.operating_points.sensitive < manifest.operating_points.specific < 1
    assert manifest.default_precision == "int8"


@pytest.mark.parametrize("where", ["surprise", "input.mean", "operating_points.other", "golden.x", "training_data.x",
                                   "precisions.int8.url"])  # fmt: skip
def test_an_unknown_key_is_refused(bundle: Path, where: str) -> None:
    edit(bundle, where, 1)
    with pytest.raises(BundleError, match=where.split(".")[-1]):
        read_manifest(bundle)


@pytest.mark.parametrize(
    "where",
    ["name", "version", "input", "region_level", "limits", "figures", "made_with", "golden", "input.fit",
     "input.version", "operating_points.chosen_on", "precisions.int8.sha256", "training_data.licence"],
)  # fmt: skip
def test_a_missing_key_is_refused(bundle: Path, where: str) -> None:
    edit(bundle, where, GONE)
    with pytest.raises(BundleError, match=where.split(".")[-1]):
        read_manifest(bundle)


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("name", 3),
        ("name", None),
        ("region_level", "0.5"),
        ("region_level", True),
        ("operating_points.specific", "0.5"),
        ("operating_points", [0.1, 0.5]),
        ("input.width", 320.5),
        ("input.width", "320"),
        ("golden", "golden.npz"),
        ("golden.sha256", 5),
        ("precisions.int8", "int8.onnx"),
        ("precisions", 5),
        ("precisions", ["int8"]),
        ("default_precision", 8),
        ("default_precision", ["int8"]),
        ("figures", ["0.9"]),
        ("figures", {"AUROC": 0.9}),
        ("limits", "none"),
        ("limits", [1]),
        ("made_with", None),
    ],
)
def test_a_value_of_another_type_is_refused(bundle: Path, where: str, value: object) -> None:
    edit(bundle, where, value)
    with pytest.raises(BundleError):
        read_manifest(bundle)


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("format", 1),
        ("format", "1"),
        ("format", True),
        ("format", GONE),
        ("input.version", 99),
        ("operating_points.sensitive", 0.99),
        ("operating_points.sensitive", 0.0),
        ("operating_points.specific", 1.0),
        ("operating_points.specific", float("nan")),
        ("default_precision", "float16"),
        ("precisions", {}),
        ("input.resize", "nearest"),
        ("input.fit", "crop"),
        ("input.width", 0),
        ("region_level", -1.0),
        ("region_level", float("nan")),
    ],
)
def test_a_value_that_cannot_be_is_refused(bundle: Path, where: str, value: object) -> None:
    edit(bundle, where, value)
    with pytest.raises(BundleError):
        read_manifest(bundle)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"5", b"\xff\xfe", b"null"])
def test_a_manifest_that_is_no_object_is_refused(bundle: Path, text: bytes) -> None:
    (bundle / "manifest.json").write_bytes(text)
    with pytest.raises(BundleError):
        read_manifest(bundle)


def test_a_folder_without_a_manifest_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no model bundle"):
        read_manifest(tmp_path)


def test_a_bundle_is_found_by_name_and_by_path(flagship: Path) -> None:
    assert read_manifest(find_bundle("flagship")) == read_manifest(flagship)
    assert find_bundle(str(flagship)) == flagship
    with pytest.raises(BundleError, match="flagship"):
        find_bundle("no such bundle")


# --- its files -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["int8.onnx", "golden.npz"])
def test_one_changed_byte_is_refused(bundle: Path, name: str) -> None:
    data = bytearray((bundle / name).read_bytes())
    data[len(data) // 2] ^= 1
    (bundle / name).unlink()
    (bundle / name).write_bytes(data)
    with pytest.raises(BundleError, match=f"{name} is not the file that was verified"):
        Model(bundle)


@pytest.mark.parametrize("name", ["int8.onnx", "golden.npz"])
def test_a_missing_file_is_told(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    with pytest.raises(BundleError, match=f"{name} is missing"):
        Model(bundle)


@pytest.mark.parametrize("name", ["../outside.onnx", "/etc/passwd", "sub/int8.onnx", "..", "."])
def test_a_file_outside_the_bundle_is_refused(bundle: Path, name: str) -> None:
    outside = (bundle / "int8.onnx").read_bytes()
    (bundle.parent / "outside.onnx").write_bytes(outside)
    edit(bundle, "precisions.int8.file", name)
    with pytest.raises(BundleError, match=r"outside the bundle|is missing"):
        Model(bundle)


def test_a_file_that_is_no_onnx_is_told(bundle: Path) -> None:
    (bundle / "int8.onnx").unlink()
    (bundle / "int8.onnx").write_bytes(b"nonsense")
    edit(bundle, "precisions.int8.sha256", hashlib.sha256(b"nonsense").hexdigest())
    with pytest.raises(BundleError, match="cannot load"):
        Model(bundle)


def write_golden(folder: Path, **arrays: Any) -> None:
    file = io.BytesIO()
    np.savez(file, **arrays)
    (folder / "golden.npz").write_bytes(file.getvalue())
    edit(folder, "golden.sha256", hashlib.sha256(file.getvalue()).hexdigest())


def golden(folder: Path) -> dict[str, Any]:
    with np.load(folder / "golden.npz") as file:
        return dict(file)


@pytest.mark.parametrize("wrong", [0.05, float("nan")])
def test_a_machine_that_scores_otherwise_is_refused(bundle: Path, wrong: float) -> None:
    arrays = golden(bundle)
    write_golden(bundle, **arrays)
    Model(bundle)
    arrays["int8"] = arrays["int8"] + np.float32(wrong)
    write_golden(bundle, **arrays)
    with pytest.raises(BundleError, match="self-test"):
        Model(bundle)


def test_inverted_films_fail_the_self_test(bundle: Path) -> None:
    arrays = golden(bundle)
    arrays["pixels"] = 255 - arrays["pixels"]
    write_golden(bundle, **arrays)
    with pytest.raises(BundleError, match="self-test"):
        Model(bundle)


def test_golden_samples_without_the_precision_are_told(bundle: Path) -> None:
    arrays = golden(bundle)
    del arrays["int8"]
    write_golden(bundle, **arrays)
    with pytest.raises(BundleError):
        Model(bundle)


def test_all_golden_samples_pass(model: Model, float_model: Model) -> None:
    assert model.check_golden() < 0.02
    assert float_model.check_golden() < 0.001


# --- where it runs ---------------------------------------------------------------------------------------------


def test_an_unknown_device_is_misuse(flagship: Path) -> None:
    with pytest.raises(UsageError, match="unknown device 'gpu'"):
        Model(flagship, device="gpu")


def test_a_device_that_is_missing_is_misuse(flagship: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    monkeypatch.setitem(sys.modules, "openvino", None)
    for device in ("cuda", "tensorrt", "openvino", "openvino-ep", "directml", "coreml"):
        with pytest.raises(UsageError, match=f"device '{device}' is not there"):
            Model(flagship, device=device)


class Pretended:
    """An ONNX Runtime whose CUDA is listed but does not work."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, raises: bool) -> None:
        real = ort.InferenceSession

        def session(onnx: bytes, options: Any, providers: list[Any]) -> Any:
            if providers[0][0] != "CPUExecutionProvider" and raises:
                raise RuntimeError("CUDA failure 35: driver version is insufficient")
            return real(onnx, options, providers=["CPUExecutionProvider"])

        monkeypatch.setattr(ort, "InferenceSession", session)
        monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])


def test_a_silent_fall_back_to_the_cpu_is_misuse(
    flagship: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Pretended(monkeypatch, raises=False)
    monkeypatch.setattr(ort, "preload_dlls", lambda: sys.stdout.write("Failed to load libcublas.so.13: no such file\n"))
    with pytest.raises(UsageError, match=r"'cuda' is not there .*\(Failed to load libcublas.so.13: no such file\)"):
        Model(flagship, device="cuda")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("raises", [False, True])
def test_auto_goes_on_to_the_cpu_where_cuda_does_not_work(
    flagship: Path, monkeypatch: pytest.MonkeyPatch, raises: bool
) -> None:
    Pretended(monkeypatch, raises=raises)
    assert Model(flagship).provider == "CPUExecutionProvider"


def test_a_precision_that_is_not_there_is_told(bundle: Path) -> None:
    edit(bundle, "precisions.float32", GONE)
    with pytest.raises(BundleError, match="no float32 file, only int8"):
        load_model(str(bundle), precision="float32")


def test_auto_precision_is_the_bundles_default(model: Model, float_model: Model) -> None:
    assert (model.precision, float_model.precision) == ("int8", "float32")
    assert model.sha256 == model.manifest.precisions["int8"].sha256 != float_model.sha256
    assert model.name == f"{model.manifest.name} {model.manifest.version}"


# --- what it says ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def inputs(model: Model, drawn: Make) -> Any:
    """Six inputs (6, height, width, 1): drawn films, black and noise."""
    spec = model.manifest.input
    films = [to_input(Radiograph(drawn(seed), 380, 500), spec)[0] for seed in (1, 2, 3, 4)]
    noise = np.random.default_rng(0).integers(0, 256, films[0].shape, dtype=np.uint8)
    return np.stack([*films, np.zeros_like(noise), noise])


def test_predict_gives_probabilities_and_heat_maps(model: Model, inputs: Any) -> None:
    probability, heatmap, familiarity = model.predict(inputs)
    assert probability.shape == familiarity.shape == (6,)
    assert probability.dtype == heatmap.dtype == familiarity.dtype == np.float32
    assert heatmap.shape[0] == 6
    assert heatmap.shape[1] * 16 >= model.manifest.input.height
    for values in (probability, heatmap, familiarity):
        assert 0 <= values.min() <= values.max() <= 1
    assert np.ptp(probability) > 0.1


@pytest.mark.parametrize("precision", ["int8", "float32"])
@pytest.mark.parametrize("order", [[5, 4, 3, 2, 1, 0], [2, 0, 4], [0, 0, 1], [3]])
def test_a_films_scores_do_not_depend_on_its_batch(
    request: pytest.FixtureRequest, inputs: Any, precision: str, order: list[int]
) -> None:
    model: Model = request.getfixturevalue("model" if precision == "int8" else "float_model")
    together, otherwise = model.predict(inputs), model.predict(inputs[order])
    for ours, others in zip(together, otherwise, strict=True):
        assert np.array_equal(others, ours[order])


def test_drawn_films_are_familiar_and_noise_is_not(model: Model, inputs: Any) -> None:
    assert [model.is_familiar(float(value)) for value in model.predict(inputs).familiarity] == [True] * 4 + [False] * 2


def test_the_points_divide_the_findings(model: Model) -> None:
    points = model.manifest.operating_points
    assert model.finding(points.specific) == "fracture"
    assert model.finding(np.nextafter(points.specific, 0)) == "doubt"
    assert model.finding(points.sensitive) == "doubt"
    assert model.finding(np.nextafter(points.sensitive, 0)) == "no_fracture_detected"


@pytest.mark.skipif(sys.platform != "linux", reason="counts Linux' page faults")
def test_a_film_takes_no_new_memory(float_model: Model) -> None:
    """ONNX Runtime's arena keeps what the first film needed; without it, float32 takes thousands of pages a film."""
    import resource

    films, _ = float_model.golden()
    for _ in range(4):
        float_model.predict(films[:1])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        float_model.predict(films[:1])
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 8 < 500
