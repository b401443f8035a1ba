"""Drawn radiographs: no patient, no film, free to ship. For the demo, the bundle's golden samples and the tests.

A limb is drawn as a detector would see it: Beer and Lambert's law along parallel rays through tubes of cortex around
marrow inside soft tissue, quantum noise, blur, and the logarithm, so that bone is bright.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

# Linear attenuation in 1/cm at 50 keV (NIST tables of X-ray mass attenuation, ICRU-44 tissues, times their density).
_CORTEX, _MARROW, _TISSUE = 0.81, 0.25, 0.24
_PHOTONS = 4000.0  # a pixel where nothing is in the way, of the film of `_HEIGHT`
_HEIGHT = 1000  # px of the film in whose pixels everything is drawn: a smaller film is a smaller picture of the limb
_PX_PER_CM = 42.0


@dataclass(frozen=True)
class Drawn:
    """A drawn film: `pixels` uint16 (height, width), 12 bit used; `box` round the fracture in px, or None."""

    pixels: NDArray[np.uint16]
    box: tuple[float, float, float, float] | None


@dataclass(frozen=True)
class _Break:
    """An oblique break at `at` (0..1 along the bone): the far part is shifted and bent."""

    at: float
    slope: float
    gap_px: float
    shift_px: float
    bend: float  # radians


def draw_radiograph(seed: int, *, fractured: bool, height: int = _HEIGHT, width: int = 760) -> Drawn:
    """A forearm or a lower leg, turned a little, from a seed; the same seed and size give the same film."""
    rng = np.random.default_rng((seed, fractured))
    legs = rng.random() < 0.5
    radii = (0.62, 1.25) if legs else (0.66, 0.74)  # cm at the shaft: fibula and tibia, or ulna and radius
    apart = (radii[0] + radii[1]) * rng.uniform(1.35, 1.6)
    tilt = rng.uniform(-0.16, 0.16)
    broken = int(rng.integers(0, 2)) if not legs else 1
    step = np.float32(_HEIGHT / height)
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32) * step
    right, down = columns - width * step / 2, rows - _HEIGHT / 2
    x, y = right * np.cos(tilt) + down * np.sin(tilt), down * np.cos(tilt) - right * np.sin(tilt)

    attenuation = _tissue(x, y, rng, (radii[0] + radii[1] + apart) * 0.95)
    box = None
    for index, radius in enumerate(radii):
        centre = (index - 0.5) * apart * _PX_PER_CM
        bow = rng.uniform(-12, 12)
        hurt = None
        if fractured and index == broken:
            hurt = _Break(
                at=rng.uniform(0.36, 0.64),
                slope=rng.choice((-1, 1)) * rng.uniform(0.5, 1.2),
                gap_px=rng.uniform(3, 6) * radius,
                shift_px=rng.choice((-1, 1)) * rng.uniform(0.35, 0.6) * radius * _PX_PER_CM,
                bend=rng.uniform(-0.14, 0.14),
            )
            box = _box(hurt, centre, radius, tilt, height, width)
        attenuation += _bone(x - centre, y, _HEIGHT * 0.9, radius, bow, hurt, rng)
    return Drawn(_expose(attenuation, _PHOTONS * float(step) ** 2, rng), box)


def _tissue(
    x: NDArray[np.float32], y: NDArray[np.float32], rng: np.random.Generator, half_cm: float
) -> NDArray[np.float32]:
    """Attenuation of a tapering, slightly uneven limb of elliptic section."""
    half = half_cm * _PX_PER_CM * (1 + 0.00022 * y * rng.choice((-1, 1)) + 0.05 * np.sin(y / rng.uniform(150, 260)))
    inside = np.sqrt(np.clip(1 - (x / half) ** 2, 0, None))
    fat = 1 + 0.05 * _clouds(x.shape, rng, 40)
    return (_TISSUE * 1.5 * half_cm * inside * fat).astype(np.float32)


def _bone(
    x: NDArray[np.float32], y: NDArray[np.float32], length: float, radius: float, bow: float,
    hurt: _Break | None, rng: np.random.Generator,
) -> NDArray[np.float32]:  # fmt: skip
    """Attenuation that one tube adds to the tissue it replaces. `x`, `y` are px from its middle."""
    spongy = 1 + 0.22 * _clouds(x.shape, rng, 3)
    if hurt is None:
        return _tube(x, y, length, radius, bow, spongy)
    at = (hurt.at - 0.5) * length
    jagged = (
        at + hurt.slope * x + 3 * np.interp(x, np.linspace(-120, 120, 40), rng.standard_normal(40)).astype(np.float32)
    )
    near = _tube(x, y, length, radius, bow, spongy) * _sigmoid(jagged - hurt.gap_px / 2 - y)
    cos, sin = np.cos(hurt.bend), np.sin(hurt.bend)
    far_x, far_y = (x - hurt.shift_px) * cos - (y - at) * sin, at + (x - hurt.shift_px) * sin + (y - at) * cos
    far = _tube(far_x, far_y, length, radius, bow, spongy) * _sigmoid(far_y - (jagged + hurt.gap_px / 2))
    return (near + far).astype(np.float32, copy=False)


def _tube(
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    length: float,
    radius: float,
    bow: float,
    spongy: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Cortex around marrow: thick walls at the shaft, thin walls and spongy bone at the flared ends."""
    along = np.clip(np.abs(y) / (length / 2), 0, 1.2)
    flare = np.clip((along - 0.62) / 0.38, 0, 1) ** 2
    outer = (
        radius * _PX_PER_CM * (1 + 0.75 * flare) * np.sqrt(np.clip(1 - np.clip((along - 0.9) / 0.1, 0, 1) ** 2, 0, 1))
    )
    inner = outer * (0.52 + 0.36 * flare)
    across = x - bow * (1 - along**2)
    whole = 2 * np.sqrt(np.clip(outer**2 - across**2, 0, None)) / _PX_PER_CM
    marrow = 2 * np.sqrt(np.clip(inner**2 - across**2, 0, None)) / _PX_PER_CM
    filling = _MARROW + 0.10 * flare * spongy
    return ((_CORTEX - _TISSUE) * (whole - marrow) + (filling - _TISSUE) * marrow).astype(np.float32)


