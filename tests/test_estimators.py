"""The estimators behave as scikit-learn's do, and learn from raw windows."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import validate_data

from myodistill import DistilledClassifier, EMGClassifier, ring
from myodistill.datasets.synthetic import Synthetic
from myodistill.errors import ModelError, MyoDistillError

RATE = 1000.0
SAMPLES = 200
METHODS = ("lda-log-covariance", "svm-time-domain", "log-power-10k", "population")


@pytest.fixture(scope="module")
def windows() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Raw windows of one generated person, their gestures and repetitions."""
    person = Synthetic(subjects=1, seconds=0.8, repetitions=3)
    (recording,) = [r for r in person.recordings("Person1") if r.session == "train"]
    found = [
        (recording.signal[at : at + SAMPLES].T, recording.gestures[note.gesture], note.repetition)
        for note in recording.annotations
        for at in range(note.start, note.stop - SAMPLES + 1, 50)
    ]
    X, y, groups = zip(*found, strict=True)
    return np.stack(X), np.array(y), np.array(groups)


class OfRows(EMGClassifier):
    """Reads rows, as scikit-learn's checks give them: a number is how loud a channel is.

    All but the reading is the estimator's own, so that no check has to be left out because
    windows have three axes.
    """

    def _read(self, X: Any, *, reset: bool) -> np.ndarray:
        rows = validate_data(self, X, dtype=np.float32, reset=reset)
        noise = np.random.default_rng(0).standard_normal((rows.shape[1], 60))
        loud = np.exp(np.clip(rows, -20, 20), dtype=np.float32)
        signals: np.ndarray = (loud[:, :, None] * noise).astype(np.float32)
        return signals

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        return tags


@parametrize_with_checks([OfRows(sampling_rate=RATE)])  # type: ignore[untyped-decorator]
def test_scikit_learn_finds_nothing_wrong(estimator: BaseEstimator, check: Any) -> None:
    check(estimator)


def test_every_kind_of_method_learns_from_raw_windows(
    windows: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    X, y, groups = windows
    for method in METHODS:
        model = EMGClassifier(method, sampling_rate=RATE)
        scores = cross_val_score(model, X, y, groups=groups, cv=GroupKFold(3), error_score="raise")
        assert scores.mean() > 0.6, method  # chance is 0.14


def test_a_student_is_distilled_from_a_teacher_on_the_same_windows(
    windows: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    X, y, groups = windows
    early = groups < 2
    quick: dict[str, Any] = {"sampling_rate": RATE, "num_epochs": 30}
    for teacher in ("lda-log-covariance", "covariance"):
        model = DistilledClassifier(teacher, "log-power-10k", **quick).fit(X[early], y[early])
        assert model.score(X[~early], y[~early]) > 0.6
        assert model.n_features_in_ == 8
        assert list(model.classes_) == sorted(set(y))
        assert model.bundle_.model == "log-power-10k"
        probabilities = model.predict_proba(X)
        assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-5)
        # What it learned is the teacher's opinion, doubts included, and not the labels'.
        said = model.teacher_.predict_proba(X[early])
        alone = EMGClassifier("log-power-10k", **quick).fit(X[early], y[early])
        apart = [np.abs(m.predict_proba(X[early]) - said).mean() for m in (model, alone)]
        assert apart[0] < apart[1], apart


def test_an_estimator_is_cloned_searched_piped_and_pickled(
    windows: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    X, y, groups = windows
    model = EMGClassifier("log-power-10k", sampling_rate=RATE, num_epochs=3, random_state=1)
    assert clone(model).get_params() == model.get_params()
    piped = make_pipeline(FunctionTransformer(lambda x: 2 * x), model).fit(X, y)
    assert piped.predict(X).shape == y.shape
    search = GridSearchCV(model, {"learning_rate": [1e-3, 1e-2]}, cv=GroupKFold(3))
    search.fit(X, y, groups=groups)
    assert set(search.best_params_) == {"learning_rate"}
    fitted = model.fit(X, y)
    again = clone(model).fit(X, y)
    assert np.array_equal(fitted.predict_proba(X), again.predict_proba(X))
    copy = pickle.loads(pickle.dumps(fitted))
    assert np.array_equal(fitted.predict_proba(X), copy.predict_proba(X))


def test_the_last_group_is_held_out_only_with_patience(
    windows: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    X, y, groups = windows
    kinds: dict[str, Any] = {"name": "log-power-10k", "sampling_rate": RATE, "num_epochs": 4}
    plain = EMGClassifier(**kinds).fit(X, y)
    ignored = EMGClassifier(**kinds).fit(X, y, groups)
    assert np.array_equal(plain.predict_proba(X), ignored.predict_proba(X))
    # What is held out teaches nothing: other signals there change no weight but by the stop.
    patient: dict[str, Any] = {**kinds, "patience": 100, "num_epochs": 1}
    other = X.copy()
    other[groups == groups.max()] = other[groups == groups.max()][::-1] * 3
    one, two = (EMGClassifier(**patient).fit(x, y, groups).bundle_ for x in (X, other))
    assert one is not None
    assert two is not None
    assert one.fingerprint == two.fingerprint
    with pytest.raises(MyoDistillError, match="groups: expected the repetition of each"):
        EMGClassifier(**patient).fit(X, y)


def test_wrong_windows_and_parameters_are_told_in_one_line(
    windows: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    X, y, _ = windows
    model = EMGClassifier(sampling_rate=RATE).fit(X, y)
    for wrong in (X[:, :, 1:], X[:, 1:], X[0], np.full_like(X, np.nan)):
        with pytest.raises(ValueError) as caught:
            model.predict(wrong)
        assert isinstance(caught.value, MyoDistillError)
        assert "\n" not in str(caught.value)
    with pytest.raises(NotFittedError):
        EMGClassifier(sampling_rate=RATE).predict(X)
    with pytest.raises(ModelError, match="unknown model 'svm'"):
        EMGClassifier("svm", sampling_rate=RATE).fit(X, y)
    for wrong in ({"num_epochs": -1}, {"electrodes": "line"}, {"electrodes": ring(3)}):
        with pytest.raises(ValueError) as caught:
            EMGClassifier("log-power-10k", sampling_rate=RATE, **wrong).fit(X, y)
        assert isinstance(caught.value, MyoDistillError)
    with pytest.raises(MyoDistillError, match="at least 2 classes"):
        EMGClassifier(sampling_rate=RATE).fit(X, np.zeros(len(X), int))


def test_numpys_random_state_seeds_a_fit(
    windows: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    X, y, _ = windows
    kinds: dict[str, Any] = {"name": "log-power-10k", "sampling_rate": RATE, "num_epochs": 1}
    found = []
    for state in (np.random.RandomState(3), np.random.RandomState(3), 3):
        bundle = EMGClassifier(**kinds, random_state=state).fit(X, y).bundle_
        assert bundle is not None
        found.append(bundle.fingerprint)
    assert found[0] == found[1] != found[2]
