"""Statistics against published numbers, against another implementation, and against what they promise."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

pytest.importorskip("sklearn", reason='needs the extra: pip install ".[bench]"')

from scipy.stats import norm
from sklearn import metrics

from bonefrac_benchmarks.statistics import (
    BINS,
    auprc,
    auroc,
    brier,
    by_group,
    calibration_error,
    delong,
    delong_interval,
    delong_test,
    f1,
    fewest_for,
    froc,
    growth,
    mcnemar,
    mean,
    predictive_values,
    quantile,
    reliability,
    sensitivity_at,
    wilson,
)

# albumin, total protein, K-G score, and whether surgery helped: the 43 whole records of DeLong, DeLong and
# Clarke-Pearson (1988), as the SAS/STAT User's Guide prints them ("Comparing Receiver Operating Characteristic Curves")
OVARIAN = """
3.0 5.8 10 0 3.2 6.3 5 1 3.9 6.8 3 1 2.8 4.8 6 0 3.2 5.8 3 1 0.9 4.0 5 0 2.5 5.7 8 0 1.6 5.6 5 1 3.8 5.7 5 1
3.7 6.7 6 1 3.2 5.4 4 1 3.8 6.6 6 1 4.1 6.6 5 1 3.6 5.7 5 1 4.3 7.0 4 1 3.6 6.7 4 0 2.3 4.4 6 1 4.2 7.6 4 0
4.0 6.6 6 0 3.5 5.8 6 1 3.8 6.8 7 1 3.0 4.7 8 0 4.5 7.4 5 1 3.7 7.4 5 1 3.1 6.6 6 1 4.1 8.2 6 1 4.3 7.0 5 1
4.3 6.5 4 1 3.2 5.1 5 1 2.6 4.7 6 1 3.3 6.8 6 0 1.7 4.0 7 0 3.7 6.1 5 1 3.3 6.3 7 1 4.2 7.7 6 1 3.5 6.2 5 1
2.9 5.7 9 0 2.1 4.8 7 1 2.8 6.2 8 0 4.0 7.0 7 1 3.3 5.7 6 1 3.7 6.9 5 1 3.6 6.6 5 1
"""


def ovarian() -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    table = np.array(OVARIAN.split(), float).reshape(43, 4)
    return table[:, 3] == 1, np.stack([table[:, 0], table[:, 1], 10 - table[:, 2]])


def once(truth: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.ones((1, len(truth)))


def some_scores(seed: int, films: int = 120) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Few different values, so that there are ties within and between the classes."""
    rng = np.random.default_rng(seed)
    truth = rng.random(films) < 0.3
    truth[:2] = True, False
    return truth, np.round(rng.normal(0, 1, films) + truth, 1)


# ---- DeLong


def test_delong_gives_the_published_example() -> None:
    truth, scores = ovarian()
    areas, covariance = delong(truth, scores)
    assert areas == pytest.approx([0.7366, 0.6478, 0.7258], abs=5e-5)
    assert np.sqrt(np.diag(covariance)) == pytest.approx([0.0927, 0.1000, 0.1028], abs=5e-5)
    interval = delong_interval(truth, scores[2])
    assert (interval.low, interval.high) == pytest.approx((0.5243, 0.9273), abs=5e-5)


@pytest.mark.parametrize(("row", "difference", "p"), [(0, 0.0108, 0.9102), (1, -0.0780, 0.4561)])
def test_delongs_test_gives_the_published_comparisons_with_the_kg_score(row: int, difference: float, p: float) -> None:
    truth, scores = ovarian()
    assert delong_test(truth, scores[row], scores[2]) == pytest.approx((difference, p), abs=5e-5)
    assert delong_test(truth, scores[2], scores[row]) == pytest.approx((-difference, p), abs=5e-5)


