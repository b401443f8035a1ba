"""Copies of a film that were turned by any angle, as augmented data sets hold them.

The largest circle in the middle of a film keeps its content when the film is turned. In polar coordinates a turn is a
shift: the magnitude of a Fourier transform along the angle does not see it and proposes pairs; the correlation of fine
detail over all shifts, and over the mirrored film, confirms them and gives the angle.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from bonefrac_training.duplicates import Floats, Pair, detail, find_copies, same_content
from bonefrac_training.facts import DISC, Facts, View

_PROPOSED = 0.985  # cosine of two signatures; 150 FracAtlas films turned and compressed again: at least 0.9977
CONFIRMED = 0.75  # correlation of detail; of those 150 the lowest is 0.766, the median 0.93
UNTURNED = 0.85  # without a turn the whole films were compared before, and their middles alone prove less
_UNTURNED = "turned by less than 3°"
_RINGS, _CENTRE, _ANGLES, _COARSE, _WAVES, _BLOCK = 48, 4, 256, 128, 10, 512


def find_rotated(discs: Sequence[View]) -> Iterator[tuple[int, int, str, float]]:
    """(first, second, how the second was turned, correlation) of places in `discs`, uint8 (96, 96) each."""
    if len(discs) < 2:
        return
    signatures = np.stack([signature(disc) for disc in discs])

    @lru_cache(maxsize=4096)
    def spectrum(place: int) -> NDArray[np.complex64]:
        return _spectrum(discs[place])

    for start in range(0, len(discs), _BLOCK):
        near = signatures[start : start + _BLOCK] @ signatures.T >= _PROPOSED
        for row, second in zip(*np.nonzero(near), strict=True):
            first = int(row) + start
            if first < second:
                turn, alike = _compare(spectrum(first), spectrum(int(second)))
                if alike >= (UNTURNED if turn == _UNTURNED else CONFIRMED):
                    yield first, int(second), turn, alike


def signature(disc: View) -> Floats:
    """A unit vector that a turned or mirrored disc shares: magnitudes of 10 waves round each of 44 rings."""
    polar = _polar(cv2.GaussianBlur(disc.astype(np.float32), (0, 0), 1.5), _COARSE)
    waves = np.abs(np.fft.rfft(polar, axis=1))[:, :_WAVES] * _weights()
    waves[:, 0] -= waves[:, 0].mean()
    return np.asarray(waves.ravel() / (np.linalg.norm(waves) + 1e-6), np.float32)


def _spectrum(disc: View) -> NDArray[np.complex64]:
    """Of the detail, each ring by its length, with norm 1 over the disc: complex (44, 129)."""
    polar = _polar(detail(disc), _ANGLES) * _weights()
    polar -= polar.mean()
    return np.asarray(np.fft.rfft(polar / (np.linalg.norm(polar) + 1e-6), axis=1), np.complex64)


def _compare(first: NDArray[np.complex64], second: NDArray[np.complex64]) -> tuple[str, float]:
    turned = np.fft.irfft((first * second.conj()).sum(axis=0), _ANGLES)
    mirrored = np.fft.irfft((first * second).sum(axis=0), _ANGLES)
    if mirrored.max() > turned.max():
        return "mirrored and turned", float(mirrored.max())
    angle = round(int(turned.argmax()) * 360 / _ANGLES)
    angle = min(angle, 360 - angle)
    return f"turned by about {angle}°" if angle > 2 else _UNTURNED, float(turned.max())


def _polar(disc: Floats | cv2.typing.MatLike, angles: int) -> Floats:
    """Rings without the innermost, float32 (44, angles)."""
    middle = (DISC - 1) / 2
    flags = cv2.INTER_LINEAR | cv2.WARP_FILL_OUTLIERS
    polar = cv2.warpPolar(disc, (_RINGS, angles), (middle, middle), middle - 1, flags)
    return np.asarray(polar.T[_CENTRE:], np.float32)


def _weights() -> Floats:
    return np.sqrt(np.arange(_CENTRE, _RINGS, dtype=np.float32))[:, None]


def find_pairs(facts: Sequence[Facts]) -> list[Pair]:
    """All pairs of films that are one: by content, as copies under the eight flips and turns, turned by any angle."""
    pairs = same_content(facts)
    again = {pair.second for pair in pairs}
    distinct = [place for place, fact in enumerate(facts) if fact.readable and place not in again]
    copies = [
        Pair(distinct[a], distinct[b], "copy", str(turn), alike)
        for a, b, turn, alike in find_copies([facts[place].view for place in distinct])
    ]
    known = {(pair.first, pair.second) for pair in copies}
    rotated = [
        Pair(distinct[a], distinct[b], "copy", turn, alike)
        for a, b, turn, alike in find_rotated([facts[place].disc for place in distinct])
        if (distinct[a], distinct[b]) not in known
    ]
    return pairs + copies + rotated
