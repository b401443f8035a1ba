"""Every statistic of the house, once: pure functions of truth and scores. Training and export import them from here.

Shapes: n films; `fractured` bool (n,), `scores` any float (n,), `probability` float (n,) in [0, 1]; `weights` float
(draws, n) tell how often each film counts in each draw of a bootstrap. Intervals are of 95 %.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, binomtest, linregress, norm, rankdata, t

BINS = 15  # of equal width, for calibration: an ECE says nothing without its bins
_DRAWS = 2000
_TWO_SIDED = float(norm.ppf(0.975))

Truth = NDArray[np.bool_]
Scores = NDArray[np.floating[Any]]
Weights = NDArray[np.float64]
Statistic = Callable[[Weights], NDArray[np.float64]]


@dataclass(frozen=True)
class Interval:
    """A figure and the ends of its 95 % interval; NaN where the films allow none."""

    value: float
    low: float
    high: float


# ---- intervals


def wilson(successes: int, trials: int) -> Interval:
    """A share with Wilson's score interval (Wilson, JASA 22:209, 1927), which takes the trials for independent.

    Raises ValueError for no trials.
    """
    found = binomtest(successes, trials).proportion_ci(method="wilson")
    return Interval(successes / trials, float(found.low), float(found.high))


def by_group(statistic: Statistic, groups: Sequence[str]) -> Interval:
    """Percentile bootstrap over groups, for films of one group are not independent (Efron and Tibshirani, 1993, chapter
    13). `statistic` maps weights (draws, n) to values (draws,), NaN for draws that it cannot be had of: they do not
    count. `groups`: a name for each of the n films. The draws are the same every time."""
    names, group_of = np.unique(groups, return_inverse=True)
    drawn = np.random.default_rng(0).integers(0, len(names), (_DRAWS, len(names)))
    drawn += len(names) * np.arange(_DRAWS)[:, None]
    times = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape)
    draws = statistic(times[:, group_of].astype(np.float64))
    draws = draws[~np.isnan(draws)]
    low, high = np.percentile(draws, (2.5, 97.5)) if len(draws) else (np.nan, np.nan)
    return Interval(float(statistic(np.ones((1, len(groups))))[0]), float(low), float(high))


def quantile(samples: Sequence[float], share: float) -> Interval:
    """The smallest sample that at least `share` of them do not exceed, and the interval between two order statistics
    that holds the quantile of what they were drawn from, whatever its distribution: P(B < l) <= 0.025 and P(B >= u) <=
    0.025 for the ranks l, u and B binomial (n, share) (David and Nagaraja, Order Statistics, 2003, section 7.1).

    Samples are taken for independent. An end that so few samples do not reach is NaN. Raises ValueError for none.
    """
    ordered, count = np.sort(np.asarray(samples, np.float64)), len(samples)
    if not count:
        raise ValueError("no samples have no quantile")
    low, high = (int(binom.ppf(end, count, share)) for end in (0.025, 0.975))
    return Interval(
        float(ordered[max(0, int(np.ceil(share * count - 1e-9)) - 1)]),
        float(ordered[low - 1]) if low else float("nan"),
        float(ordered[high]) if high < count else float("nan"),
    )


def fewest_for(share: float) -> int:
    """How many samples a quantile needs before it may be told: so many that the highest but one is, with a confidence
    of 0.99, no lower than the quantile: the smallest n with P(B <= 1) <= 0.01 for B binomial (n, 1 - share).

    This is MLPerf's early stopping of single-stream estimates, which discards at least one sample, at its confidence
    c = 0.99 and tolerance d = 0 (mlcommons/inference_policies, inference_rules.adoc, appendix on early stopping): 11
    for 0.50, 64 for 0.90, 130 for 0.95, 662 for 0.99.
    """
    count = 2
    while binom.cdf(1, count, 1 - share) > 0.01:
        count += 1
    return count


def growth(sizes: Sequence[float], costs: Sequence[float]) -> Interval:
    """The exponent k of cost ~ size^k: the slope of least squares on the logarithms, with Student's interval of n - 2
    degrees of freedom, NaN for two points (Draper and Smith, Applied Regression Analysis, 1998, section 1.4).

    Raises ValueError for fewer than two different sizes: they have no slope.
    """
    if len(set(sizes)) < 2:
        raise ValueError("one size has no growth")
    line = linregress(np.log(sizes), np.log(costs))
    half = float(line.stderr * t.ppf(0.975, len(sizes) - 2)) if len(sizes) > 2 else float("nan")
    return Interval(float(line.slope), float(line.slope) - half, float(line.slope) + half)


# ---- statistics that a bootstrap can draw: all draws at once; NaN where a draw lacks what is counted


def mean(values: NDArray[Any], weights: Weights) -> NDArray[np.float64]:
    """The mean of `values` (n,) in each draw: (draws,)."""
    with np.errstate(invalid="ignore"):
        return np.asarray((weights @ values) / weights.sum(axis=1))


def auroc(fractured: Truth, scores: Scores, weights: Weights) -> NDArray[np.float64]:
    """In each draw the chance that a fractured film scores higher than another, ties half: (draws,) in [0, 1]."""
    hits, alarms = _by_score(fractured, scores, weights)
    below = alarms.sum(axis=1, keepdims=True) - np.cumsum(alarms, axis=1) + alarms / 2
    return _ratio((hits * below).sum(axis=1), hits.sum(axis=1) * alarms.sum(axis=1))


def auprc(fractured: Truth, scores: Scores, weights: Weights) -> NDArray[np.float64]:
    """In each draw the average precision over all thresholds, as scikit-learn defines it: (draws,) in [0, 1]."""
    hits, alarms = _by_score(fractured, scores, weights)
    found, called = np.cumsum(hits, axis=1), np.cumsum(hits + alarms, axis=1)
    precision = np.divide(found, called, out=np.zeros_like(found), where=called > 0)
    return _ratio((hits * precision).sum(axis=1), found[:, -1])


def sensitivity_at(fractured: Truth, scores: Scores, weights: Weights, *, specificity: float) -> NDArray[np.float64]:
    """In each draw the highest sensitivity of all thresholds with at least that specificity: (draws,) in [0, 1]."""
    hits, alarms = _by_score(fractured, scores, weights)
    others = alarms.sum(axis=1, keepdims=True)
    allowed = np.cumsum(alarms, axis=1) <= (1 - specificity + 1e-12) * others
    found = np.where(allowed, np.cumsum(hits, axis=1), 0).max(axis=1)
    return np.where(others[:, 0] > 0, _ratio(found, hits.sum(axis=1)), np.nan)


def f1(fractured: Truth, called: Truth, weights: Weights) -> NDArray[np.float64]:
    """In each draw the harmonic mean of precision and sensitivity of the films `called` fractured: (draws,)."""
    found, wrong = weights @ (called & fractured), weights @ (called ^ fractured)
    return _ratio(2 * found, 2 * found + wrong)


def _by_score(fractured: Truth, scores: Scores, weights: Weights) -> tuple[Weights, Weights]:
    """Weights of the fractured films and of the others at each different score, highest first: (draws, scores) each."""
    order = np.argsort(-scores, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(scores[order]) != 0])
    drawn, truth = weights[:, order], fractured[order]
    return np.add.reduceat(drawn * truth, starts, axis=1), np.add.reduceat(drawn * ~truth, starts, axis=1)


def _ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)


# ---- DeLong


def delong(fractured: Truth, scores: Scores) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """AUROCs (k,) of score vectors (k, n) on the same films and their covariance (k, k) (DeLong, DeLong and
    Clarke-Pearson, Biometrics 44:837, 1988), from ranks in n log n (Sun and Xu, IEEE SPL 21:1389, 2014).

    Raises ValueError with fewer than two films of a class: there is no variance then.
    """
    hits, alarms = scores[:, fractured], scores[:, ~fractured]
    m, n = hits.shape[1], alarms.shape[1]
    if min(m, n) < 2:
        raise ValueError(f"{m} films with and {n} without a fracture: DeLong's variance needs two of each")
    ranks = rankdata(scores, axis=1)
    over = (
        ranks[:, fractured] - rankdata(hits, axis=1)
    ) / n  # of each fractured film: the share of others it outscores
    under = 1 - (ranks[:, ~fractured] - rankdata(alarms, axis=1)) / m
    return over.mean(axis=1), np.atleast_2d(np.cov(over)) / m + np.atleast_2d(np.cov(under)) / n


def delong_interval(fractured: Truth, scores: Scores) -> Interval:
    """AUROC with DeLong's interval, which takes the films for independent; cut to [0, 1]. It has no width where no film
    of one class lies among the other's. Raises ValueError as `delong` does."""
    area, covariance = delong(fractured, scores[None])
    half = _TWO_SIDED * float(np.sqrt(covariance[0, 0]))
    return Interval(float(area[0]), max(0.0, float(area[0]) - half), min(1.0, float(area[0]) + half))


