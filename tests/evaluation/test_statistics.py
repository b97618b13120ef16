"""Paired statistics: agreement with SciPy and statsmodels, and what they claim under no effect."""

from __future__ import annotations

import math
from io import StringIO
from typing import Any

import numpy as np
import pandas as pd
import pytest
from evaluation_tables import example_results
from rich.console import Console
from scipy import stats

from myodistill.errors import DataError
from myodistill.evaluation.power import detectable, power_note, smallest_p
from myodistill.evaluation.protocol import at_chance, require_one_protocol, subject_scores
from myodistill.evaluation.results import interval, render
from myodistill.evaluation.statistics import (
    cohens_d,
    compare,
    friedman,
    holm,
    intervals,
    rank_biserial,
    sign_flip_p,
    wilcoxon_p,
)

MEAN: Any = np.mean  # of more overloads than the stubs can choose from


@pytest.fixture
def differences() -> np.ndarray:
    return np.random.default_rng(3).normal(0.4, 1.0, (12, 5))


def test_wilcoxon_is_scipys_exact_test(differences: np.ndarray) -> None:
    expected = [stats.wilcoxon(column, method="exact").pvalue for column in differences.T]
    np.testing.assert_allclose(wilcoxon_p(differences), expected, rtol=0, atol=1e-12)


def test_wilcoxon_stays_exact_where_differences_tie() -> None:
    tied = np.array([1.0, 1, 2, -2, 3, 3, 5, 0, 4, -1])
    present = tied[tied != 0]
    expected = stats.wilcoxon(present, method=stats.PermutationMethod(n_resamples=10**6)).pvalue
    assert wilcoxon_p(tied[:, None])[0] == pytest.approx(expected, abs=1e-12)
    assert wilcoxon_p(np.zeros((6, 1)))[0] == 1.0
    many = np.round(np.random.default_rng(0).normal(0.2, 1, (60, 1)), 1)
    many = many[many[:, 0] != 0]
    asymptotic: Any = "asymptotic"  # a newer name than the stubs know
    expected = stats.wilcoxon(many[:, 0], method=asymptotic).pvalue
    assert wilcoxon_p(many)[0] == pytest.approx(expected, abs=1e-12)


def test_sign_flips_are_scipys_permutation_test(differences: np.ndarray) -> None:
    p = sign_flip_p(differences)
    for column, found in zip(differences.T, p, strict=True):
        expected = stats.permutation_test(
            (column,), MEAN, permutation_type="samples", n_resamples=10**6
        ).pvalue
        assert found == pytest.approx(expected, abs=1e-12)


def test_random_sign_flips_come_near_the_exact_answer() -> None:
    values = np.random.default_rng(5).normal(0.5, 1.0, (16, 1))
    exact = stats.permutation_test(
        (values[:, 0],), MEAN, permutation_type="samples", n_resamples=10**6
    ).pvalue
    # four standard errors of a share estimated from 20,000 draws
    assert abs(sign_flip_p(values)[0] - exact) < 4 * math.sqrt(exact * (1 - exact) / 20_000)
    assert sign_flip_p(np.full((30, 1), 1.0))[0] > 0


def test_holm_is_statsmodels() -> None:
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    p = np.random.default_rng(0).uniform(0, 0.1, 21)
    np.testing.assert_allclose(holm(p), multitest.multipletests(p, method="holm")[1], atol=1e-12)
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03])), [0.03, 0.06, 0.06])


def test_effect_sizes_by_hand() -> None:
    values = np.array([[3.0], [1.0], [-2.0], [0.0]])
    # ranks 3, 1, 2 of the three that differ: (3 + 1 - 2) / 6
    assert rank_biserial(values)[0] == pytest.approx(1 / 3)
    assert cohens_d(values)[0] == pytest.approx(0.5 / np.std(values, ddof=1))
    assert cohens_d(np.full((4, 1), -2.0))[0] == -math.inf
    assert cohens_d(np.zeros((4, 1)))[0] == 0.0
    assert rank_biserial(np.zeros((4, 1)))[0] == 0.0


def test_intervals_are_those_of_the_results_table(differences: np.ndarray) -> None:
    low, high = intervals(differences)
    for place, column in enumerate(differences.T):
        np.testing.assert_allclose((low[place], high[place]), interval(column), atol=1e-12)