def test_delong_by_hand() -> None:
    """3 and 1 against 2 and 0: three of four pairs are right; both placements are 1 and 1/2, of variance 1/8."""
    areas, covariance = delong(np.array([True, True, False, False]), np.array([[3.0, 1.0, 2.0, 0.0]]))
    assert areas[0] == 0.75
    assert covariance[0, 0] == pytest.approx((1 / 8) / 2 + (1 / 8) / 2)


@pytest.mark.parametrize("seed", range(5))
def test_ranks_give_what_all_pairs_give(seed: int) -> None:
    """The definition, in n squared: placement values of every pair, ties half."""
    truth, one = some_scores(seed)
    scores = np.stack([one, some_scores(seed + 50)[1] + one])
    pairs = [np.sign(s[truth][:, None] - s[~truth][None]) / 2 + 0.5 for s in scores]
    over, under = (np.stack([pair.mean(axis=axis) for pair in pairs]) for axis in (1, 0))
    expected = np.cov(over) / truth.sum() + np.cov(under) / (~truth).sum()
    areas, covariance = delong(truth, scores)
    assert areas == pytest.approx([metrics.roc_auc_score(truth, s) for s in scores])
    assert covariance == pytest.approx(expected)


def test_equal_scores_do_not_differ_and_separated_classes_have_no_width() -> None:
    truth, scores = some_scores(1)
    assert delong_test(truth, scores, 3 * scores) == (0.0, 1.0)
    apart = delong_interval(truth, truth.astype(float))
    assert (apart.value, apart.low, apart.high) == (1, 1, 1)
    assert delong_test(truth, truth.astype(float), -truth.astype(float)) == (1.0, 0.0)
    with pytest.raises(ValueError, match="1 films with and 2 without"):
        delong(np.array([True, False, False]), np.zeros((1, 3)))


# ---- shares and decisions


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_newcombes_table(successes: int, trials: int, low: float, high: float) -> None:
    """Newcombe, Statistics in Medicine 17:857, 1998, table I, method 3."""
    found = wilson(successes, trials)
    assert (found.value, found.low, found.high) == pytest.approx((successes / trials, low, high), abs=5e-5)


def test_no_trials_have_no_share() -> None:
    with pytest.raises(ValueError, match="n must be"):
        wilson(0, 0)


def test_mcnemar_gives_the_published_exact_p() -> None:
    """2 and 9 discordant pairs: 0.06543 (Fay, Biostatistics 11:373, 2010, and the vignette of exact2x2)."""
    assert mcnemar(2, 9) == mcnemar(9, 2) == pytest.approx(0.06543, abs=5e-6)
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(7, 7) == 1.0


def test_predictive_values_of_a_rare_finding() -> None:
    """Mammography: sensitivity 0.792, specificity 0.904, one in a hundred: 7.7 % (Eddy, 1982)."""
    ppv, npv = predictive_values(0.792, 0.904, 0.01)
    assert ppv == pytest.approx(0.077, abs=5e-4)
    assert npv == pytest.approx(0.9977, abs=5e-5)
    assert np.isnan(predictive_values(np.array([0.0]), np.array([1.0]), 0.1)[0][0])


@given(st.floats(0.01, 1), st.floats(0.01, 1), st.floats(0.01, 0.99))
def test_predictive_values_count_the_same_films_as_a_table(
    sensitivity: float, specificity: float, share: float
) -> None:
    found, alarms = sensitivity * share, (1 - specificity) * (1 - share)
    ppv, npv = predictive_values(sensitivity, specificity, share)
    assert ppv == pytest.approx(found / (found + alarms))
    assert npv == pytest.approx(specificity * (1 - share) / (1 - found - alarms))


# ---- statistics of a draw


