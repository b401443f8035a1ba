"""Whether a class can be told without looking at the film: from the file's type, size, shape or damage alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import fisher_exact
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score

from bonefrac_training.facts import Facts
from bonefrac_training.folds import make_folds

Values = NDArray[np.float64]
_FOLDS, _RESAMPLES, _FEWEST = 5, 300, 20
_TELLING = 0.001  # Fisher's exact p; small, for some forty levels are looked at


@dataclass(frozen=True)
class Interval:
    """An estimate with the 2.5th and 97.5th percentile of a bootstrap over groups."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} (95 % interval {self.low:.2f} to {self.high:.2f})"


@dataclass(frozen=True)
class Level:
    """One value of one fact: how many films have it, and the share of fractures with its 95 % interval (Wilson).

    `telling`: among the other films the share is another (Fisher's exact test, p < 0.001).
    """

    fact: str
    level: str
    films: int
    fractured: int
    share: float
    low: float
    high: float
    telling: bool


_NUMBERS: dict[str, Callable[[Facts], float]] = {
    "bytes": lambda fact: math.log(max(fact.size, 1)),
    "bytes a pixel": lambda fact: fact.size / max(fact.width * fact.height, 1),
    "width": lambda fact: fact.width,
    "height": lambda fact: fact.height,
    "width by height": lambda fact: fact.width / max(fact.height, 1),
}
_LEVELS: dict[str, Callable[[Facts], str]] = {  # "" where it cannot be told
    "ending of the name": lambda fact: fact.film.path.suffix.lower(),
    "format": lambda fact: fact.header.format if fact.header else "",
    "channels": lambda fact: str(fact.header.channels) if fact.header else "",
    "bits": lambda fact: str(fact.header.bits) if fact.header else "",
    "EXIF orientation": lambda fact: str(fact.header.orientation) if fact.header else "",
    "readable": lambda fact: "yes" if fact.readable else "no",
    "polarity": lambda fact: "seems inverted" if fact.inverted else "bone bright",
    "size": lambda fact: f"{fact.width} x {fact.height} px" if fact.width else "",
}


def predictability(facts: Sequence[Facts], groups: Sequence[str], *, seed: int = 1) -> Interval | None:
    """The AUROC at which a small forest tells fractures from these facts alone, each film judged by a forest that never
    saw its group. None where there are too few films or groups of a class to say."""
    fractured = np.array([fact.film.label == "fractured" for fact in facts])
    both = min(len({g for g, f in zip(groups, fractured, strict=True) if f == side}) for side in (True, False))
    if min(fractured.sum(), (~fractured).sum()) < _FEWEST or both < _FOLDS:
        return None
    table = _table(facts)
    folds = np.array(make_folds(groups, [(fact.film.label,) for fact in facts], folds=_FOLDS, seed=seed))
    scores = np.zeros(len(facts))
    for fold in range(_FOLDS):
        train = folds != fold
        if len(set(fractured[train])) < 2:
            return None
        forest = RandomForestClassifier(60, max_depth=5, min_samples_leaf=5, random_state=seed, class_weight="balanced")
        scores[~train] = forest.fit(table[train], fractured[train]).predict_proba(table[~train])[:, 1]
    return auroc(fractured, scores, groups, seed=seed)


def _table(facts: Sequence[Facts]) -> Values:
    columns = [[number(fact) for fact in facts] for number in _NUMBERS.values()]
    for name, level in _LEVELS.items():
        if name != "size":  # the two sides stand there as numbers
            values = [level(fact) for fact in facts]
            columns += [[float(value == one) for value in values] for one in sorted(set(values))]
    return np.array(columns, np.float64).T


def auroc(
    truth: NDArray[np.bool_], scores: Values, groups: Sequence[str], *, seed: int = 1, resamples: int = _RESAMPLES
) -> Interval:
    """The AUROC of scores with a bootstrap interval that draws whole groups."""
    names = {group: place for place, group in enumerate(dict.fromkeys(groups))}
    rows = np.array([names[group] for group in groups])
    rng = np.random.default_rng(seed)
    drawn: list[float] = []
    for _ in range(resamples):
        weight = np.bincount(rng.integers(0, len(names), len(names)), minlength=len(names))[rows]
        if weight[truth].sum() and weight[~truth].sum():
            drawn.append(float(roc_auc_score(truth, scores, sample_weight=weight)))
    low, high = np.percentile(drawn, (2.5, 97.5)) if drawn else (0.0, 1.0)
    return Interval(float(roc_auc_score(truth, scores)), float(low), float(high))


def levels(facts: Sequence[Facts], *, fewest: int = 10, most: int = 6) -> list[Level]:
    """For each fact that is not the same everywhere, its `most` most frequent values with at least `fewest` films."""
    found: list[Level] = []
    for name, level in _LEVELS.items():
        told = [fact for fact in facts if level(fact)]
        values = np.array([level(fact) for fact in told])
        fractured = np.array([fact.film.label == "fractured" for fact in told])
        names, counts = np.unique(values, return_counts=True)
        if len(names) < 2:
            continue
        found += [
            _level(name, str(names[place]), values == names[place], fractured)
            for place in np.argsort(-counts, kind="stable")[:most]
            if counts[place] >= fewest
        ]
    return found


def _level(fact: str, level: str, here: NDArray[np.bool_], fractured: NDArray[np.bool_]) -> Level:
    films, hits = int(here.sum()), int(fractured[here].sum())
    low, high = wilson(hits, films)
    others = int(fractured[~here].sum())
    table = [[hits, films - hits], [others, int((~here).sum()) - others]]
    return Level(fact, level, films, hits, hits / films, low, high, bool(fisher_exact(table).pvalue < _TELLING))


def wilson(hits: int, films: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's score interval of a share (J. Am. Stat. Assoc. 22, 209, 1927)."""
    if not films:
        return 0.0, 1.0
    share, centre = hits / films, (hits + z * z / 2) / (films + z * z)
    half = z / (films + z * z) * math.sqrt(films * share * (1 - share) + z * z / 4)
    return max(0.0, centre - half), min(1.0, centre + half)


def numbers(facts: Sequence[Facts], groups: Sequence[str], *, seed: int = 1) -> list[tuple[str, Interval]]:
    """The AUROC of each number alone, over the readable films; 0.5 says nothing, and 0.1 tells as much as 0.9."""
    readable = [place for place, fact in enumerate(facts) if fact.readable]
    truth = np.array([facts[place].film.label == "fractured" for place in readable])
    inside = [groups[place] for place in readable]
    if not truth.any() or truth.all():
        return []
    return [
        (name, auroc(truth, np.array([number(facts[place]) for place in readable]), inside, seed=seed, resamples=100))
        for name, number in _NUMBERS.items()
    ]
