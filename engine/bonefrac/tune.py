"""Which way of running a model is the fastest on this machine: measured on the bundle's golden films, not believed.

Every backend that is installed takes part, if it gives the golden scores. Precisions do not compete: points, gates and
figures are those of the manifest's default, so another is tuned only for those who ask for it.
"""

from __future__ import annotations

import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bonefrac.backends import OPENVINO, PROVIDERS, Share, batch_sizes, installed, on_processor, usual_workers
from bonefrac.errors import UsageError
from bonefrac.machine import usable_cores
from bonefrac.model import Model
from bonefrac.tuned import Profile, Way, conditions, keep_profile

_ROUND_S = 0.5  # so long a candidate's round lasts about, unless there is less time
_ROUNDS = 3  # at least, for one that is disturbed may not decide


@dataclass(frozen=True)
class Tuned:
    """What was measured: films a second of each way, one figure a round, the fastest first; and who took no part, with
    the reason. `path` is where the winner is kept."""

    model: str
    rates: dict[Way, list[float]]
    left_out: dict[str, str]
    path: Path


@dataclass
class _Candidate:
    model: Model
    way: Way
    pool: ThreadPoolExecutor
    batches: int  # in a round

    def films_a_second(self) -> float:
        films, _ = self.model.golden()
        size = self.way.batch_size
        batches = [np.take(films, range(i, i + size), axis=0, mode="wrap") for i in range(self.batches)]
        started = time.perf_counter()
        list(self.pool.map(self.model.predict, batches))
        return size * self.batches / (time.perf_counter() - started)


def tune(folder: Path, *, precision: str = "auto", seconds: float = 60.0) -> Tuned:
    """Measure every way for about `seconds` in all, in turn, a few rounds each at least; keep the fastest.

    Raises BundleError for a bundle that cannot be read, UsageError where no backend gives its golden scores, and
    OutputError where the profile cannot be written.
    """
    ends = time.monotonic() + seconds
    left_out: dict[str, str] = {}
    with ExitStack() as stack:
        candidates = _candidates(folder, precision, left_out, stack)
        if not candidates:
            reasons = "; ".join(f"{name}: {why}" for name, why in left_out.items()) or "none is installed"
            raise UsageError(f"{folder}: no backend of this machine runs it: {reasons}")
        round_s = min(_ROUND_S, seconds / (4 * len(candidates)))
        for candidate in candidates:  # warm up, and learn how many batches make a round
            rate = candidate.films_a_second() / candidate.way.batch_size
            candidate.batches = max(candidate.batches, round(rate * round_s))
        rates: dict[Way, list[float]] = {candidate.way: [] for candidate in candidates}
        while time.monotonic() < ends or len(rates[candidates[-1].way]) < _ROUNDS:
            for candidate in candidates:
                rates[candidate.way].append(candidate.films_a_second())
        model = candidates[0].model
    rates = dict(sorted(rates.items(), key=lambda item: -statistics.median(item[1])))
    best = next(iter(rates))
    path = keep_profile(Profile(conditions(model.sha256), best, round(statistics.median(rates[best]), 1)))
    return Tuned(f"{model.name} {model.precision}", rates, left_out, path)


def _candidates(folder: Path, precision: str, left_out: dict[str, str], stack: ExitStack) -> list[_Candidate]:
    """Every device x share of the cores x batch size that computes as it must; the others go to `left_out`."""
    found = []
    for device in installed():
        for share in _shares(PROVIDERS.get(device, OPENVINO), usable_cores()):
            name = f"{device}, workers x threads {share.workers} x {share.threads}"
            try:
                model = Model(folder, device=device, precision=precision, share=share)
                model.check_golden()
            except UsageError as error:
                left_out[name] = str(error)
                continue
            sizes = batch_sizes(model.provider)
            if max(sizes) > 1 and not _independent(model):
                left_out[f"{name}, batch > 1"] = "a film's scores depend on the others in its batch"
                sizes = {1}
            pool = stack.enter_context(ThreadPoolExecutor(share.workers))
            found += [
                _Candidate(model, Way(device, share.workers, share.threads, size), pool, 2 * share.workers)
                for size in sorted(sizes)
            ]
    return found


def _shares(provider: str, cores: int) -> list[Share]:
    """One thread on each core for itself; unless a GPU computes, two cores for each batch where there are so many."""
    alone = Share(usual_workers(provider, cores), 1)
    pairs = [Share(usual_workers(provider, cores // 2), 2)] if cores > 1 and on_processor(provider) else []
    return [alone, *pairs]


def _independent(model: Model) -> bool:
    films, _ = model.golden()
    together, alone = model.predict(films), [model.predict(film[None]) for film in films]
    return all(np.array_equal(ours[i], other[0]) for i, one in enumerate(alone)
               for ours, other in zip(together, one, strict=True))  # fmt: skip
