"""Features agree with their definitions, with hand-worked values and with other people's code."""

from __future__ import annotations

import numpy as np
import pytest
from pyriemann.geometry.base import invsqrtm, logm
from pyriemann.geometry.distance import distance_logeuclid
from pyriemann.geometry.mean import mean_logeuclid
from pyriemann.geometry.tangentspace import log_map_euclid
from pyriemann.transfer import TLCenter

from myodistill.datasets.recording import Repetition
from myodistill.signals import preprocessing
from myodistill.signals.features import (
    covariances,
    hudgins,
    log_covariance,
    power_descriptors,
)
from myodistill.signals.windows import Windows


def batch(count: int = 150, channels: int = 5, samples: int = 61) -> np.ndarray:
    rng = np.random.default_rng(0)
    mix = rng.standard_normal((channels, channels))
    return (mix @ rng.standard_normal((count, channels, samples))).astype("f4")


def test_hudgins_by_hand() -> None:
    window = np.array([[[1.0, -1.0, 2.0, 2.0, 3.0, 0.0, -1.0]]], dtype="f4")
    mav, crossings, turns, length = hudgins(window)[0]
    assert mav == pytest.approx(10 / 7)
    # 1 to -1 and -1 to 2; from 3 through exactly 0 to -1 is none, as sign 0 lies between.
    assert crossings == 2
    # The sample -1, both ends of the plateau at 2, and the peak at 3.
    assert turns == 4
    assert length == 2 + 3 + 0 + 1 + 3 + 1


def test_hudgins_equals_its_definition() -> None:
    """The definition as LibEMG 2.0.3 states it, one window and channel at a time."""
    x = np.round(batch() * 2)
    found = hudgins(x).reshape(len(x), 4, -1)
    for w in (0, 63, 64, 149):
        for c in range(5):
            v = x[w, c].astype(float)
            sign = np.sign(v)
            assert found[w, 0, c] == pytest.approx(np.abs(v).mean(), rel=1e-6)
            assert found[w, 1, c] == np.sum(np.abs(np.diff(sign)) == 2)
            assert found[w, 2, c] == np.sum((v[1:-1] - v[:-2]) * (v[1:-1] - v[2:]) >= 0)
            assert found[w, 3, c] == pytest.approx(np.abs(np.diff(v)).sum(), rel=1e-6)


def test_layout_in_memory_changes_nothing() -> None:
    x = batch()
    turned = np.ascontiguousarray(x.transpose(0, 2, 1)).transpose(0, 2, 1)
    assert np.array_equal(hudgins(x), hudgins(turned))
    assert np.allclose(log_covariance(x), log_covariance(turned))


def test_power_descriptors_ignore_what_they_claim_to() -> None:
    x = batch()
    found = power_descriptors(x)
    assert found.shape == (150, 30)
    assert np.isfinite(found).all()
    assert np.abs(found).max() <= 1 + 1e-12
    # The ratio of waveform lengths of the plain signal is free of its size: so is the fused one,
    # as the logarithm only shifts.
    assert np.allclose(found[:, 25:], power_descriptors(3 * x)[:, 25:], atol=1e-6)


def test_log_covariance_is_pyriemanns_log_euclidean_geometry() -> None:
    x = batch(6)
    matrices = covariances(x)
    mine = log_covariance(x, shrinkage=0.0)
    assert np.allclose(np.linalg.norm(mine[0] - mine[1]), distance_logeuclid(*matrices[:2]))
    rows, columns = np.triu_indices(5)
    weight = np.where(rows == columns, 1, np.sqrt(2))
    logs = np.array([logm(matrix) for matrix in matrices])
    theirs = log_map_euclid(logs, np.zeros((5, 5)))[:, rows, columns] * weight
    assert np.allclose(mine, theirs)


def test_recentring_is_pyriemanns_with_the_log_euclidean_mean() -> None:
    rng = np.random.default_rng(1)
    signal = (rng.standard_normal((3000, 4)) @ rng.standard_normal((4, 4))).astype("f4")
    starts = np.arange(0, 2900, 50)
    zeros = np.zeros(len(starts), dtype=np.intp)
    windows = Windows(signal, 100, starts, zeros, zeros, (Repetition("s", "a", 0),))
    matrices = covariances(windows.gather())
    power = np.trace(matrices, axis1=1, axis2=2)[:, None, None] / 4
    ridged = matrices + 1e-3 * power * np.eye(4)
    matrix = preprocessing.recentring(windows)
    assert np.allclose(matrix, invsqrtm(mean_logeuclid(ridged)), rtol=1e-4)
    labels = np.array(["s/0"] * len(matrices))
    centred = TLCenter("s", metric="logeuclid").fit_transform(ridged, labels)
    assert np.allclose(matrix @ ridged @ matrix.T, centred, atol=1e-4)