def test_friedman_is_scipys_and_the_critical_difference_is_demsars() -> None:
    rng = np.random.default_rng(1)
    scores = pd.DataFrame(rng.normal([0, 1, 2, 2], 1, (14, 4)), columns=list("abcd"))
    found = friedman(scores)
    expected = stats.friedmanchisquare(*scores.to_numpy().T)
    assert found.statistic == pytest.approx(expected.statistic, abs=1e-12)
    assert found.p == pytest.approx(expected.pvalue, abs=1e-12)
    # q_0.05 for 4 methods is 2.569 in Demšar's table 5(a)
    assert found.critical_difference == pytest.approx(2.569 * math.sqrt(20 / (6 * 14)), rel=1e-3)
    assert found.ranks.index[-1] == "a"
    for clique in found.cliques():
        ends = found.ranks[clique[-1]] - found.ranks[clique[0]]
        assert ends <= found.critical_difference
    told_apart = (found.pairs < 0.05).loc["a", found.ranks.index[0]]
    assert told_apart == (found.ranks["a"] - found.ranks.iloc[0] > found.critical_difference)


@pytest.mark.parametrize("seed", range(5))
def test_no_p_value_is_above_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = pd.DataFrame(np.round(rng.normal(50, 1, (3, 12)), 1))
    scores[11] = scores[10]
    found = compare(scores)
    for name in ("wilcoxon", "wilcoxon_holm", "permutation", "permutation_holm"):
        assert found[name].between(0, 1).all(), name
    every = friedman(scores)
    assert 0 <= every.p <= 1
    assert every.pairs.to_numpy().min() >= 0
    assert every.pairs.to_numpy().max() <= 1


def test_at_chance_is_no_better_than_guessing() -> None:
    frame = example_results()
    assert len(at_chance(frame, 6)) == 0
    stuck = (frame["stage"] == "distilled") & (frame["k"] == 4)
    frame.loc[stuck, "balanced_accuracy"] = 1 / 6 + 0.01
    found = at_chance(frame, 6)
    assert found[["stage", "k"]].to_numpy().tolist() == [["distilled", 4]]
    assert found["chance"].iloc[0] == pytest.approx(1 / 6)
    assert found["balanced_accuracy"].iloc[0] == pytest.approx(1 / 6 + 0.01)
    few = frame[stuck].assign(windows=20, balanced_accuracy=0.22)
    assert len(at_chance(few[few["subject"] == "Ann"], 6)) == 1, "twenty windows say little"
    out = StringIO()
    Console(file=out, width=160).print(render(frame, at_chance=found))
    lines = out.getvalue().splitlines()
    starred = [line.split("  ")[0].strip() for line in lines if line.rstrip().endswith("*")]
    assert starred == ["student, distilled · log-power"]
    assert "no better than guessing" in out.getvalue()


SUBJECTS, METHODS, HEATMAPS = 20, 7, 800
PAIRS = [(i, j) for i in range(METHODS) for j in range(i)]


def heatmaps(gain: float) -> np.ndarray:
    """Differences of every pair in many experiments, shape (subject, heatmap, pair)."""
    rng = np.random.default_rng(11)
    people = rng.normal(85, 6, (SUBJECTS, HEATMAPS, 1))
    scores = people + rng.normal(0, 1.2, (SUBJECTS, HEATMAPS, METHODS))
    scores[:, :, 0] += gain
    return np.stack([scores[:, :, i] - scores[:, :, j] for i, j in PAIRS], axis=-1)


@pytest.mark.slow
def test_under_no_difference_few_heatmaps_show_a_star() -> None:
    p = wilcoxon_p(heatmaps(0.0).reshape(SUBJECTS, -1)).reshape(HEATMAPS, -1)
    starred = sum((holm(row) <= 0.05).any() for row in p)
    # with a true rate of 5 % or less, more than this many come once in a thousand times
    assert starred <= stats.binom.ppf(0.999, HEATMAPS, 0.05)
    assert (p <= 0.05).any(axis=1).mean() > 0.3, "without correction the test would fail"


@pytest.mark.slow
def test_a_two_point_difference_over_twenty_people_is_found() -> None:
    p = wilcoxon_p(heatmaps(2.0).reshape(SUBJECTS, -1)).reshape(HEATMAPS, -1)
    pair = PAIRS.index((1, 0))
    found = np.mean([holm(row)[pair] <= 0.05 for row in p])
    assert found > 0.8


