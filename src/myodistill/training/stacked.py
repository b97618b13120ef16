"""Several students trained at once: their weights stacked, each step one batched computation.

This pays on an accelerator, which one small student leaves idle. On a CPU one process for each core
is faster (``benchmarks/students.py``).
"""

from __future__ import annotations

import copy
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import count

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from myodistill.config import Training
from myodistill.training.batches import Batch, Batches
from myodistill.training.loop import (
    DEFAULT_EXECUTION,
    NO_PATHS,
    ExecutionConfig,
    RunPaths,
    train,
)
from myodistill.training.sampler import mix_seed
from myodistill.training.tasks import Task

_log = logging.getLogger(__name__)
_Student = tuple[Task, Batches, int]
"""Task, batches and seed of one student."""


def train_stacked(
    tasks: Sequence[Task],
    batches: Sequence[Batches],
    settings: Training,
    *,
    seeds: Sequence[int],
    execution: ExecutionConfig = DEFAULT_EXECUTION,
    paths: RunPaths = NO_PATHS,
) -> None:
    """Train the networks of several tasks in place and leave them in evaluation mode.

    Each ends as :func:`~myodistill.training.loop.train` alone would have left it, within
    floating-point tolerance; only random numbers inside a network (dropout, jitter of gains) are
    drawn anew for the stack. Windows, labels, teachers, ``alpha`` and ``temperature`` may differ
    from student to student. There is no checkpoint and no early stopping.

    Students that cannot be stacked are trained one by one, and one warning says why: recurrent
    layers, whose kernels take one set of weights, and students whose architecture, loss, or shape
    or number of batches no other shares.

    Args:
        tasks: Networks and losses.
        batches: Training windows of each.
        settings: Epochs, learning rate and schedule, the same for all.
        seeds: Of order, augmentation and dropout of each.
        execution: As for ``train``.
        paths: Title of all, and the log; each stack, or student trained alone, logs to a folder of
            that name with a number behind it. The losses of a stack are means over its students.

    Raises:
        TrainingError: As ``train``; none of the tasks is then of use.
    """
    groups: dict[str, list[_Student]] = {}
    for student in zip(tasks, batches, seeds, strict=True):
        groups.setdefault(_group_key(*student), []).append(student)
    obstacles = [(students, _obstacle(students)) for students in groups.values()]
    reasons = Counter(reason for students, reason in obstacles if reason for _ in students)
    if reasons and len(tasks) > 1:
        text = "; ".join(f"{times} of {len(tasks)}: {reason}" for reason, times in reasons.items())
        _log.warning("students trained one by one, not stacked: %s", text)
    number = count(1)
    for students, reason in obstacles:
        if reason:
            for task, own_batches, seed in students:
                train(
                    task,
                    own_batches,
                    settings,
                    seed=seed,
                    execution=execution,
                    paths=_numbered(paths, next(number)),
                )
        else:
            stacked = StackedTask(students)
            train(
                stacked,
                StackedBatches(students),
                settings,
                seed=mix_seed(*(seed for _, _, seed in students)),
                execution=execution,
                paths=_numbered(paths, next(number)),
            )
            stacked.unstack()


def _numbered(paths: RunPaths, number: int) -> RunPaths:
    log = paths.log
    return RunPaths(log=log and log.with_name(f"{log.name}-{number}"), title=paths.title)


