"""scikit-learn estimators on raw windows: the catalogue's methods, and distillation between them.

For one person's windows as an array ``(window, channel, time)``. Each window is filtered by itself,
so that no prediction depends on its neighbours: with whole recordings :func:`~myodistill.calibrate`
does better, as it filters the stream.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import Tags, assert_all_finite, check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from myodistill.bundle import Bundle
from myodistill.config import Training
from myodistill.datasets.dataset import Facts
from myodistill.datasets.recording import Electrodes, ring
from myodistill.distillation.array_fit import Decide, fit_classical_baseline, fit_network
from myodistill.errors import DataError, SettingsError, one_line, shown
from myodistill.models.classical import CLASSICAL
from myodistill.training.tasks import DistillationTask, Task
from myodistill.training.teacher_output import TeacherOutput

Probabilities = NDArray[np.floating]


class InputError(DataError, ValueError):
    """Windows or labels are not what an estimator takes; a ``ValueError`` for scikit-learn."""


class ParameterError(SettingsError, ValueError):
    """A parameter of an estimator is out of range; a ``ValueError`` for scikit-learn."""


class _WindowClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """What both estimators share: reading windows, and predicting for them."""

    sampling_rate: float
    electrodes: Electrodes | Literal["ring"]
    passband: tuple[float, float] | None
    random_state: Any

    def predict_proba(self, X: ArrayLike) -> Probabilities:
        """Return the probability of each class, shape ``(window, class)``.

        Args:
            X: Raw windows ``(window, channel, time)``, with the channels and length of those that
                it was fitted to.

        Raises:
            InputError: They have another shape, or are not finite real numbers.
            NotFittedError: :meth:`fit` has not been called.
        """
        check_is_fitted(self)
        windows = self._read(X, reset=False)
        if windows.shape[2] != self.n_samples_:
            raise InputError(
                f"{self._who}: expected windows of {self.n_samples_} samples, as those that it was "
                f"fitted to, got {windows.shape[2]}"
            )
        return np.asarray(self._decide(windows))

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the likeliest class of each window, shape ``(window,)``; see `predict_proba`."""
        probabilities = self.predict_proba(X)
        return np.asarray(self.classes_[probabilities.argmax(axis=1)])

    def __sklearn_tags__(self) -> Tags:
        """Declare that windows have three axes."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        return tags

    @property
    def _who(self) -> str:
        return type(self).__name__

    def _read(self, X: ArrayLike, *, reset: bool) -> NDArray[np.float32]:
        """Return finite windows; scikit-learn's objection to others becomes one line."""
        try:
            read = validate_data(self, X, allow_nd=True, dtype=np.float32, order="C", reset=reset)
        except ValueError as error:
            raise InputError(f"{self._who}: {one_line(str(error), 240)}") from error
        if read.ndim != 3:
            raise InputError(
                f"{self._who}: expected raw windows of shape (window, channel, time), got "
                f"{read.shape}; Reshape your data"
            )
        return np.asarray(read)

    def _begin(self, X: ArrayLike, y: ArrayLike) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
        """Read the training data; return the windows and the class index of each."""
        if y is None:
            raise InputError(f"{self._who}: requires y to be passed, but the target y is None")
        windows = self._read(X, reset=True)
        try:
            labels = column_or_1d(y, warn=True)
            assert_all_finite(labels)
            check_classification_targets(labels)
        except ValueError as error:
            raise InputError(f"{self._who}: {one_line(str(error), 240)}") from error
        if len(labels) != len(windows):
            raise InputError(
                f"{self._who}: expected a label for each of {len(windows)} windows, got "
                f"{len(labels)}"
            )
        self.classes_, numbers = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise InputError(
                f"{self._who}: expected windows of at least 2 classes, got 1 class; there is "
                f"nothing to tell apart"
            )
        self.n_samples_ = windows.shape[2]
        return windows, numbers.astype(np.intp)

    def _facts(self, windows: NDArray[np.float32]) -> Facts:
        """Return what is fixed about the windows; each is a recording of its own."""
        rate, channels = float(self.sampling_rate), windows.shape[1]
        electrodes = ring(channels) if isinstance(self.electrodes, str) else self.electrodes
        if self.electrodes != "ring" and not isinstance(self.electrodes, Electrodes):
            raise ParameterError(
                f"electrodes: expected 'ring' or Electrodes, got {shown(self.electrodes)}"
            )
        if electrodes.channels != channels:
            raise InputError(
                f"{self._who}: expected windows of {electrodes.channels} channels, one for each "
                f"electrode, got {channels}"
            )
        return Facts(
            name="windows", title="windows", electrodes=electrodes, sampling_rate=rate,
            gestures=tuple(map(str, self.classes_)), unit="counts", samples=windows.shape[2],
            step=windows.shape[2], mains=0.0, repetitions=1, calibration_session="fitted",
            passband=self.passband or (min(20.0, 0.1 * rate), 0.45 * rate),
            test_sessions=(), licence="", citation="", home="",
        )  # fmt: skip

    def _seed(self) -> int:
        """Return the seed; a generator gives another one at each fit."""
        state = self.random_state
        if isinstance(state, int | np.integer) and state >= 0:
            return int(state)
        return int(check_random_state(state).randint(2**31))


