"""The classical methods: hand-made features of every window and an estimator fitted to one person.

They calibrate on the same repetitions as every student. Two of them, the
:data:`DEFAULT_BASELINES`, stand in every table; the others are added by name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from myodistill.datasets.dataset import Facts
from myodistill.datasets.recording import Recording, Signal
from myodistill.errors import DataError, ToolError
from myodistill.models.covariance import pool_electrodes
from myodistill.signals.features import (
    Features,
    covariances,
    hudgins,
    log_covariance,
    power_descriptors,
    shrunk,
    time_domain,
)
from myodistill.signals.filters import design
from myodistill.signals.preprocessing import filtered
from myodistill.signals.windows import Windows

Band = tuple[float, float]
Lay = Callable[[Windows], Windows]
MakeFeatures = Callable[[Sequence[Recording], Facts, Lay], tuple[Windows, Features]]


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


def _of_channels(features: Callable[[Signal], Features]) -> MakeFeatures:
    """Features of each channel, in the whole passband."""

    def make(recordings: Sequence[Recording], facts: Facts, lay: Lay) -> tuple[Windows, Features]:
        windows = lay(in_band(recordings, facts, facts.passband))
        return windows, _batchwise(windows, features)

    return make


def _of_bands(features: Callable[[Signal], Features]) -> MakeFeatures:
    """Features between channels in several bands, side by side along axis 1.

    Neighbouring electrodes are averaged first where there are more than 32, as the networks on
    covariances do: 256 channels would make 33,000 numbers a band out of one window.
    """

    def make(recordings: Sequence[Recording], facts: Facts, lay: Lay) -> tuple[Windows, Features]:
        pooling = pool_electrodes(facts.electrodes).astype(np.float32)
        pooled = len(pooling) < facts.electrodes.channels
        blocks = []
        for band in bands(facts):
            windows = lay(in_band(recordings, facts, band))
            blocks.append(
                _batchwise(
                    windows, lambda signals: features(pooling @ signals if pooled else signals)
                )
            )
        return windows, np.concatenate(blocks, axis=1)

    return make


def _batchwise(windows: Windows, features: Callable[[Signal], Features]) -> Features:
    """Features of all windows, some at a time: all of a 256-channel grid would be gigabytes."""
    return np.concatenate([features(batch) for batch in windows.batches()])


FEATURES: dict[str, MakeFeatures] = {
    "time-domain": _of_channels(time_domain),
    "hudgins": _of_channels(hudgins),
    "td-psd": _of_channels(power_descriptors),
    "log-covariance": _of_bands(log_covariance),
    "covariance": _of_bands(lambda signals: shrunk(covariances(signals))[:, None]),
}
"""Feature sets by name: from one person's recordings to windows and ``(window, feature)``.

The last argument lays other windows over the same signals; ``covariance`` gives the matrices
themselves, ``(window, band, channel, channel)``.
"""


def as_cut(windows: Windows) -> Windows:
    """Use the windows of the protocol."""
    return windows


def shrinkage_lda() -> Pipeline:
    """Linear discriminant analysis on standardised features, covariance shrunk after Ledoit-Wolf.

    (Ledoit and Wolf, A well-conditioned estimator for large-dimensional covariance matrices,
    J. Multivariate Analysis 88(2), 2004.)
    """
    return make_pipeline(
        StandardScaler(), LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
    )


def support_vectors() -> Pipeline:
    """Support vector machine with a Gaussian kernel on standardised features.

    (Cortes and Vapnik, Support-vector networks, Machine Learning 20, 1995.) C = 10 and the
    kernel's width of one over the number of features are fixed: a few repetitions of one person
    allow no search without a validation repetition.
    """
    machine = SVC(C=10.0, gamma="scale", decision_function_shape="ovr", break_ties=True)
    return make_pipeline(StandardScaler(), machine)


def random_forest(seed: int) -> RandomForestClassifier:
    """300 trees, each split on the square root of the features (Breiman, Random forests, 2001)."""
    return RandomForestClassifier(n_estimators=300, random_state=seed, n_jobs=1)


class NearestMean(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Minimum Riemannian distance to the mean of each gesture, over several bands.

    The mean is affine-invariant, the distance to a gesture the root of the summed squares over
    bands, which is the distance between block-diagonal matrices (Barachant et al., Multiclass
    brain-computer interface classification by Riemannian geometry, IEEE TBME 59(4), 2012).
    pyRiemann computes both.
    """

    def fit(self, matrices: Features, labels: NDArray[np.integer]) -> NearestMean:
        """Find the mean of each gesture in each band.

        Args:
            matrices: Shape ``(window, band, channel, channel)``.
            labels: Shape ``(window,)``.

        Raises:
            ToolError: pyRiemann is not installed.
        """
        try:
            from pyriemann.classification import MDM
        except ImportError as error:
            raise ToolError(
                "mdm-covariance: expected pyRiemann for means of covariances, it is not "
                "installed; install it with: pip install 'myodistill[baselines]'"
            ) from error
        self.classes_ = np.unique(labels)
        self.bands_ = [
            MDM(metric="riemann").fit(matrices[:, band], labels)
            for band in range(matrices.shape[1])
        ]
        return self

    def decision_function(self, matrices: Features) -> Features:
        """Return minus the squared distance to each mean, ``(window, gesture)``."""
        parts = [mdm.transform(matrices[:, band]) for band, mdm in enumerate(self.bands_)]
        return -np.asarray(np.square(parts).sum(axis=0))

    def predict_proba(self, matrices: Features) -> Features:
        """Return the softmax of the mean over bands of minus the squared distances."""
        return np.asarray(softmax(self.decision_function(matrices) / len(self.bands_), axis=1))

    def predict(self, matrices: Features) -> NDArray[np.integer]:
        """Return the nearest gesture."""
        nearest: NDArray[np.integer] = self.classes_[self.decision_function(matrices).argmax(1)]
        return nearest


