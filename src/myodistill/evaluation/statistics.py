"""Are two methods different? Paired over subjects, two-sided, corrected, with effect sizes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats
from statsmodels.stats.multitest import multipletests

from myodistill.errors import DataError

Values = NDArray[np.float64]

ALPHA = 0.05
_EXACT = 50  # SciPy's own limit for the exact distribution
_ENUMERATE = 14  # 2¹⁴ sign patterns are still tried one by one
_FLIPS = 20_000
_BLOCK = 64


def compare(scores: pd.DataFrame) -> pd.DataFrame:
    """Compare every two methods over the same subjects.

    Whether a difference counts as shown is decided by the Wilcoxon test, Holm-corrected over all
    pairs of the table; the permutation test stands beside it as a check on the mean.

    Args:
        scores: A row for each subject, a column for each method, in per cent; see
            :func:`myodistill.evaluation.protocol.subject_scores`.

    Returns:
        A row for each pair: ``first, second, subjects``; ``difference`` (first minus second, in
        points) with its 95 % bootstrap interval ``low, high``; ``rank_biserial``; ``cohens_d``;
        ``wilcoxon`` and ``permutation`` p-values and both Holm-corrected (``wilcoxon_holm``,
        ``permutation_holm``); ``significant``.

    Raises:
        DataError: There are fewer than two methods or two subjects, or a score is missing.
    """
    values = _checked(scores)
    pairs = list(combinations(range(values.shape[1]), 2))
    first, second = np.array(pairs).T
    differences = np.round(values[:, first] - values[:, second], 12)
    low, high = intervals(differences)
    wilcoxon = wilcoxon_p(differences)
    permutation = sign_flip_p(differences)
    return pd.DataFrame(
        {
            "first": scores.columns[first],
            "second": scores.columns[second],
            "subjects": len(values),
            "difference": differences.mean(axis=0),
            "low": low,
            "high": high,
            "rank_biserial": rank_biserial(differences),
            "cohens_d": cohens_d(differences),
            "wilcoxon": wilcoxon,
            "wilcoxon_holm": holm(wilcoxon),
            "permutation": permutation,
            "permutation_holm": holm(permutation),
            "significant": holm(wilcoxon) <= ALPHA,
        }
    )


def wilcoxon_p(differences: Values) -> Values:
    """Two-sided Wilcoxon signed-rank test of each column, exact up to 50 subjects.

    Zero differences are left out (Wilcoxon, Individual comparisons by ranking methods, 1945).
    Columns with equal differences, for which SciPy would use a normal approximation, get their
    exact distribution too.

    Args:
        differences: Shape ``(subject, pair)``.
    """
    p = np.ones(differences.shape[1])
    ranked = np.sort(np.abs(differences), axis=0)
    tied = (ranked[0] == 0) | (np.diff(ranked, axis=0) == 0).any(axis=0)
    if not tied.all():
        p[~tied] = _scipy_wilcoxon_p(differences[:, ~tied])
    for column in np.flatnonzero(tied):
        present = differences[differences[:, column] != 0, column]
        if len(present) > _EXACT:
            p[column] = _scipy_wilcoxon_p(present[:, None])[0]
        elif len(present):
            p[column] = _tied_wilcoxon_p(present)
    return p


def _scipy_wilcoxon_p(differences: Values) -> Values:
    method: Any = "exact" if len(differences) <= _EXACT else "asymptotic"
    return np.asarray(stats.wilcoxon(differences, axis=0, method=method).pvalue)


def _tied_wilcoxon_p(present: Values) -> float:
    """Count the sign patterns whose rank sum lies as far from the middle, by convolution."""
    doubled = np.rint(2 * stats.rankdata(np.abs(present))).astype(int)  # midranks as integers
    ways = np.zeros(doubled.sum() + 1)
    ways[0] = 1.0
    for rank in doubled:
        ways[rank:] += ways[:-rank].copy()
    positive = doubled[present > 0].sum()
    tail = min(ways[: positive + 1].sum(), ways[positive:].sum())
    return float(min(1.0, 2 * tail / 2.0 ** len(present)))


def sign_flip_p(differences: Values, *, seed: int = 0) -> Values:
    """Two-sided permutation test of the mean of each column: every sign could have been the other.

    All sign patterns up to 14 subjects, else 20,000 random ones with the observed one counted in
    (Phipson and Smyth, Permutation p-values should never be zero, 2010). Sums that differ by
    rounding alone count as equal, which :func:`scipy.stats.permutation_test` does not ensure.

    Args:
        differences: Shape ``(subject, pair)``.
        seed: Of the random patterns.
    """
    n = len(differences)
    exact = n <= _ENUMERATE
    if exact:
        signs = 1.0 - 2.0 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)
    else:
        signs = np.random.default_rng(seed).choice([-1.0, 1.0], (_FLIPS, n))
    observed = np.abs(differences.sum(axis=0))
    slack = 1e-9 * np.abs(differences).sum(axis=0)
    p = np.empty(differences.shape[1])
    for start in range(0, differences.shape[1], _BLOCK):
        part = slice(start, start + _BLOCK)
        extreme = np.abs(signs @ differences[:, part]) >= observed[part] - slack[part]
        p[part] = extreme.mean(axis=0) if exact else (extreme.sum(axis=0) + 1) / (_FLIPS + 1)
    return p


def holm(p: Values) -> Values:
    """Holm's step-down correction (A simple sequentially rejective procedure, 1979)."""
    return np.asarray(multipletests(p, method="holm")[1])


