"""Weights from elsewhere find their places to the last array, or are refused; rates follow from the step alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("keras", reason='needs the extra: pip install ".[train]"', exc_type=ImportError)

import keras

from bonefrac.errors import UsageError
from bonefrac_training.box import box
from bonefrac_training.networks import find
from bonefrac_training.resnet18 import from_torchvision, load_torchvision, resnet18
from bonefrac_training.schedule import Schedule
from bonefrac_training.weights import arrays_of, fill, load_npz, load_trained

SIZE = 32


def torchvision_state() -> dict[str, np.ndarray[Any, Any]]:
    """torchvision's resnet18 by its names and shapes, with random values."""
    rng = np.random.default_rng(0)
    shapes: dict[str, tuple[int, ...]] = {"conv1.weight": (64, 3, 7, 7)}
    norms = {"bn1": 64}
    entry = 64
    for stage, width in enumerate((64, 128, 256, 512), 1):
        for block in (0, 1):
            name = f"layer{stage}.{block}"
            shapes |= {f"{name}.conv1.weight": (width, entry, 3, 3), f"{name}.conv2.weight": (width, width, 3, 3)}
            norms |= {f"{name}.bn1": width, f"{name}.bn2": width}
            if entry != width:
                shapes[f"{name}.downsample.0.weight"] = (width, entry, 1, 1)
                norms[f"{name}.downsample.1"] = width
            entry = width
    for name, width in norms.items():
        shapes |= {f"{name}.{kind}": (width,) for kind in ("weight", "bias", "running_mean", "running_var")}
        shapes[f"{name}.num_batches_tracked"] = ()
    shapes |= {"fc.weight": (1000, 512), "fc.bias": (1000,)}
    return {name: np.asarray(rng.uniform(0.1, 0.2, shape), np.float32) for name, shape in shapes.items()}


def test_torchvisions_weights_find_their_places(tmp_path: Path) -> None:
    state = torchvision_state()
    assert len(state) == 122, "as many as torchvision's"
    np.savez(tmp_path / "resnet18.npz", **state)  # type: ignore[arg-type]
    model = resnet18(SIZE)
    load_torchvision(model, tmp_path / "resnet18.npz")
    named = from_torchvision(state)
    assert len(named) == 100 == len(arrays_of(model, only=model)) - 2, "all but the head"
    kernel = np.asarray(model.get_layer("layer2_0_downsample_0").kernel)
    assert np.array_equal(kernel[0, 0], state["layer2.0.downsample.0.weight"][:, :, 0, 0].T)
    assert np.array_equal(
        np.asarray(model.get_layer("layer4_1_bn2").moving_variance), state["layer4.1.bn2.running_var"]
    )

    np.savez(tmp_path / "other.npz", a=np.zeros(1))
    with pytest.raises(UsageError, match="no state dict"):
        load_torchvision(model, tmp_path / "other.npz")


def test_strided_convolutions_pad_as_torch_does() -> None:
    """conv1 by hand: padding 3 on both sides, stride 2; Keras' "same" would be shifted by a pixel."""
    state = torchvision_state()
    model = resnet18(SIZE)
    fill(model, from_torchvision(state), "test")
    film = np.random.default_rng(0).uniform(0, 255, (1, SIZE, SIZE, 1)).astype(np.float32)
    entry = np.asarray(keras.Model(model.input, model.get_layer("scale").output)(film))[0]
    found = np.asarray(keras.Model(model.input, model.get_layer("conv1").output)(film))[0]
    padded = np.pad(entry, ((3, 3), (3, 3), (0, 0)))
    for row, column in ((0, 0), (5, 9), (15, 15)):
        patch = padded[2 * row : 2 * row + 7, 2 * column : 2 * column + 7].transpose(2, 0, 1)
        assert found[row, column, 7] == pytest.approx((patch * state["conv1.weight"][7]).sum(), rel=1e-3)
    assert found.shape == (16, 16, 64)


def test_a_trunk_is_filled_from_keras_applications_and_from_a_file(tmp_path: Path) -> None:
    trunk = keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(SIZE, SIZE, 3))
    model = find("mobilenetv2").build(SIZE)
    shared = arrays_of(trunk, only=model)
    assert len(shared) == 260, "as many as the file of ImageNet weights has"
    fill(model, shared, "test")
    assert np.array_equal(np.asarray(model.get_layer("Conv1").kernel), np.asarray(trunk.get_layer("Conv1").kernel))

    np.savez(tmp_path / "odd.npz", **{**shared, "block_99_expand/kernel": np.zeros(3)})
    with pytest.raises(UsageError, match="block_99_expand/kernel"):
        load_npz(model, tmp_path / "odd.npz")
    with pytest.raises(UsageError, match=r"Conv1/kernel \(3,\)"):
        fill(model, {"Conv1/kernel": np.zeros(3)}, "test")


def test_a_network_of_another_name_is_no_beginning(tmp_path: Path) -> None:
    find("cnn").build(SIZE).save(tmp_path / "cnn.keras")
    model = find("cnn").build(64)
    load_trained(model, tmp_path / "cnn.keras")
    with pytest.raises(UsageError, match="does not fit the network box"):
        load_trained(box(SIZE), tmp_path / "cnn.keras")
    (tmp_path / "bad.keras").write_bytes(b"no zip")
    with pytest.raises(UsageError, match="does not fit"):
        load_trained(model, tmp_path / "bad.keras")


def test_the_schedule_is_keras_cosine_with_warm_up() -> None:
    schedule = Schedule(50, 30, 1e-3)
    theirs = keras.optimizers.schedules.CosineDecay(1e-5, 1300, warmup_target=1e-3, warmup_steps=200)
    for step in (0, 1, 100, 199, 200, 201, 700, 1499, 1500):
        assert schedule.rate(step) == pytest.approx(float(theirs(step)), abs=1e-9)


def test_the_first_phase_ends_in_a_second_with_a_lower_rate() -> None:
    schedule = Schedule(10, 4, 1e-3, frozen_epochs=1)
    phases: Callable[[int], bool] = schedule.frozen
    assert [phases(step) for step in (0, 9, 10, 39)] == [True, True, False, False]
    rates = [schedule.rate(step) for step in range(40)]
    assert rates[9] == 1e-3
    assert rates[10] < 1e-5
    assert max(rates[10:]) == pytest.approx(3e-4)
    assert rates[39] < 2e-6
