"""A training step of log-power-30k with each of the two ways to form a band's powers.

    python benchmarks/log_power.py

On covariances of the 3DC geometry: forward, cross-entropy, backward, Adam.
"""

from __future__ import annotations

import argparse
from unittest import mock

import torch
from common import machine, seconds
from torch.nn import functional

from myodistill.models.logpower import LogPower, LogPowers
from myodistill.models.registry import build
from myodistill.models.verification import GEOMETRIES


def step(batch: int) -> float:
    """Seconds of one step."""
    network = build("log-power-30k", GEOMETRIES["3dc"], seed=0)
    assert isinstance(network, LogPower)
    head = network.head.train()
    optimizer = torch.optim.Adam(head.parameters())
    bands, channels = network.front.bands, network.front.channels
    factors = torch.randn(batch, bands, channels, 2 * channels)
    covariances = factors @ factors.mT / (2 * channels)
    labels = torch.arange(batch) % network.spec.classes

    def work() -> None:
        optimizer.zero_grad()
        functional.cross_entropy(head(covariances), labels).backward()
        optimizer.step()

    work()
    return seconds(work, least=2, most=1000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=256)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(machine())
    bulk = step(options.batch)
    with mock.patch.object(LogPowers, "_in_bulk", LogPowers._one_by_one):
        single = step(options.batch)
    print(f"one product a band      {1e3 * bulk:6.2f} ms")
    print(f"two products a window   {1e3 * single:6.2f} ms  {single / bulk:.1f}x")


if __name__ == "__main__":
    main()