@dataclass(frozen=True)
class ClassicalBaseline:
    """A classical method.

    Attributes:
        features: Name of its feature set, one of :data:`FEATURES`.
        estimator: Makes an unfitted estimator from a seed.
    """

    features: str
    estimator: Callable[[int], Any]

    @property
    def is_confident(self) -> bool:
        """Whether its probabilities are its own; see :func:`fit`."""
        return hasattr(self.estimator(0), "predict_proba")


_ESTIMATORS: dict[str, Callable[[int], Any]] = {
    "lda": lambda _: shrinkage_lda(),
    "svm": lambda _: support_vectors(),
    "forest": random_forest,
}

CLASSICAL: dict[str, ClassicalBaseline] = {
    f"{name}-{features}": ClassicalBaseline(features, estimator)
    for name, estimator in _ESTIMATORS.items()
    for features in FEATURES
    if features != "covariance"
} | {"mdm-covariance": ClassicalBaseline("covariance", lambda _: NearestMean())}
"""The classical methods by name, ``<estimator>-<features>``."""

DEFAULT_BASELINES = ("lda-time-domain", "lda-log-covariance")
"""Those that stand in every table."""


@dataclass(frozen=True)
class FittedClassifier:
    """A method that was fitted to one person: features of windows to probabilities.

    Attributes:
        features: Name of its feature set.
        estimator: Fitted.
        present: The gestures that had a calibration window.
        classes: Number of gestures.
    """

    features: str
    estimator: Any
    present: NDArray[np.integer]
    classes: int

    def __call__(self, others: Features) -> Features:
        """Map features ``(window, feature)`` to probabilities ``(window, gesture)``."""
        others, fitted = _finite(self.features, others), self.estimator
        if hasattr(fitted, "predict_proba"):
            known = fitted.predict_proba(others)
        else:
            values = fitted.decision_function(others)
            known = softmax(values if values.ndim == 2 else np.stack([-values, values], 1), axis=1)
        probabilities = np.zeros((len(others), self.classes))
        probabilities[:, self.present] = known
        return probabilities


def fit(
    method: ClassicalBaseline,
    features: Features,
    labels: NDArray[np.integer],
    *,
    classes: int,
    seed: int = 0,
) -> FittedClassifier:
    """Fit a method to calibration windows.

    A support vector machine has no probabilities: the softmax of its one-against-rest values
    takes their place; it keeps the decisions but is not calibrated.

    Args:
        method: What to fit.
        features: Of the calibration windows.
        labels: Gesture of each, shape ``(window,)``.
        classes: Number of gestures; those without a calibration window are never decided.
        seed: Of what is drawn at random.

    Returns:
        Maps the features of other windows to probabilities, ``(window, gesture)``; each row sums
        to one.

    Raises:
        DataError: The calibration windows are of fewer than two gestures, or a feature, now or
            later, is not finite.
    """
    present = np.unique(labels)
    if len(present) < 2:
        raise DataError(
            f"{method.features}: expected calibration windows of at least 2 gestures, got "
            f"{len(present)}; there is nothing to tell apart, check the labels of the recordings"
        )
    fitted = method.estimator(seed).fit(_finite(method.features, features), labels)
    return FittedClassifier(method.features, fitted, present, classes)


def _finite(what: str, features: Features) -> Features:
    if not np.isfinite(features).all():
        raise DataError(
            f"{what}: expected finite features, some are NaN or infinite; look for "
            f"silent channels with `myodistill data inspect`"
        )
    return features