def _expose(attenuation: NDArray[np.float32], photons_a_pixel: float, rng: np.random.Generator) -> NDArray[np.uint16]:
    """Noise, blur, logarithm, 12 bit."""
    photons = rng.poisson(photons_a_pixel * np.exp(-attenuation)).astype(np.float32)
    seen = cv2.GaussianBlur(photons, (0, 0), 0.9)
    film = np.log(photons_a_pixel) - np.log(np.maximum(seen, 1))
    low, high = -0.05, float(np.percentile(film, 99.8)) * 1.05
    return np.clip((film - low) / (high - low) * 4095, 0, 4095).astype(np.uint16)


def _clouds(shape: tuple[int, ...], rng: np.random.Generator, size_px: float) -> NDArray[np.float32]:
    """Smooth noise of about that grain, mean 0, standard deviation 1."""
    noise = cv2.GaussianBlur(rng.standard_normal(shape).astype(np.float32), (0, 0), size_px)
    return np.asarray((noise - noise.mean()) / noise.std(), np.float32)


def _sigmoid(distance_px: NDArray[np.float32]) -> NDArray[np.float32]:
    return (1 / (1 + np.exp(-np.clip(distance_px, -30, 30) / 0.8))).astype(np.float32)


def _box(
    hurt: _Break, centre: float, radius: float, tilt: float, height: int, width: int
) -> tuple[float, float, float, float]:
    x, y, half = centre + hurt.shift_px / 2, (hurt.at - 0.5) * _HEIGHT * 0.9, radius * _PX_PER_CM * 1.5
    scale = height / _HEIGHT
    at_x = width / 2 + scale * (x * np.cos(tilt) - y * np.sin(tilt))
    at_y = height / 2 + scale * (x * np.sin(tilt) + y * np.cos(tilt))
    return (
        float(at_x - half * scale),
        float(at_y - half * scale),
        float(at_x + half * scale),
        float(at_y + half * scale),
    )