def delong_test(fractured: Truth, one: Scores, other: Scores) -> tuple[float, float]:
    """AUROC of `one` less that of `other` on the same films, and the two-sided p of no difference, in [0, 1].

    Raises ValueError as `delong` does.
    """
    areas, covariance = delong(fractured, np.stack([one, other]))
    difference = float(areas[0] - areas[1])
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    if variance <= 1e-15:  # both put the films in the same order, or each separates the classes
        return difference, 1.0 if abs(difference) < 1e-12 else 0.0
    return difference, 2 * float(norm.sf(abs(difference) / np.sqrt(variance)))


# ---- decisions


def mcnemar(only_one: int, only_other: int) -> float:
    """Exact two-sided p, in [0, 1], of two readers of the same films being right equally often; only the films count
    that one alone has right (McNemar, Psychometrika 12:153, 1947)."""
    return float(binomtest(only_one, only_one + only_other).pvalue) if only_one + only_other else 1.0


def predictive_values(sensitivity: Any, specificity: Any, prevalence: float) -> tuple[Any, Any]:
    """PPV and NPV where `prevalence` of the films are fractured (Bayes). Numbers or arrays in [0, 1] in, the same out;
    NaN where nothing is called so."""
    found, alarms = np.multiply(sensitivity, prevalence), np.multiply(1 - specificity, 1 - prevalence)
    missed, left = np.multiply(1 - sensitivity, prevalence), np.multiply(specificity, 1 - prevalence)
    with np.errstate(invalid="ignore"):
        return found / (found + alarms), left / (left + missed)


