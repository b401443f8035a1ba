"""Augmented, class-balanced batches: the same for the same seed, epoch and step, whatever happened before."""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Collection, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from bonefrac.errors import UsageError
from bonefrac_training.augment import moved, random_affine, random_collimation, random_tone
from bonefrac_training.films import Inputs
from bonefrac_training.kinds import Arrays, Kind

_AHEAD = 4  # batches made while the network is busy with one
_COLLIMATION = 1  # a stream of random numbers of its own: without it all other augmentation is as it was


@dataclass(frozen=True)
class Batch:
    """`grey` float32 (b, size, size, 1) in 0..255; targets by the name of the output; `check`, a CRC-32 of both."""

    grey: NDArray[np.float32]
    targets: Arrays

    @property
    def check(self) -> str:
        found = zlib.crc32(self.grey.data)
        for name in sorted(self.targets):
            found = zlib.crc32(np.ascontiguousarray(self.targets[name]).data, found)
        return f"{found:08x}"


class Batches:
    """All batches of a run. An epoch has as many films as there are to train with, drawn anew so that the kind's share
    of each batch is fractured."""

    def __init__(self, inputs: Inputs, kind: Kind, *, seed: int, size: int = 16, without: Collection[str] = ()) -> None:
        self._inputs, self._kind, self._seed, self._size = inputs, kind, seed, size
        self._without = frozenset(without)
        only_boxes = kind.fractured == 1.0
        self._pools = (
            np.flatnonzero(inputs.boxed if only_boxes else inputs.fractured),
            np.flatnonzero(~inputs.fractured),
        )
        of_each = round(size * kind.fractured)
        self._shares = (of_each, size - of_each)
        self._films = len(self._pools[0]) if only_boxes else len(inputs.fractured)
        if any(share and not len(pool) for share, pool in zip(self._shares, self._pools, strict=True)) or not len(self):
            raise UsageError(
                f"too few films to train with: {len(self._pools[0])} with a fracture to learn from,"
                f" {len(self._pools[1])} without, for batches of {size}"
            )
        self._rows = lru_cache(maxsize=2)(self._draw)

    def __len__(self) -> int:
        """Batches of an epoch."""
        return self._films // self._size

    def _draw(self, epoch: int) -> NDArray[np.int64]:
        rng = np.random.default_rng((self._seed, epoch))
        parts = [
            np.concatenate([rng.permutation(pool) for _ in range(-(-len(self) * share // len(pool)))])[
                : len(self) * share
            ].reshape(len(self), share)
            for pool, share in zip(self._pools, self._shares, strict=True)
            if share
        ]
        return np.hstack(parts)

    def batch(self, step: int) -> Batch:
        """The batch of a step, counted from the run's beginning."""
        epoch, index = divmod(step, len(self))
        rng = np.random.default_rng((self._seed, epoch, index))
        edges = np.random.default_rng((self._seed, epoch, index, _COLLIMATION))
        side, rows = self._inputs.size, self._rows(epoch)[index]
        grey, corners = np.empty((self._size, side, side, 1), np.float32), []
        for place, row in enumerate(rows):
            matrix = random_affine(rng, side, self._without)
            turned = cv2.warpAffine(self._inputs.pixels[row, :, :, 0], matrix, (side, side))
            corners.append(moved(self._inputs.boxes[row], matrix))
            toned = random_tone(rng, np.asarray(turned, np.uint8), self._without)
            if "collimation" not in self._without:
                toned = random_collimation(edges, toned, corners[-1])
            grey[place, :, :, 0] = toned
        label = self._inputs.fractured[rows].astype(np.float32)
        return Batch(grey, self._kind.targets(label, corners, side))

    def stream(self, first: int, last: int) -> Generator[Batch, None, None]:
        """The batches of the steps from `first` to before `last`, made ahead in threads."""
        with ThreadPoolExecutor(2) as pool:
            ahead = deque(pool.submit(self.batch, step) for step in range(first, min(first + _AHEAD, last)))
            try:
                for step in range(first, last):
                    if step + _AHEAD < last:
                        ahead.append(pool.submit(self.batch, step + _AHEAD))
                    yield ahead.popleft().result()
            finally:
                for waiting in ahead:
                    waiting.cancel()
