"""The classical floors: linear discriminants on features that need no network.

They calibrate on the same repetitions as every student and stand in every table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from myodistill.datasets.dataset import Facts
from myodistill.datasets.recording import Recording
from myodistill.signals.features import Features, log_covariance, time_domain
from myodistill.signals.filters import design
from myodistill.signals.preprocessing import filtered
from myodistill.signals.windows import Windows

Band = tuple[float, float]


def in_band(recordings: Sequence[Recording], facts: Facts, band: Band) -> Windows:
    """Filter recordings to a band and cut them into the windows of the protocol."""
    sections = design(facts.sampling_rate, band)
    return filtered(recordings, sections, samples=facts.samples, step=facts.step)


def bands(facts: Facts) -> tuple[Band, ...]:
    """Return the whole passband and the three bands within it that log-covariances are taken in.

    The edges 20, 80, 160 and 350 Hz, where the sampling rate allows them; thirds of the passband
    where it does not.
    """
    low, high = facts.passband
    if high > 350:
        inner = (low, 80.0, 160.0, 350.0)
    else:
        inner = (low, low + (high - low) / 4, low + (high - low) * 5 / 8, high)
    return (facts.passband, *pairwise(inner))


def time_domain_features(recordings: Sequence[Recording], facts: Facts) -> tuple[Windows, Features]:
    """Time-domain features of every window of some recordings."""
    windows = in_band(recordings, facts, facts.passband)
    return windows, time_domain(windows.gather())


def log_covariance_features(
    recordings: Sequence[Recording], facts: Facts
) -> tuple[Windows, Features]:
    """Log-covariances in several bands of every window of some recordings."""
    parts = [in_band(recordings, facts, band) for band in bands(facts)]
    return parts[0], np.concatenate([log_covariance(part.gather()) for part in parts], axis=1)


FLOORS: dict[str, Callable[[Sequence[Recording], Facts], tuple[Windows, Features]]] = {
    "lda-time-domain": time_domain_features,
    "lda-log-covariance": log_covariance_features,
}


def shrinkage_lda() -> Pipeline:
    """Linear discriminant analysis on standardised features, covariance shrunk after Ledoit-Wolf.

    (Ledoit and Wolf, A well-conditioned estimator for large-dimensional covariance matrices,
    J. Multivariate Analysis 88(2), 2004.)
    """
    return make_pipeline(
        StandardScaler(), LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
    )
