"""Shuffled batches from views against a DataLoader with 2 workers over ready-cut windows.

python benchmarks/batches.py

On 3DC (the store of Participants 1-4) and on a generated signal of 256 channels at 2048 Hz.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from common import copy_rate, machine
from torch.utils.data import DataLoader, TensorDataset

from myodistill.datasets.recording import Repetition
from myodistill.signals.disk_cache import DiskRows
from myodistill.signals.gather import gather
from myodistill.signals.preparation import Preparation
from myodistill.signals.prepared import prepare
from myodistill.signals.windows import Windows
from myodistill.training.batches import Batches
from myodistill.training.inputs import SignalInputs
from myodistill.training.sampler import BatchSampler


def rate(batches: object, enough: float = 3.0) -> float:
    """Bytes a second, from the first batch on."""
    count, begin = 0, 0.0
    for batch in batches:  # type: ignore[attr-defined]
        x = batch[0] if isinstance(batch, list | tuple) else batch.inputs
        if not begin:
            begin = time.perf_counter()
            continue
        count += x.numel() * x.element_size()
        if time.perf_counter() - begin > enough:
            break
    return count / (time.perf_counter() - begin)


def gathered(windows: Windows, size: int) -> object:
    signal, starts = torch.from_numpy(windows.signal), torch.from_numpy(windows.starts)
    order = torch.randperm(len(windows))
    out = torch.empty(size, windows.samples * signal.shape[1])
    for begin in range(0, len(windows) - size + 1, size):
        yield [gather(signal, starts[order[begin : begin + size]], windows.samples, out=out)]


def forever(make: object) -> object:
    while True:
        yield from make()  # type: ignore[operator]


def compare(name: str, windows: Windows, size: int) -> None:
    signal, starts = torch.from_numpy(windows.signal), torch.from_numpy(windows.starts)
    cuts = SignalInputs(signal, starts, windows.samples, None)
    own = Batches(cuts, torch.from_numpy(windows.labels), 11, BatchSampler(size))
    ours = rate(forever(lambda: own.epoch(0, 0)), 2.0)
    with tempfile.TemporaryDirectory() as folder:
        filed = DiskRows(Path(folder), [signal])
        apart = Batches(replace(cuts, signal=filed), own.labels, 11, BatchSampler(size))
        on_disk = rate(forever(lambda: apart.epoch(0, 0)), 2.0)
    views = rate(forever(lambda: gathered(windows, size)), 2.0)
    cut = TensorDataset(torch.from_numpy(np.ascontiguousarray(windows.gather())))
    loader = DataLoader(cut, batch_size=size, shuffle=True, num_workers=2)
    theirs = rate(loader, 4.0)
    plain = copy_rate()
    each = windows.samples * windows.signal.shape[1] * 4
    print(
        f"{name}, batches of {size}: signals.gather {views / each:,.0f} windows/s, training loop "
        f"{ours / each:,.0f}, from disk {on_disk / each:,.0f}, DataLoader {theirs / each:,.0f}; "
        f"ratios {views / theirs:.1f} and {ours / theirs:.1f}; of the copy rate "
        f"({plain / 2**30:.1f} GiB/s) {views / plain:.0%} and {ours / plain:.0%}"
    )


def main() -> None:
    torch.set_num_threads(1)
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        people = [f"Participant{i}" for i in range(1, 5)]
        store = prepare("3dc", Path(folder), Preparation((20.0, 495.0)), subjects=people)
        compare("3DC (10 × 151)", store.windows(151, 51), 128)
    signal = np.random.default_rng(0).standard_normal((60000, 256)).astype(np.float32)
    starts = np.arange(0, len(signal) - 512, 128)
    zeros = np.zeros(len(starts), dtype=np.intp)
    compare("256 × 512", Windows(signal, 512, starts, zeros, zeros, (Repetition("s", "a", 0),)), 64)


if __name__ == "__main__":
    main()