@pytest.mark.parametrize("seed", range(5))
def test_statistics_are_scikit_learns_for_any_draw(seed: int) -> None:
    truth, scores = some_scores(seed)
    weights = np.random.default_rng(seed).integers(0, 4, (3, len(truth))).astype(float)
    for row, drawn in enumerate(weights):
        films = np.repeat(np.arange(len(truth)), drawn.astype(int))
        y, s = truth[films], scores[films]
        assert auroc(truth, scores, weights)[row] == pytest.approx(metrics.roc_auc_score(y, s))
        assert auprc(truth, scores, weights)[row] == pytest.approx(metrics.average_precision_score(y, s))
        assert f1(truth, scores > 0.5, weights)[row] == pytest.approx(metrics.f1_score(y, s > 0.5))
        assert mean(scores, weights)[row] == pytest.approx(s.mean())
        false_positive, true_positive, _ = metrics.roc_curve(y, s, drop_intermediate=False)
        best = true_positive[false_positive <= 0.2].max()
        assert sensitivity_at(truth, scores, weights, specificity=0.8)[row] == pytest.approx(best)


def test_sensitivity_is_that_of_the_best_threshold_that_is_specific_enough() -> None:
    truth = np.array([0] * 10 + [1] * 4, bool)
    scores = np.array([*range(10), 8.5, 9.5, 3, 20], float)
    assert sensitivity_at(truth, scores, once(truth), specificity=0.90) == 0.75  # above 8 lies one of ten others
    assert sensitivity_at(truth, scores, once(truth), specificity=1.0) == 0.5
    assert sensitivity_at(truth, -scores, once(truth), specificity=1.0) == 0.0


def test_draws_without_a_class_have_no_value() -> None:
    truth, scores = np.array([True, False, False]), np.array([3.0, 2.0, 1.0])
    weights = np.array([[0.0, 1.0, 2.0], [1.0, 0.0, 0.0], [1.0, 1.0, 0.0]])
    for values in (auroc(truth, scores, weights), sensitivity_at(truth, scores, weights, specificity=0.9)):
        assert np.isnan(values).tolist() == [True, True, False]
    interval = by_group(lambda drawn: auroc(truth, scores, drawn), ["a", "a", "a"])
    assert interval.value == interval.low == interval.high == 1
    nothing = by_group(lambda drawn: np.full(len(drawn), np.nan), ["a", "b"])
    assert math.isnan(nothing.low)


monotone = st.sampled_from([np.exp, np.cbrt, lambda x: 3 * x - 7, lambda x: 1 / (1 + np.exp(-x))])


@given(st.lists(st.tuples(st.booleans(), st.integers(-8, 8)), min_size=1, max_size=40), monotone)
def test_ranking_does_not_change_under_a_monotone_map(films: list[tuple[bool, int]], change: Any) -> None:
    truth = np.array([True, True, False, False] + [fractured for fractured, _ in films])
    scores = np.array([1.0, 2.0, 0.0, 3.0] + [float(score) for _, score in films])
    for statistic in (auroc, auprc):
        before, after = statistic(truth, scores, once(truth)), statistic(truth, change(scores), once(truth))
        assert before == pytest.approx(after)
        assert 0 <= before[0] <= 1
    assert auroc(truth, scores, once(truth)) + auroc(truth, -scores, once(truth)) == pytest.approx(1)
    assert delong(truth, scores[None])[1] == pytest.approx(delong(truth, change(scores)[None])[1])


# ---- the bootstrap


