"""Windows that a network can learn to tell apart, and whether it does."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from myodistill.datasets.recording import SignalSpec

STEPS = 300


def generated(spec: SignalSpec, count: int = 64) -> tuple[Tensor, Tensor]:
    """Noise whose gains over the channels tell the gesture."""
    random = torch.Generator().manual_seed(0)
    gains = torch.randn(spec.classes, spec.channels, 1, generator=random).exp()
    labels = torch.arange(count) % spec.classes
    noise = torch.randn(count, spec.channels, spec.samples, generator=random)
    return gains[labels] * noise, labels


@torch.no_grad()
def logits_of(model: nn.Module, windows: Tensor) -> Tensor:
    logits: Tensor = model.eval()(windows)
    return logits


def learns(model: nn.Module, windows: Tensor, labels: Tensor, *, every: int) -> bool:
    """Whether 300 steps of Adam bring it to decide every window right, looked at now and then."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for step in range(STEPS):
        if step % every == 0 and (logits_of(model, windows).argmax(1) == labels).all():
            return True
        model.train()
        optimizer.zero_grad()
        functional.cross_entropy(model(windows), labels).backward()
        optimizer.step()
    return False