class EMGClassifier(_WindowClassifier):
    """A method of the catalogue, classical or a network, fitted to one person's raw windows.

    Args:
        name: A classical method such as ``"lda-log-covariance"`` (see ``myodistill baseline``), or
            a network of ``myodistill models``.
        sampling_rate: In hertz.
        electrodes: ``"ring"``, in channel order, or an :class:`~myodistill.Electrodes`.
        passband: Edges of the causal band-pass in hertz; 20 Hz to 0.45 of the rate by default.
        num_epochs: Passes over the windows; for networks only, like all further parameters but the
            last.
        batch_size: Windows a step.
        learning_rate: Peak of the cosine schedule, for AdamW.
        patience: Epochs without gain on the last group before training ends; 0 for a fixed budget.
        random_state: Seed of weights and order, or of a forest.

    Attributes:
        classes_: The labels, sorted.
        n_features_in_: Channels.
        n_samples_: Length of a window in samples.
        bundle_: The network's bundle, to save or export; None for a classical method.

    Example:
        >>> X.shape, y.shape  # raw windows (window, channel, time), their gestures
        ((600, 8, 200), (600,))
        >>> model = EMGClassifier("log-power-10k", sampling_rate=1000)
        >>> cross_val_score(model, X, y, groups=repetition, cv=GroupKFold(4))
    """

    def __init__(
        self,
        name: str = "lda-log-covariance",
        *,
        sampling_rate: float,
        electrodes: Electrodes | Literal["ring"] = "ring",
        passband: tuple[float, float] | None = None,
        num_epochs: int = 50,
        batch_size: int = 128,
        learning_rate: float = 3e-3,
        patience: int = 0,
        random_state: Any = 0,
    ) -> None:
        self.name = name
        self.sampling_rate = sampling_rate
        self.electrodes = electrodes
        self.passband = passband
        self.num_epochs = num_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.patience = patience
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike, groups: ArrayLike | None = None) -> Self:
        """Fit to windows.

        Args:
            X: Raw windows ``(window, channel, time)``.
            y: Label of each, shape ``(window,)``.
            groups: Repetition of each window, shape ``(window,)``. With ``patience`` a network
                holds the last (largest) one out for early stopping; otherwise they are ignored.

        Raises:
            InputError: Windows, labels and groups do not fit together, or are not finite numbers.
            SettingsError: A parameter is out of range, or ``patience`` lacks groups.
            ModelError: The method is unknown, or cannot read such windows.
        """
        windows, labels = self._begin(X, y)
        facts, seed = self._facts(windows), self._seed()
        self.bundle_: Bundle | None = None
        if self.name in CLASSICAL:
            self._decide: Decide = fit_classical_baseline(self.name, facts, windows, labels, seed)
            return self
        late = _late(groups, len(windows), self.patience)
        settings = _training(self)
        self.bundle_ = fit_network(self.name, facts, windows, labels, seed, late, settings, Task)
        self._decide = self.bundle_.predict_proba
        return self