def test_compare_puts_it_together() -> None:
    scores = subject_scores(example_results(), 1)
    found = compare(scores)
    assert len(found) == len(scores.columns) * (len(scores.columns) - 1) / 2
    row = found.iloc[3]
    values = (scores[row["first"]] - scores[row["second"]]).to_numpy()
    assert row["difference"] == pytest.approx(values.mean(), abs=1e-12)
    assert row["wilcoxon"] == pytest.approx(stats.wilcoxon(values).pvalue, abs=1e-12)
    assert (found["wilcoxon_holm"] >= found["wilcoxon"]).all()
    assert (found["significant"] == (found["wilcoxon_holm"] <= 0.05)).all()
    assert found["significant"].any()


def test_seeds_are_averaged_before_anything_is_compared() -> None:
    frame = example_results()
    scores = subject_scores(frame, 1)
    one = frame[(frame["k"] == 1) & (frame["stage"] == "distilled") & (frame["subject"] == "Ann")]
    assert scores.loc["Ann", "student, distilled · log-power"] == pytest.approx(
        100 * one["accuracy"].mean()
    )
    assert scores.columns[0].startswith("classical baseline")


@pytest.mark.slow
def test_power_says_what_so_few_people_can_show() -> None:
    assert smallest_p(5) == 2 * 0.5**5
    few = compare(subject_scores(example_results(subjects=5), 1))
    assert "no difference can become significant" in power_note(few)
    assert not few["significant"].any()
    assert math.isinf(detectable(5, 1.0))
    eight = compare(subject_scores(example_results(subjects=8), 1))
    assert "after Holm" in power_note(eight)
    assert not eight["significant"].any()
    six = power_note(compare(subject_scores(example_results(subjects=6), 1)))
    assert "correction is 0.656" in six
    one = example_results(subjects=6)
    crowd = pd.concat([one.assign(model=one["model"] + name) for name in "ab"])
    assert "correction is 1, whatever the scores are: no single" in power_note(
        compare(subject_scores(crowd, 1))
    )
    enough = compare(subject_scores(example_results(), 1))
    assert "missed more often than one time in five" in power_note(enough)


def test_the_detectable_difference_is_detected_four_times_in_five() -> None:
    difference = detectable(20, 1.5)
    values = np.random.default_rng(2).normal(difference, 1.5, (20, 3000))
    found = (wilcoxon_p(values) <= 0.05).mean()
    # within four standard errors of a share of 3,000, and half a point for the approximation
    assert abs(found - 0.8) < 4 * math.sqrt(0.16 / 3000) + 0.005


def _changed(**columns: Any) -> pd.DataFrame:
    frame = example_results()
    for name, value in columns.items():
        frame.loc[frame.index[7], name] = value
    return frame


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (example_results().iloc[:0], "the table is empty"),
        (_changed(dataset="other"), "expected one dataset, got example, other"),
        (_changed(windows=3), "expected one protocol, .* windows = 3"),
        (_changed(fold=3), "expected one protocol, .* fold"),
        (_changed(accuracy=float("nan")), "1 of 864 have none"),
        (_changed(accuracy=81.0), "a share from 0 to 1, got 81"),
        (_changed(subject=None), "expected 'subject' in every row, 1 of 864 have none"),
        (_changed(parameters=float("nan")), "expected 'parameters' in every row"),
        (_changed(stage="magic"), "unknown stage 'magic'"),
        (pd.concat([example_results(), example_results().iloc[:1]]), "got .* twice"),
        (example_results().iloc[:-1], "expected 3 seeds of"),
    ],
)
def test_a_bad_table_is_refused(frame: pd.DataFrame, message: str) -> None:
    with pytest.raises(DataError, match=message):
        require_one_protocol(frame)


def test_comparisons_that_cannot_be_made_say_why() -> None:
    frame = example_results()
    with pytest.raises(DataError, match="there are only K=0, 1, 2, 4"):
        subject_scores(frame, 3)
    with pytest.raises(DataError, match="unknown metric 'accurcy': did you mean accuracy"):
        subject_scores(frame, 1, "accurcy")
    gone = frame[~((frame["stage"] == "supervised") & (frame["subject"] == "Ann"))]
    with pytest.raises(DataError, match=r"log-power at K=1 is missing for 1 of 12 \(Ann\)"):
        subject_scores(gone, 1)
    with pytest.raises(DataError, match="at least 2 subjects, got 1"):
        compare(subject_scores(example_results(subjects=1), 1))
    scores = subject_scores(frame, 1)
    with pytest.raises(DataError, match="at least 2 methods, got 1"):
        compare(scores.iloc[:, :1])
    with pytest.raises(DataError, match="at least 3 methods, got 2"):
        friedman(scores.iloc[:, :2])
    scores.iloc[2, 1] = math.nan
    with pytest.raises(DataError, match="for every subject, got nan"):
        compare(scores)
