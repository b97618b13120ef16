"""The closed-form teachers decide as the Gaussian densities do that they are made of."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from myodistill.models.closed_form import LinearHead, QuadraticHead

CLASSES, FEATURES, K = 3, 5, 2


def windows(count: int, seed: int, spread: float = 1.0) -> tuple[Tensor, Tensor]:
    """Windows of three gestures, each of which varies in its own directions."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(CLASSES, FEATURES, FEATURES, generator=generator)
    labels = torch.arange(count) % CLASSES
    noise = torch.randn(count, FEATURES, generator=generator)
    own = torch.einsum("wf,wfg->wg", noise, mixing[labels])
    return torch.eye(CLASSES, FEATURES)[labels] * 3 + spread * own, labels


def taught(head: LinearHead, k: int = K) -> tuple[LinearHead, Tensor, Tensor]:
    """A head that has learned from four people and met a fifth, and the fifth's windows."""
    features, labels = windows(600, seed=1)
    head.learn(features, labels, torch.arange(600) % 4)
    features, labels = windows(60, seed=2)
    if k:
        head.calibrate(features, labels, k)
    return head, features, labels


def parts(head: LinearHead, features: Tensor, labels: Tensor) -> tuple[Tensor, list[Tensor]]:
    """A person's means mixed with the population's, and the scatter of each of their gestures."""
    own = torch.stack([features[labels == g].mean(0) for g in range(CLASSES)])
    spreads = [(d := features[labels == g] - own[g]).mT @ d / len(d) for g in range(CLASSES)]
    return (K * own + head.means) / (K + 1), spreads


def shrunk(scatter: Tensor, by: float) -> Tensor:
    return (1 - by) * scatter + by * torch.diag(scatter.diagonal())


def expected(means: Tensor, scatters: list[Tensor], features: Tensor) -> Tensor:
    """Probabilities of gestures under Gaussians, tempered as the heads are."""
    densities = [
        MultivariateNormal(m.double(), s.double()).log_prob(features.double())
        for m, s in zip(means, scatters, strict=True)
    ]
    return (torch.stack(densities, dim=1) / 4).softmax(dim=1).float()


def test_the_linear_head_decides_by_one_scatter() -> None:
    head, features, labels = taught(LinearHead(FEATURES, CLASSES))
    means, spreads = parts(head, features, labels)
    scatter = shrunk((torch.stack(spreads).mean(0) + head.scatter) / 2, 0.3)
    wanted = expected(means, [scatter] * CLASSES, features)
    torch.testing.assert_close(head(features).softmax(1), wanted, rtol=1e-4, atol=1e-5)


def test_the_quadratic_head_adds_the_scatter_of_each_gesture() -> None:
    head, features, labels = taught(QuadraticHead(FEATURES, CLASSES))
    means, spreads = parts(head, features, labels)
    shared = shrunk((K * torch.stack(spreads).mean(0) + head.scatter) / (K + 1), 0.1)
    scatters = [shared + K / (K + 80) * spread for spread in spreads]
    wanted = expected(means, scatters, features)
    torch.testing.assert_close(head(features).softmax(1), wanted, rtol=1e-4, atol=1e-5)


def test_no_more_directions_are_kept_than_windows_or_eight_span() -> None:
    head = QuadraticHead(20, 2)
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(400, 20, generator=generator)
    labels = torch.arange(400) % 2
    head.learn(features, labels, torch.zeros(400, dtype=torch.long))
    few = torch.cat([torch.arange(0, 6, 2), torch.arange(1, 200, 2)])
    head.calibrate(features[few], labels[few], 1)
    assert (head.gains > 1e-4).sum(dim=1).tolist() == [2, 8]  # three windows vary in two directions


@pytest.mark.parametrize("kind", [LinearHead, QuadraticHead])
def test_without_calibration_both_decide_by_the_population(kind: type[LinearHead]) -> None:
    head, features, _ = taught(kind(FEATURES, CLASSES), k=0)
    wanted = expected(head.means, [shrunk(head.scatter, 0.3)] * CLASSES, features)
    torch.testing.assert_close(head(features).softmax(1), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [LinearHead, QuadraticHead])
def test_a_gesture_that_was_not_calibrated_stays_the_populations(
    kind: type[LinearHead],
) -> None:
    head, features, labels = taught(kind(FEATURES, CLASSES), k=0)
    shown = labels > 0
    head.calibrate(features[shown], labels[shown], K)
    predictions = head(head.means).argmax(dim=1)
    assert predictions[0] == 0
    assert torch.isfinite(head(features)).all()
