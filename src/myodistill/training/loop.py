"""The one training loop. It knows batches, a task that returns its loss, and how to resume."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from myodistill.config import Training
from myodistill.signals.windows import Windows
from myodistill.training.checkpoint import Checkpoint
from myodistill.training.progress import Progress
from myodistill.training.tasks import Batch, Task

Augment = Callable[[Tensor, torch.Generator], Tensor]
Validate = Callable[[nn.Module], float]


class Batches:
    """Windows on a device, drawn in an order that depends on seed and epoch alone.

    Args:
        windows: What to draw from.
        size: Windows a batch.
        device: Where the signal is kept; windows are cut there.
        augment: Changes a batch of windows, with its own generator; see ``signals.augmentation``.
    """

    def __init__(
        self,
        windows: Windows,
        size: int,
        *,
        device: torch.device | str = "cpu",
        augment: Augment | None = None,
    ) -> None:
        self.positions = torch.from_numpy(windows.signal).to(device).unfold(0, windows.samples, 1)
        self.starts = torch.from_numpy(windows.starts).to(device)
        self.labels = torch.from_numpy(windows.labels).to(device)
        self.size = min(size, len(windows))
        self.augment = augment
        self.device = torch.device(device)

    def __len__(self) -> int:
        return max(1, len(self.starts) // self.size)

    def epoch(self, seed: int, epoch: int) -> Iterator[Batch]:
        """Yield shuffled batches; the windows left over by whole batches wait for another epoch."""
        order_of = torch.Generator().manual_seed(_mix(seed, epoch, 0))
        noise_of = torch.Generator(self.device).manual_seed(_mix(seed, epoch, 1))
        order = torch.randperm(len(self.starts), generator=order_of).to(self.device)
        for number in range(len(self)):
            indices = order[number * self.size : (number + 1) * self.size]
            windows = self.positions[self.starts[indices]]
            if self.augment is not None:
                windows = self.augment(windows, noise_of)
            yield Batch(windows, self.labels[indices], indices)


@dataclass(frozen=True)
class Where:
    """What a training run leaves behind, all of it optional.

    Attributes:
        checkpoint: File to resume from and to write after every epoch, at most once a second.
        log: Folder for TensorBoard.
        title: Name in progress lines.
    """

    checkpoint: Path | None = None
    log: Path | None = None
    title: str = ""


def train(
    task: Task,
    batches: Batches,
    settings: Training,
    *,
    seed: int = 0,
    validate: Validate | None = None,
    precision: str = "float32",
    where: Where = Where(),
) -> None:
    """Train a task's network in place and leave it in evaluation mode.

    Killed at any moment and started again with the same arguments it ends with the same weights:
    the order, the augmentation and the dropout of an epoch depend on seed and epoch alone.

    Args:
        task: Network and loss.
        batches: Training windows.
        settings: Epochs, learning rate, schedule, early stop.
        seed: Of order, augmentation and dropout.
        validate: Score of the network on held-out repetitions; with ``settings.patience`` the
            weights with the best score are kept.
        precision: ``"float32"`` or ``"bfloat16"`` (autocast).
        where: Checkpoint, log and title.
    """
    device = batches.device
    task.to(device)
    optimizer = torch.optim.AdamW(
        _decay_groups(task, settings.weight_decay), lr=settings.learning_rate
    )
    state = Checkpoint(task, optimizer, where.checkpoint)
    total = settings.num_epochs * len(batches)
    early = settings.patience if validate is not None else 0
    best = copy.deepcopy(task.state_dict())

    first = state.resume(best)
    with Progress(where.title, settings.num_epochs, start=first, log=where.log) as progress:
        for epoch in range(first, settings.num_epochs):
            if early and epoch - state.best_epoch > early:
                break
            torch.manual_seed(_mix(seed, epoch, 2))
            task.train()
            loss_sum = torch.zeros((), device=device)
            for step, batch in enumerate(batches.epoch(seed, epoch), epoch * len(batches)):
                for group in optimizer.param_groups:
                    group["lr"] = settings.learning_rate * rate(settings.schedule, step, total)
                with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
                    loss = task(batch)["loss"]
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                loss_sum += loss.detach()
            scores = {"loss": float(loss_sum) / len(batches)}
            task.eval()
            if validate is not None:
                scores["validation"] = validate(task.network)
                if state.note(scores["validation"], epoch):
                    best = copy.deepcopy(task.state_dict())
            progress.advance(scores)
            state.save(epoch + 1, best)
    if early:
        task.load_state_dict(best)
    task.eval()


def rate(schedule: str, step: int, total: int) -> float:
    """Share of the peak learning rate at a step.

    ``one-cycle`` rises for the first 30 % (Smith and Topin, Super-convergence, 2018); ``cosine``
    falls from the start (Loshchilov and Hutter, SGDR, 2017, eq. 5); both end at zero.
    """
    if schedule == "constant":
        return 1.0
    rise = 0.3 * total if schedule == "one-cycle" else 0.0
    if step < rise:
        return 0.5 - 0.46 * math.cos(math.pi * step / rise)
    return 0.5 + 0.5 * math.cos(math.pi * (step - rise) / max(total - rise, 1))


def _decay_groups(task: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Decay matrices and kernels, not biases and scales."""
    trained = [p for p in task.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]


def _mix(*numbers: int) -> int:
    """Seed from several numbers, far apart for close ones."""
    mixed = 0x9E3779B97F4A7C15
    for number in numbers:
        mixed = (mixed ^ (number + 1)) * 0xBF58476D1CE4E5B9 % 2**64
        mixed ^= mixed >> 31
    return mixed % 2**63
