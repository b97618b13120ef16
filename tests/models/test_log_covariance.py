"""The logarithm by rotations, and the student that reads it."""

import pytest
import torch

from myodistill.models.covariance import regularised
from myodistill.models.log_covariance import jacobi_log


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
