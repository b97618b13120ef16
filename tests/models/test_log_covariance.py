"""The logarithm by rotations, and the student that reads it."""

from typing import Any

import numpy as np
import pytest
import torch

from myodistill.datasets.recording import Electrodes, SignalSpec, grid, ring
from myodistill.models.covariance import BandCovariances, pool_electrodes, regularised
from myodistill.models.log_covariance import jacobi_log
from myodistill.models.registry import build

NAMES = ("log-covariance-30k", "log-covariance-10k", "log-covariance-linear")


@pytest.mark.parametrize("channels", [1, 2, 3, 8, 10, 32])
def test_rotations_give_the_logarithm(channels: int) -> None:
    """Of matrices as they come: strong and silent channels, equal ones, and nothing at all."""
    random = torch.Generator().manual_seed(channels)
    gains = torch.randn(64, channels, 1, generator=random).exp()
    factors = gains * torch.randn(64, channels, 52, generator=random)
    factors[0] = 0
    factors[1] = factors[1, :1]
    matrices = factors @ factors.mT / 52
    matrices[2] = torch.eye(channels)
    values, vectors = torch.linalg.eigh(regularised(matrices).double())
    expected = ((vectors * values.log()[:, None]) @ vectors.mT).float()
    torch.testing.assert_close(jacobi_log(matrices), expected, rtol=1e-4, atol=2e-3)


@pytest.mark.parametrize(
    ("electrodes", "left"),
    [
        (ring(16), 16),
        (ring(17), 9),
        (ring(32), 16),
        (grid(8, 8), 16),
        (grid(16, 4), 16),
        (Electrodes("ring", 2, 16), 16),
        (grid(2, 20, order=tuple(range(40))[::-1]), 10),
        (grid(16, 16), 16),
    ],
)
@pytest.mark.parametrize("name", NAMES)
def test_reads_at_most_16_averages_of_neighbours(
    name: str, electrodes: Electrodes, left: int
) -> None:
    spec = SignalSpec(electrodes, 100, 1000.0, ("a", "b", "c"))
    front: Any = build(name, spec, seed=0).front
    assert front.channels == left
    assert front.features == front.bands * left * (left + 1) // 2
    windows = torch.randn(3, spec.channels, 100, generator=torch.Generator().manual_seed(0))
    pooling = torch.tensor(pool_electrodes(electrodes, 16), dtype=torch.float32)
    whole = BandCovariances(spec, most_channels=spec.channels).covariances(windows)
    torch.testing.assert_close(front.covariances(windows), pooling @ whole @ pooling.mT)


@pytest.mark.parametrize(
    "electrodes", [ring(33), grid(5, 7), grid(16, 16), Electrodes("ring", 3, 9)]
)
def test_pooling_takes_every_electrode_once(electrodes: Electrodes) -> None:
    weights = pool_electrodes(electrodes, 16)
    assert len(weights) <= 16
    assert np.array_equal((weights > 0).sum(axis=0), np.ones(electrodes.channels))
    assert np.allclose(weights.sum(axis=1), 1)
    # Pooling to what pooling left changes nothing: a subject's centre is kept by that number.
    assert np.array_equal(pool_electrodes(electrodes, len(weights)), weights)