def test_intervals_are_drawn_over_groups() -> None:
    """Ten films that are one another's copies are one film: the interval is as wide as without the copies."""
    values = np.random.default_rng(0).normal(0, 1, 30)
    copies = np.repeat(values, 10)
    alone = by_group(lambda weights: mean(values, weights), [f"g{i}" for i in range(30)])
    together = by_group(lambda weights: mean(copies, weights), [f"g{i // 10:02d}" for i in range(300)])
    apart = by_group(lambda weights: mean(copies, weights), [f"g{i}" for i in range(300)])
    width = {name: f.high - f.low for name, f in (("alone", alone), ("together", together), ("apart", apart))}
    assert width["together"] == pytest.approx(width["alone"], rel=0.1)
    assert width["apart"] < 0.5 * width["alone"]
    assert alone.low < alone.value < alone.high
    assert width["alone"] == pytest.approx(2 * 1.96 * values.std() / np.sqrt(30), rel=0.15)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Of 400 worlds of 40 groups with 3 films each, about 95 % hold the true mean, 0. 0.90 is 4.6 standard deviations
    below (sqrt(0.95 * 0.05 / 400) = 0.011); a percentile bootstrap of 40 groups itself falls short by a hundredth."""
    rng = np.random.default_rng(7)
    groups, alone = [f"g{i // 3:02}" for i in range(120)], [f"g{i:03}" for i in range(120)]
    held = held_alone = 0
    for _ in range(400):
        values = np.repeat(rng.normal(0, 1, 40), 3) + rng.normal(0, 0.3, 120)
        held += (found := by_group(lambda weights, v=values: mean(v, weights), groups)).low <= 0 <= found.high
        found = by_group(lambda weights, v=values: mean(v, weights), alone)
        held_alone += found.low <= 0 <= found.high
    assert 0.90 <= held / 400 <= 0.99
    assert held_alone / 400 < 0.85, "films of one group would not count as one"


def binormal(
    rng: np.random.Generator, groups: int, films: int, apart: float
) -> tuple[NDArray[np.bool_], NDArray[np.float64], list[str]]:
    """Truth, scores of variance 1 and groups of one class each: what films of a group share is as large as what they do
    not. The true AUROC is Phi(apart / sqrt 2)."""
    truth = np.repeat(np.arange(groups) % 2 == 0, films)
    shared = np.repeat(rng.normal(0, math.sqrt(0.5), groups), films)
    scores = apart * truth + shared + rng.normal(0, math.sqrt(0.5), groups * films)
    return truth, scores, [f"g{number // films:03}" for number in range(groups * films)]


def test_intervals_of_auroc_hold_the_truth_as_often_as_they_say() -> None:
    """Of 200 worlds of 40 groups with 4 films each. 0.88 is 4 standard deviations below 0.94 (0.017): a percentile
    bootstrap of so few groups falls short of 0.95 itself."""
    rng, apart = np.random.default_rng(11), 1.5
    area = float(norm.cdf(apart / math.sqrt(2)))
    held = held_alone = 0
    for _ in range(200):
        truth, scores, groups = binormal(rng, 40, 4, apart)
        found = by_group(lambda weights, t=truth, s=scores: auroc(t, s, weights), groups)
        held += found.low <= area <= found.high
        alone = delong_interval(truth, scores)
        held_alone += alone.low <= area <= alone.high
    assert 0.88 <= held / 200 <= 0.99
    assert held_alone / 200 < 0.85, "DeLong's takes films of one group for independent"


@pytest.mark.parametrize("apart", [0.5, 1.5])
def test_delongs_interval_holds_the_truth_as_often_as_it_says(apart: float) -> None:
    """Of 1,000 worlds of 120 independent films: 0.925 is 3.6 standard deviations below 0.95 (0.007)."""
    rng, area = np.random.default_rng(13), float(norm.cdf(apart / math.sqrt(2)))
    held = 0
    for _ in range(1000):
        truth, scores, _ = binormal(rng, 120, 1, apart)
        found = delong_interval(truth, scores)
        held += found.low <= area <= found.high
    assert 0.925 <= held / 1000 <= 0.975


def test_delongs_test_is_wrong_as_often_as_it_says() -> None:
    """Of 1,000 worlds in which two models are equally good, 5 % have p < 0.05, give or take 3 standard deviations."""
    rng, wrong = np.random.default_rng(17), 0
    for _ in range(1000):
        truth, scores, _ = binormal(rng, 120, 1, 1.0)
        one, other = (scores + rng.normal(0, 0.5, 120) for _ in range(2))
        wrong += delong_test(truth, one, other)[1] < 0.05
    assert 0.03 <= wrong / 1000 <= 0.07


def test_the_draws_are_the_same_every_time() -> None:
    values = np.arange(20.0)
    groups = [f"g{i // 2}" for i in range(20)]
    assert len({by_group(lambda weights: mean(values, weights), groups) for _ in range(2)}) == 1


# ---- quantiles and growth


@pytest.mark.parametrize(
    ("samples", "low", "high"), [(6, 1, 6), (9, 2, 8), (10, 2, 9), (20, 6, 15), (25, 8, 18), (100, 40, 61)]
)
def test_a_medians_interval_has_the_ranks_of_the_published_tables(samples: int, low: int, high: int) -> None:
    """Conover, Practical Nonparametric Statistics, 1999, section 3.2, and any table of the sign test."""
    found = quantile(list(range(samples, 0, -1)), 0.5)
    assert (found.value, found.low, found.high) == (math.ceil(samples / 2), low, high)


def test_ends_that_too_few_samples_do_not_reach_are_not_told() -> None:
    assert math.isnan(quantile([1.0, 2.0, 3.0, 4.0, 5.0], 0.5).low)
    assert math.isnan(quantile(list(range(1, 101)), 0.99).high)
    assert quantile(list(range(1, 101)), 0.99).value == 99
    with pytest.raises(ValueError, match="no samples"):
        quantile([], 0.5)


def test_quantiles_hold_the_truth_as_often_as_they_say() -> None:
    """Of 2,000 samples of skewed waiting times at least 95 % hold the true p90, and not many more: ranks are whole
    numbers. 0.94 is two standard deviations below (sqrt(0.95 * 0.05 / 2000) = 0.005)."""
    rng, truth = np.random.default_rng(3), -math.log(0.1)
    held = 0
    for _ in range(2000):
        found = quantile(rng.exponential(1, 130).tolist(), 0.9)
        held += found.low <= truth <= found.high
    assert 0.94 <= held / 2000 <= 0.985


@pytest.mark.parametrize(("share", "films"), [(0.5, 11), (0.9, 64), (0.95, 130), (0.99, 662)])
def test_quantiles_need_as_many_samples_as_mlperf_asks_for(share: float, films: int) -> None:
    """LoadGen asks for 64 and 662 queries at 0.90 and 0.99; with one less, chance alone passes too often."""
    assert fewest_for(share) == films

    def chance(count: int) -> float:
        return share**count + count * (1 - share) * share ** (count - 1)

    assert chance(films) <= 0.01 < chance(films - 1)


NORRIS = """
0.1 0.2 338.8 337.4 118.1 118.2 888.0 884.6 9.2 10.1 228.1 226.5 668.5 666.3 998.5 996.3 449.1 448.6 778.9 777.0
559.2 558.2 0.3 0.4 0.1 0.6 778.1 775.5 668.8 666.9 339.3 338.0 448.9 447.5 10.8 11.6 557.7 556.0 228.3 228.1
998.0 995.8 888.8 887.6 119.6 120.2 0.3 0.3 0.6 0.3 557.6 556.8 339.3 339.1 888.0 887.2 998.5 999.0 778.9 779.0
10.2 11.1 117.6 118.3 228.9 229.2 668.4 669.1 449.2 448.9 0.2 0.5
"""


def test_growth_gives_the_certified_slope() -> None:
    """NIST's Statistical Reference Datasets, Norris: slope 1.00211681802045, standard deviation 0.000429796848199937; t
    of 34 degrees of freedom is 2.0322445. Its values are the logarithms here, a thousandth each, or they overflow."""
    y, x = np.array(NORRIS.split(), float).reshape(-1, 2).T / 1000
    found = growth(np.exp(x).tolist(), np.exp(y).tolist())
    assert found.value == pytest.approx(1.00211681802045, abs=1e-11)
    assert (found.high - found.low) / 2 == pytest.approx(2.0322445 * 0.000429796848199937, rel=1e-6)


def test_growth_by_hand() -> None:
    found = growth([1000, 10_000, 50_000], [2.0 * n**1.5 for n in (1000, 10_000, 50_000)])
    assert (found.value, found.low, found.high) == pytest.approx((1.5, 1.5, 1.5))
    two = growth([10, 100], [3.0, 300.0])
    assert two.value == pytest.approx(2)
    assert math.isnan(two.low)
    with pytest.raises(ValueError, match="one size"):
        growth([10, 10], [1.0, 2.0])


def test_growth_holds_the_truth_as_often_as_it_says() -> None:
    """Of 1,000 measurements of three sizes, three rounds each, with noise of 5 %: sqrt(0.95 * 0.05 / 1000) = 0.007."""
    rng, sizes = np.random.default_rng(5), [1000, 10_000, 50_000] * 3
    held = 0
    for _ in range(1000):
        found = growth(sizes, [0.005 * size * math.exp(rng.normal(0, 0.05)) for size in sizes])
        held += found.low <= 1 <= found.high
    assert 0.93 <= held / 1000 <= 0.97


# ---- calibration


def test_calibration_by_hand() -> None:
    truth, probability = np.array([False, True, True, True]), np.array([0.1, 0.1, 0.9, 0.9])
    assert [(b.films, b.probability, b.fractured) for b in reliability(truth, probability)] == [
        (2, pytest.approx(0.1), 0.5), (2, pytest.approx(0.9), 1.0)
    ]  # fmt: skip
    assert calibration_error(truth, probability) == pytest.approx((0.4 + 0.1) / 2)
    assert brier(truth, probability) == pytest.approx((0.01 + 0.81 + 0.01 + 0.01) / 4)
    assert calibration_error(truth, truth.astype(float)) == brier(truth, truth.astype(float)) == 0
    assert calibration_error(truth, (~truth).astype(float)) == brier(truth, (~truth).astype(float)) == 1


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=1, max_size=60))
def test_calibration_stays_in_its_range(films: list[tuple[bool, float]]) -> None:
    truth = np.array([fractured for fractured, _ in films])
    probability = np.array([value for _, value in films])
    bins = reliability(truth, probability)
    assert sum(b.films for b in bins) == len(films)
    assert len(bins) <= BINS
    assert -1e-12 <= calibration_error(truth, probability) <= 1 + 1e-12
    assert brier(truth, probability) == pytest.approx(
        metrics.brier_score_loss(truth, probability, labels=[False, True])
    )
    # within a bin differences cancel, so ECE squared cannot be above the mean of their squares
    assert calibration_error(truth, probability) ** 2 <= brier(truth, probability) + 1e-12


# ---- places


def test_a_free_response_curve_by_hand() -> None:
    """Two films, three lesions: the first is marked twice, the second never."""
    curve = froc(np.array([0.7, 0.9, 0.8, 0.6, 0.5]), np.array([0, 0, -1, 2, -1]), lesions=3, films=2)
    assert curve.threshold == [0.9, 0.8, 0.7, 0.6, 0.5]
    assert curve.false_a_film == [0, 0.5, 0.5, 0.5, 1.0]
    assert curve.sensitivity == pytest.approx([1 / 3, 1 / 3, 1 / 3, 2 / 3, 2 / 3])
    with pytest.raises(ValueError, match="needs a lesion"):
        froc(np.array([0.5]), np.array([-1]), lesions=0, films=2)


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(-1, 3)), max_size=30))
def test_a_free_response_curve_only_rises(marks: list[tuple[float, int]]) -> None:
    scores, lesion = np.array([s for s, _ in marks]), np.array([on for _, on in marks], np.intp)
    curve = froc(scores, lesion, lesions=4, films=3)
    for values in (curve.false_a_film, curve.sensitivity):
        assert values == sorted(values)
    if marks:
        assert curve.false_a_film[-1] == pytest.approx((lesion < 0).sum() / 3)
        assert curve.sensitivity[-1] == pytest.approx(len(set(lesion.tolist()) - {-1}) / 4)
