"""The one training loop: it minimises the loss of a task, logs, and resumes."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from myodistill.config import Training
from myodistill.errors import TrainingError
from myodistill.training.batches import Batch
from myodistill.training.checkpoint import TrainingState
from myodistill.training.logging import Progress
from myodistill.training.memory import refused_without_memory
from myodistill.training.sampler import mix_seed
from myodistill.training.tasks import Task

Validate = Callable[[nn.Module], float]


class Epochs(Protocol):
    """The batches of every epoch."""

    device: torch.device

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        ...

    def epoch(self, seed: int, epoch: int) -> Iterator[Batch]:
        """Yield the batches of an epoch."""
        ...


@dataclass(frozen=True)
class RunPaths:
    """Where a training run leaves its files, each of them optional.

    Attributes:
        checkpoint: File to resume from; written after every epoch, at most once a second.
        log: Folder for TensorBoard.
        title: Name of the run in progress lines and errors.
    """

    checkpoint: Path | None = None
    log: Path | None = None
    title: str = ""


NO_PATHS = RunPaths()


@dataclass(frozen=True)
class ExecutionConfig:
    """How a network is run while it trains; the results differ by rounding only.

    Attributes:
        precision: ``"float32"`` or ``"bfloat16"`` (autocast).
        compiled: ``"no"``, or a mode of ``torch.compile``; ``"reduce-overhead"`` uses CUDA graphs.
    """

    precision: str = "float32"
    compiled: str = "no"


DEFAULT_EXECUTION = ExecutionConfig()


def train(
    task: Task,
    batches: Epochs,
    settings: Training,
    *,
    seed: int = 0,
    validate: Validate | None = None,
    execution: ExecutionConfig = DEFAULT_EXECUTION,
    paths: RunPaths = NO_PATHS,
) -> None:
    """Train a task's network in place and leave it in evaluation mode.

    A run that is killed and started again with the same arguments ends with the same weights:
    order, augmentation and dropout of an epoch depend on seed and epoch alone.

    Args:
        task: Network and losses; every scalar that it returns with ``loss`` is averaged over the
            epoch and logged.
        batches: Training windows.
        settings: Epochs, learning rate, schedule, early stopping.
        seed: Of order, augmentation and dropout.
        validate: Score of the network on held-out repetitions; with ``settings.patience`` the
            weights with the best score are kept.
        execution: How the network is run.
        paths: Checkpoint, log and title.

    Raises:
        TrainingError: The loss or the weights are no longer finite, then no checkpoint stays
            behind; or a batch does not fit into memory, then the message names the one that does.
    """
    device = batches.device
    task.to(device)
    if execution.compiled != "no":
        task.compile(mode=execution.compiled)
    optimizer = torch.optim.AdamW(
        _decay_groups(task, settings.weight_decay), lr=settings.learning_rate
    )
    state = TrainingState(task, optimizer, paths.checkpoint)
    total = settings.num_epochs * len(batches)
    half = execution.precision == "bfloat16"
    early = settings.patience if validate is not None else 0
    best = copy.deepcopy(task.state_dict())

    def descend(batch: Batch) -> dict[str, Tensor]:
        """Take one step."""
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            losses = {n: v for n, v in task(batch).items() if n != "output"}
        optimizer.zero_grad(set_to_none=True)
        losses["loss"].sum().backward()
        optimizer.step()
        return losses

    first = state.resume(best)
    with Progress(paths.title, settings.num_epochs, start=first, log=paths.log) as progress:
        for epoch in range(first, settings.num_epochs):
            if early and epoch - state.best_epoch > early:
                break
            torch.manual_seed(mix_seed(seed, epoch, 2))
            task.train()
            sums: dict[str, Tensor] = {}
            for step, batch in enumerate(batches.epoch(seed, epoch), epoch * len(batches)):
                for group in optimizer.param_groups:
                    group["lr"] = settings.learning_rate * rate(settings.schedule, step, total)
                with refused_without_memory(descend, batch, task.stacked, paths.title):
                    losses = descend(batch)
                for name, value in losses.items():
                    sums[name] = sums.get(name, 0) + value.detach().mean()
            scores = {name: float(value) / len(batches) for name, value in sums.items()}
            if not (math.isfinite(scores["loss"]) and is_finite(task)):
                state.remove()
                raise TrainingError(
                    f"{paths.title or 'training'}: expected a finite loss and finite weights, got "
                    f"a loss of {scores['loss']:.4g} in epoch {epoch + 1} of "
                    f"{settings.num_epochs} (learning rate {settings.learning_rate:g}); lower the "
                    f"learning rate; what was stored before is untouched"
                )
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


def is_finite(network: nn.Module) -> bool:
    """Return whether every weight and every statistic of a network is finite."""
    sums = [value.detach().double().sum() for value in network.state_dict().values()]
    return not sums or bool(torch.isfinite(torch.stack(sums)).all())


def require_finite(network: nn.Module, title: str, *, advice: str) -> None:
    """Refuse a network with a weight or a statistic that is not finite.

    Raises:
        TrainingError: There is one.
    """
    if not is_finite(network):
        raise TrainingError(f"{title}: expected finite weights, some are not; {advice}")


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


def _decay_groups(task: Task, weight_decay: float) -> list[dict[str, object]]:
    """Apply weight decay to matrices and kernels, not to biases and scales."""
    trained = [p for p in task.parameters() if p.requires_grad]
    axes = 1 + task.stacked
    return [
        {"params": [p for p in trained if p.ndim > axes], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= axes], "weight_decay": 0.0},
    ]
