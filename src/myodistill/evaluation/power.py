"""The limits of few subjects: the smallest p-value and the smallest detectable difference."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from scipy import optimize, stats

from myodistill.evaluation.statistics import ALPHA


def smallest_p(subjects: int) -> float:
    """Return the smallest p-value that a two-sided signed-rank test can give."""
    return min(1.0, 2.0 ** (1 - subjects))


def detectable(subjects: int, spread: float, *, alpha: float = ALPHA, power: float = 0.8) -> float:
    """Return the mean difference that a paired test would find with some power.

    From the noncentral t distribution, with 3/π of the subjects that a t-test would need, as the
    signed-rank test has this efficiency under normal differences (Lehmann, Nonparametrics, 1975).

    Args:
        subjects: How many there are.
        spread: Standard deviation of the differences; the result has its unit.
        alpha: Two-sided level.
        power: Chance to find the difference.

    Returns:
        The difference, infinite where no difference can become significant.
    """
    if subjects < 2 or smallest_p(subjects) > alpha:
        return math.inf
    effective = max(subjects * 3 / math.pi, 1.5)
    freedom = effective - 1
    bound = stats.t.ppf(1 - alpha / 2, freedom)

    def lacking(d: float) -> float:
        return float(stats.nct.sf(bound, freedom, d * math.sqrt(effective))) - power

    return float(optimize.brentq(lacking, 1e-9, 1e3 / math.sqrt(effective))) * spread


def power_note(comparisons: pd.DataFrame) -> str:
    """State in words what so few subjects can show.

    Args:
        comparisons: What :func:`myodistill.evaluation.statistics.compare` returned.
    """
    n, pairs = int(comparisons["subjects"].iloc[0]), len(comparisons)
    least = smallest_p(n)
    if least > ALPHA:
        return (
            f"With {n} subjects the smallest two-sided p-value of a signed-rank test is "
            f"{least:.3g}: no difference can become significant, however large it is. "
            f"At least 6 subjects are needed for one comparison."
        )
    if least * pairs > ALPHA:
        needed = math.ceil(1 + math.log2(pairs / ALPHA))
        corrected = least * pairs
        smallest = f"is {corrected:.3g}" if corrected < 1 else "is 1, whatever the scores are"
        return (
            f"With {n} subjects and {pairs} comparisons the smallest p-value after Holm's "
            f"correction {smallest}: no single difference can become significant, "
            f"however large it is. Compare fewer methods or score at least {needed} subjects."
        )
    d = comparisons["cohens_d"].to_numpy(dtype=float)
    mean = comparisons["difference"].to_numpy(dtype=float)
    usable = np.isfinite(d) & (d != 0)
    spreads = np.abs(mean[usable] / d[usable])
    if len(spreads) == 0:
        return f"The methods do not differ on any of {n} subjects."
    difference = detectable(n, float(np.median(spreads)), alpha=ALPHA / pairs)
    return (
        f"With {n} subjects, {pairs} comparisons and differences that vary this much, a true "
        f"difference under {difference:.1f} points would be missed more often than one time in "
        f"five. What is not marked is not shown to be equal."
    )