def rank_biserial(differences: Values) -> Values:
    """Matched-pairs rank-biserial correlation of each column, from -1 to 1.

    The share of the rank sum that speaks for the first method less the share that speaks for the
    second (Kerby, The simple difference formula, 2014); 0 where all differences are zero.
    """
    ranks = np.zeros_like(differences)
    for column in range(differences.shape[1]):
        present = differences[:, column] != 0
        ranks[present, column] = stats.rankdata(np.abs(differences[present, column]))
    total = ranks.sum(axis=0)
    signed = (np.sign(differences) * ranks).sum(axis=0)
    rank_share: Values = np.divide(signed, total, out=np.zeros_like(total), where=total > 0)
    return rank_share


def cohens_d(differences: Values) -> Values:
    """Cohen's d_z of each column: mean over standard deviation of the differences.

    Infinite where every subject differs by the same amount, 0 where none differs.
    """
    mean = differences.mean(axis=0)
    spread = differences.std(axis=0, ddof=1)
    flat = np.ptp(differences, axis=0) == 0
    d: Values = np.divide(mean, spread, out=np.zeros_like(mean), where=~flat)
    return np.where(flat & (mean != 0), np.copysign(np.inf, mean), d)


def intervals(differences: Values, *, draws: int = 10_000, seed: int = 0) -> tuple[Values, Values]:
    """95 % percentile bootstrap interval of the mean of each column, over subjects.

    The same resamples, and so the same numbers, as :func:`myodistill.evaluation.results.interval`.
    """
    n = len(differences)
    drawn = np.random.default_rng(seed).choice(n, (draws, n))
    weights = np.zeros((draws, n))
    np.add.at(weights, (np.arange(draws)[:, None], drawn), 1.0 / n)
    low, high = np.empty((2, differences.shape[1]))
    for start in range(0, differences.shape[1], _BLOCK):
        part = slice(start, start + _BLOCK)
        low[part], high[part] = np.quantile(weights @ differences[:, part], [0.025, 0.975], axis=0)
    return low, high


@dataclass(frozen=True)
class Friedman:
    """Friedman's test over all methods at once and what follows from it.

    Attributes:
        statistic: Friedman's chi-square.
        p: Its p-value.
        ranks: Mean rank of each method over subjects, best (1) first.
        critical_difference: Mean ranks that differ by less are not told apart (Nemenyi).
        pairs: Nemenyi p-value, method by method.
    """

    statistic: float
    p: float
    ranks: pd.Series[float]
    critical_difference: float
    pairs: pd.DataFrame

    def cliques(self) -> list[tuple[str, ...]]:
        """Return the largest groups of neighbouring methods that are not told apart."""
        names, ranks = list(self.ranks.index), self.ranks.to_numpy()
        ends = np.searchsorted(ranks, ranks + self.critical_difference, side="right")
        groups, reached = [], 0
        for start, end in enumerate(ends):
            if end > reached and end - start > 1:
                groups.append(tuple(names[start:end]))
            reached = max(reached, end)
        return groups


def friedman(scores: pd.DataFrame, *, alpha: float = ALPHA) -> Friedman:
    """Test all methods at once over subjects (Demšar, Statistical comparisons, JMLR 2006).

    Args:
        scores: A row for each subject, a column for each method; higher is better.
        alpha: Of the critical difference.

    Raises:
        DataError: There are fewer than three methods or two subjects, or a score is missing.
    """
    values = _checked(scores)
    n, methods = values.shape
    if methods < 3:
        raise DataError(
            f"Friedman's test: expected at least 3 methods, got {methods}; compare two with the "
            f"Wilcoxon test"
        )
    from scikit_posthocs import posthoc_nemenyi_friedman  # two seconds to import

    values = np.round(values, 12)
    ranks: pd.Series[float] = pd.Series(
        stats.rankdata(-values, axis=1).mean(axis=0), index=scores.columns
    )
    flat = (np.ptp(values, axis=1) == 0).all()
    statistic, p = (0.0, 1.0) if flat else map(float, stats.friedmanchisquare(*values.T))
    studentized = stats.studentized_range.ppf(1 - alpha, methods, np.inf) / math.sqrt(2)
    pairs = posthoc_nemenyi_friedman(values).clip(0.0, 1.0)  # its approximation overshoots
    pairs.index = pairs.columns = scores.columns
    return Friedman(
        statistic=statistic,
        p=p,
        ranks=ranks.sort_values(kind="stable"),
        critical_difference=float(studentized * math.sqrt(methods * (methods + 1) / (6 * n))),
        pairs=pairs,
    )


def _checked(scores: pd.DataFrame) -> Values:
    values = scores.to_numpy(dtype=float)
    if values.shape[1] < 2:
        raise DataError(
            f"comparison: expected at least 2 methods, got {values.shape[1]}; there is nothing to "
            f"compare with"
        )
    if len(values) < 2:
        raise DataError(
            f"comparison: expected at least 2 subjects, got {len(values)}; differences over people "
            f"cannot be told from chance with one person"
        )
    if not np.isfinite(values).all():
        row, column = np.argwhere(~np.isfinite(values))[0]
        raise DataError(
            f"comparison: expected a score of every method for every subject, got "
            f"{values[row, column]} for {scores.columns[column]}, {scores.index[row]}; "
            f"score it again or leave the method out"
        )
    return values
