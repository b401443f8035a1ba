"""Groups that stay together, and folds of equal size and make-up out of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from bonefrac_training.duplicates import unite

Counts = NDArray[np.float64]


def make_groups(names: Sequence[str], declared: Sequence[str], pairs: Iterable[tuple[int, int]]) -> list[str]:
    """A group for each film: films of one declared group ("" is none), and films that are one, are in the same; it
    bears the name of its first film."""
    first: dict[str, int] = {}
    same = [(first.setdefault(group, place), place) for place, group in enumerate(declared) if group]
    return [names[root] for root in unite(len(names), [*pairs, *same])]


def make_folds(groups: Sequence[str], strata: Sequence[tuple[str, ...]], *, folds: int, seed: int = 1) -> list[int]:
    """A fold for each film, 0 to folds - 1: no group spans two, and every stratum, of which a film may be in several,
    is spread as evenly as whole groups allow.

    Greedy: the largest groups first, each into the fold where it leaves the numbers of films and of each stratum most
    even. Equal inputs give equal folds; `seed` shuffles groups of one size.
    """
    kinds = {name: column for column, name in enumerate(sorted({name for names in strata for name in names}), 1)}
    members: dict[str, Counts] = {}
    for group, names in zip(groups, strata, strict=True):
        members.setdefault(group, np.zeros(len(kinds) + 1))[[0, *(kinds[name] for name in set(names))]] += 1
    order = sorted(members)
    shuffled = [order[place] for place in np.random.default_rng(seed).permutation(len(order))]
    counts, total = np.zeros((folds, len(kinds) + 1)), np.sum(list(members.values()), axis=0)
    chosen: dict[str, int] = {}
    for group in sorted(shuffled, key=lambda name: -members[name][0]):
        uneven = [_unevenness(counts, fold, members[group], total) for fold in range(folds)]
        chosen[group] = int(np.argmin(uneven))
        counts[chosen[group]] += members[group]
    return [chosen[group] for group in groups]


def _unevenness(counts: Counts, fold: int, added: Counts, total: Counts) -> float:
    """The variance of each stratum's counts over the folds, by its size, if `added` went into `fold`; summed."""
    after = counts.copy()
    after[fold] += added
    return float((after.var(axis=0) / total).sum())
