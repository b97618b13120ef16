"""Every classical method learns one person's gestures, and does what its package does."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from pyriemann.classification import MDM
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from myodistill.datasets.dataset import Facts
from myodistill.datasets.recording import Recording, grid
from myodistill.datasets.synthetic import Synthetic
from myodistill.errors import DataError, ToolError
from myodistill.models.classical import (
    CLASSICAL,
    DEFAULT_BASELINES,
    FEATURES,
    NearestMean,
    as_cut,
    fit,
)
from myodistill.signals.windows import Windows

Made = tuple[Windows, np.ndarray]


@pytest.fixture(scope="module")
def person() -> tuple[list[Recording], Facts]:
    people = Synthetic(subjects=1, seconds=0.8, repetitions=3, gestures=("rest", "power grip", "open hand", "wrist flexion"))  # fmt: skip # noqa: E501
    return people.recordings("Person1"), people.facts


@pytest.fixture(scope="module")
def made(person: tuple[list[Recording], Facts]) -> dict[str, Made]:
    return {name: features(*person, as_cut) for name, features in FEATURES.items()}


def parts(made: Made) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    windows, features = made
    train = np.array(
        [windows.repetitions[owner].session == "train" for owner in windows.repetition_index]
    )
    return features[train], windows.labels[train], features[~train], windows.labels[~train]


@pytest.mark.parametrize("name", CLASSICAL)
def test_each_learns_a_person(made: dict[str, Made], name: str) -> None:
    method = CLASSICAL[name]
    train, labels, test, truth = parts(made[method.features])
    found = fit(method, train, labels, classes=5)(test)
    assert found.shape == (len(test), 5)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert (found[:, 4] == 0).all(), "a gesture that was never calibrated is never decided"
    assert (found.argmax(axis=1) == truth).mean() > 0.6


def test_the_default_baselines_are_among_them() -> None:
    assert set(DEFAULT_BASELINES) <= set(CLASSICAL)


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("lda-time-domain", LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")),
        ("svm-td-psd", SVC(C=10.0, break_ties=True)),
        ("forest-log-covariance", RandomForestClassifier(300, random_state=3)),
    ],
)
def test_they_decide_as_scikit_learn_does(made: dict[str, Made], name: str, theirs: Any) -> None:
    method = CLASSICAL[name]
    train, labels, test, _ = parts(made[method.features])
    ours = fit(method, train, labels, classes=4, seed=3)(test)
    assert np.array_equal(ours, fit(method, train, labels, classes=4, seed=3)(test))
    scaler = StandardScaler().fit(train)
    if name.startswith("forest"):
        fitted, seen = theirs.fit(train, labels), test
    else:
        fitted, seen = theirs.fit(scaler.transform(train), labels), scaler.transform(test)
    assert np.array_equal(ours.argmax(axis=1), fitted.predict(seen))
    if hasattr(fitted, "predict_proba"):
        np.testing.assert_allclose(ours, fitted.predict_proba(seen), atol=1e-12)


def test_distances_over_bands_are_those_of_block_diagonal_matrices(made: dict[str, Made]) -> None:
    train, labels, test, _ = parts(made["covariance"])
    test = test[:40]

    def blocks(matrices: np.ndarray) -> np.ndarray:
        count, bands, n, _ = matrices.shape
        whole = np.zeros((count, bands * n, bands * n))
        for band in range(bands):
            place = slice(band * n, (band + 1) * n)
            whole[:, place, place] = matrices[:, band]
        return whole

    theirs = MDM(metric="riemann").fit(blocks(train), labels)
    ours = NearestMean().fit(train, labels)
    np.testing.assert_allclose(
        ours.decision_function(test), -(theirs.transform(blocks(test)) ** 2), rtol=1e-5
    )
    assert np.array_equal(ours.predict(test), theirs.predict(blocks(test)))
    assert np.array_equal(ours.predict_proba(test).argmax(axis=1), ours.predict(test))


def test_many_electrodes_are_averaged_before_covariances() -> None:
    people = Synthetic(
        subjects=1,
        seconds=0.5,
        repetitions=1,
        electrodes=grid(8, 8),
        gestures=("rest", "power grip"),
    )
    _, features = FEATURES["log-covariance"](people.recordings("Person1"), people.facts, as_cut)
    assert features.shape[1] == 4 * 32 * 33 // 2


def test_without_pyriemann_the_line_says_what_to_install(
    made: dict[str, Made], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyriemann.classification", None)
    train, labels, test, _ = parts(made["covariance"])
    with pytest.raises(ToolError, match=r"pip install 'myodistill\[baselines\]'"):
        fit(CLASSICAL["mdm-covariance"], train, labels, classes=4)(test)


def test_two_gestures_are_enough_and_one_is_not(made: dict[str, Made]) -> None:
    train, labels, test, truth = parts(made["time-domain"])
    two = labels < 2
    for name in ("svm-time-domain", "lda-time-domain", "forest-time-domain"):
        found = fit(CLASSICAL[name], train[two], labels[two], classes=4)(test)
        np.testing.assert_allclose(found.sum(axis=1), 1)
        among = truth < 2
        assert (found.argmax(axis=1) == truth)[among].mean() > 0.6
    with pytest.raises(DataError, match="at least 2 gestures, got 1"):
        fit(CLASSICAL["lda-time-domain"], train[labels == 0], labels[labels == 0], classes=4)(test)  # fmt: skip # noqa: E501
    with pytest.raises(DataError, match="finite features"):
        fit(CLASSICAL["lda-time-domain"], train * np.nan, labels, classes=4)(test)