# ---- calibration


@dataclass(frozen=True)
class Bin:
    """Films whose probability is alike: how many, their mean probability, and the share that is fractured."""

    films: int
    probability: float
    fractured: float


def reliability(fractured: Truth, probability: Scores) -> list[Bin]:
    """The curve's points: `BINS` bins of equal width over [0, 1], lowest first; empty ones are left out."""
    place = np.minimum((probability * BINS).astype(int), BINS - 1)
    return [
        Bin(int(of_bin.sum()), float(probability[of_bin].mean()), float(fractured[of_bin].mean()))
        for of_bin in (place == number for number in np.unique(place))
    ]


def calibration_error(fractured: Truth, probability: Scores) -> float:
    """ECE in [0, 1]: |mean probability - share fractured|, in the mean over the films, in `BINS` bins of equal width
    (Naeini, Cooper and Hauskrecht, AAAI 2015; bins as Guo et al., ICML 2017)."""
    bins = reliability(fractured, probability)
    return sum(b.films * abs(b.probability - b.fractured) for b in bins) / len(fractured)


def brier(fractured: Truth, probability: Scores) -> float:
    """Mean squared difference of probability and truth, in [0, 1] (Brier, Monthly Weather Review 78:1, 1950)."""
    return float(np.mean((probability - fractured) ** 2))


# ---- places


@dataclass(frozen=True)
class Froc:
    """A free-response curve, highest threshold first: lists of one length."""

    threshold: list[float]
    false_a_film: list[float]
    sensitivity: list[float]


def froc(scores: Scores, lesion: NDArray[np.intp], *, lesions: int, films: int) -> Froc:
    """Share of the `lesions` that are marked, over false marks a film (Bunch et al., Proc. SPIE 127:124, 1977).

    `scores` (m,) of the marks on all films; `lesion` (m,) the number of the lesion that a mark is on, -1 for a false
    one. Several marks on one lesion count once, as its highest. Raises ValueError for no lesion or no film.
    """
    if not lesions or not films:
        raise ValueError("a free-response curve needs a lesion and a film")
    best = np.full(lesions, -np.inf)
    np.maximum.at(best, lesion[lesion >= 0], scores[lesion >= 0])
    thresholds, false, best = np.unique(scores)[::-1], np.sort(scores[lesion < 0]), np.sort(best)
    return Froc(
        [float(score) for score in thresholds],
        [float(count) / films for count in len(false) - np.searchsorted(false, thresholds)],
        [float(count) / lesions for count in lesions - np.searchsorted(best, thresholds)],
    )