class StackedTask(Task):
    """Tasks of one architecture as one task that takes the stacked batches of all.

    Every loss has one value for each student; the gradient of their sum is, for each network, that
    of its own loss.

    Args:
        students: Their tasks differ only in the values of weights and buffers.
    """

    stacked = 1

    def __init__(self, students: Sequence[_Student]) -> None:
        nn.Module.__init__(self)  # there is no network of its own
        self._tasks = tasks = tuple(task for task, _, _ in students)
        self._single = (copy.deepcopy(tasks[0]).to("meta").train(),)  # in a tuple: no submodule
        for name, first in tasks[0].named_parameters():
            values = torch.stack([task.get_parameter(name).detach() for task in tasks])
            stack = nn.Parameter(values, requires_grad=first.requires_grad)
            self.register_parameter(_registered(name), stack)
        for name, _ in tasks[0].named_buffers():
            values = torch.stack([task.get_buffer(name) for task in tasks])
            self.register_buffer(_registered(name), values)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return every loss, shape ``(student,)``, and the logits ``(student, window, gesture)``.

        Args:
            batch: Every tensor with the student as its first axis.
        """

        def single(state: dict[str, Tensor], fields: dict[str, Tensor]) -> dict[str, Tensor]:
            result: dict[str, Tensor] = functional_call(self._single[0], state, (Batch(**fields),))
            return result

        result: dict[str, Tensor] = vmap(single, randomness="different")(
            self._state(), _fields(batch)
        )
        return result

    @torch.no_grad()
    def unstack(self) -> None:
        """Copy weights and batch-norm statistics back to every task, in evaluation mode."""
        state = self._state()
        for index, task in enumerate(self._tasks):
            weights = {name: state[name][index] for name in task.state_dict()}
            task.to(next(iter(weights.values())).device).load_state_dict(weights)
            task.eval()

    def _state(self) -> dict[str, Tensor]:
        state = dict(self.named_parameters()) | dict(self.named_buffers())
        return {_original(name): value for name, value in state.items()}


class StackedBatches:
    """The batches of several students, side by side.

    Args:
        students: Each has as many batches, of the same shape.
    """

    def __init__(self, students: Sequence[_Student]) -> None:
        self._students = [(batches, seed) for _, batches, seed in students]
        self.device = self._students[0][0].device

    def __len__(self) -> int:
        return len(self._students[0][0])

    def epoch(self, seed: int, epoch: int) -> Iterator[Batch]:
        """Yield batches whose tensors begin with the student's axis; each student has its seed."""
        epochs = (batches.epoch(own_seed, epoch) for batches, own_seed in self._students)
        for parallel in zip(*epochs, strict=True):
            fields = [_fields(batch) for batch in parallel]
            yield Batch(**{n: torch.stack([one[n] for one in fields]) for n in fields[0]})


def _registered(name: str) -> str:
    """Return ``name`` in a form that a module may register: without dots."""
    return name.replace(".", "/")


def _original(name: str) -> str:
    return name.replace("/", ".")


def _fields(batch: Batch) -> dict[str, Tensor]:
    return {name: value for name, value in vars(batch).items() if value is not None}


def _group_key(task: Task, batches: Batches, seed: int) -> str:
    """Return what students must share to be stacked, as text."""
    batch = next(batches.epoch(seed, 0))
    layers = [
        (name, type(layer).__qualname__, _facts(layer)) for name, layer in task.named_modules()
    ]
    shapes = [(name, tuple(p.shape), p.requires_grad) for name, p in task.named_parameters()]
    tensors = [(name, tuple(t.shape), t.dtype) for name, t in _fields(batch).items()]
    return repr((layers, shapes, tensors, len(batches), batches.device))


def _facts(layer: nn.Module) -> dict[str, object]:
    """Return what a layer was built with, without its weights, buffers and submodules."""
    return {n: fact for n, fact in vars(layer).items() if n != "training" and n[0] != "_"}


def _obstacle(students: Sequence[_Student]) -> str | None:
    """Return why students of one group cannot be stacked; None if they can."""
    task = students[0][0]
    if len(students) == 1:
        return "no other has the same architecture, loss and number and shape of batches"
    if any(isinstance(layer, nn.RNNBase) for layer in task.modules()):
        return "recurrent layers take one set of weights at a time"
    stacked = StackedBatches(students)
    try:
        StackedTask(students).to(stacked.device)(next(stacked.epoch(0, 0)))
    except RuntimeError as error:  # vmap has no rule for an operation
        return " ".join(str(error).split())[:120]
    return None