class DistilledClassifier(_WindowClassifier):
    """A small network that learns from a teacher's outputs for the same windows.

    (Hinton, Vinyals and Dean, Distilling the knowledge in a neural network, 2015.)

    Args:
        teacher: Any method that :class:`EMGClassifier` takes.
        student: A network of ``myodistill models``.
        sampling_rate: In hertz.
        electrodes: As for :class:`EMGClassifier`.
        passband: As for :class:`EMGClassifier`.
        alpha: Weight of the labels against the teacher, 0 to 1.
        temperature: Of the soft targets.
        num_epochs: Passes over the windows, of teacher and student.
        batch_size: Windows a step.
        learning_rate: Peak of the cosine schedule, for AdamW.
        patience: Epochs without gain on the last group before training ends; 0 for a fixed budget.
        random_state: Seed of weights and order.

    Attributes:
        classes_: The labels, sorted.
        n_features_in_: Channels.
        n_samples_: Length of a window in samples.
        teacher_: The fitted :class:`EMGClassifier`.
        bundle_: The student's bundle, to save or export.

    Example:
        >>> model = DistilledClassifier("covariance", "log-power-30k", sampling_rate=1000)
        >>> model.fit(X, y).bundle_.export("c", "firmware/decoder")
    """

    def __init__(
        self,
        teacher: str = "covariance",
        student: str = "log-power-30k",
        *,
        sampling_rate: float,
        electrodes: Electrodes | Literal["ring"] = "ring",
        passband: tuple[float, float] | None = None,
        alpha: float = 0.0,
        temperature: float = 3.0,
        num_epochs: int = 50,
        batch_size: int = 128,
        learning_rate: float = 3e-3,
        patience: int = 0,
        random_state: Any = 0,
    ) -> None:
        self.teacher = teacher
        self.student = student
        self.sampling_rate = sampling_rate
        self.electrodes = electrodes
        self.passband = passband
        self.alpha = alpha
        self.temperature = temperature
        self.num_epochs = num_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.patience = patience
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike, groups: ArrayLike | None = None) -> Self:
        """Fit the teacher to windows, then the student to its soft targets on the same windows.

        Args:
            X: Raw windows ``(window, channel, time)``.
            y: Label of each, shape ``(window,)``.
            groups: Repetition of each window, shape ``(window,)``. With ``patience`` the last
                (largest) one is held out for early stopping; otherwise they are ignored.

        Raises:
            InputError: Windows, labels and groups do not fit together, or are not finite numbers.
            SettingsError: A parameter is out of range, or ``patience`` lacks groups.
            ModelError: A method is unknown, or cannot read such windows.
        """
        windows, labels = self._begin(X, y)
        facts, seed = self._facts(windows), self._seed()
        late, settings = _late(groups, len(windows), self.patience), _training(self)
        self.teacher_ = EMGClassifier(
            self.teacher, random_state=seed,
            **{name: getattr(self, name) for name in _PASSED_ON},
        ).fit(windows, labels, groups)  # fmt: skip
        log_probabilities = np.log(np.maximum(self.teacher_.predict_proba(windows), 1e-12))
        outputs = TeacherOutput(torch.from_numpy(log_probabilities.astype(np.float32)))
        task = partial(DistillationTask, alpha=self.alpha, temperature=self.temperature)
        self.bundle_ = fit_network(
            self.student, facts, windows, labels, seed, late, settings, task, outputs
        )
        self._decide = self.bundle_.predict_proba
        return self


_PASSED_ON = (
    *("sampling_rate", "electrodes", "passband"),
    *("num_epochs", "batch_size", "learning_rate", "patience"),
)
"""Parameters that a teacher shares with its student."""


def _training(estimator: EMGClassifier | DistilledClassifier) -> Training:
    names = ("num_epochs", "batch_size", "learning_rate", "patience")
    try:
        return Training(**{name: getattr(estimator, name) for name in names})
    except ValueError as error:
        raise ParameterError(f"{type(estimator).__name__}: {one_line(str(error), 240)}") from error


def _late(groups: ArrayLike | None, count: int, patience: int) -> NDArray[np.bool_]:
    """Return which windows are of the last group and held out; none without patience."""
    if not patience:
        return np.zeros(count, bool)
    numbers = np.zeros(0) if groups is None else np.asarray(groups)
    if numbers.shape != (count,) or len(np.unique(numbers)) < 2:
        raise InputError(
            f"groups: expected the repetition of each of {count} windows, 2 or more, as patience "
            f"holds the last one out, got {shown(groups, 40)}; give them to fit, or patience=0"
        )
    return np.asarray(numbers == numbers.max())
