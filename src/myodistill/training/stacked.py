"""Several students trained as one: their weights stacked, their steps one batched computation.

Worth it on an accelerator, which one small student leaves idle. On a CPU a process for each core
does more (``benchmarks/students.py``).
"""

from __future__ import annotations

import copy
import logging
from collections import Counter
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from myodistill.config import Training
from myodistill.training.batches import Batch, Batches, mix_seed
from myodistill.training.loop import DEFAULT_EXECUTION, ExecutionConfig, RunPaths, train
from myodistill.training.tasks import Task

_log = logging.getLogger(__name__)
_Student = tuple[Task, Batches, int]
"""Its task, its batches and its seed."""


def train_stacked(
    tasks: Sequence[Task],
    batches: Sequence[Batches],
    settings: Training,
    *,
    seeds: Sequence[int],
    speed: ExecutionConfig = DEFAULT_EXECUTION,
    title: str = "",
) -> None:
    """Train the networks of several tasks in place and leave them in evaluation mode.

    Each ends as :func:`~myodistill.training.loop.train` alone would have left it, within the
    tolerance of floating-point numbers; only what is drawn inside a network (dropout, jitter of
    gains) is drawn anew for the stack. Windows, labels, teachers, ``alpha`` and ``temperature`` may
    differ from student to student. There is no checkpoint and no early stop.

    Students that cannot be stacked are trained one by one, and one warning says why: recurrent
    layers, whose kernels take one set of weights, and students whose architecture, loss, or shape
    or number of batches no other shares.

    Args:
        tasks: Networks and losses.
        batches: Training windows of each.
        settings: Epochs, learning rate and schedule, the same for all.
        seeds: Of order, augmentation and dropout of each.
        speed: As for ``train``.
        title: What is trained, for messages.

    Raises:
        TrainingError: As ``train``; none of the tasks is then of use.
    """
    where = RunPaths(title=title)
    alike: dict[str, list[_Student]] = {}
    for student in zip(tasks, batches, seeds, strict=True):
        alike.setdefault(_likeness(*student), []).append(student)
    obstacles = [(students, _obstacle(students)) for students in alike.values()]
    odd = Counter(why for students, why in obstacles if why for _ in students)
    if odd and len(tasks) > 1:
        told = "; ".join(f"{count} of {len(tasks)}: {why}" for why, count in odd.items())
        _log.warning("students trained one by one, not stacked: %s", told)
    for students, why in obstacles:
        if why:
            for task, own, seed in students:
                train(task, own, settings, seed=seed, speed=speed, where=where)
        else:
            together = StackedTask(students)
            seed = mix_seed(*(seed for _, _, seed in students))
            train(together, StackedBatches(students), settings, seed=seed, speed=speed, where=where)
            together.hand_back()


class StackedTask(Task):
    """Tasks of one architecture as one task, whose batches are those of all, stacked.

    Its loss is the sum of theirs, so that each network meets its own gradient.

    Args:
        students: Their tasks are alike but for the values of weights and buffers.
    """

    stacked = 1

    def __init__(self, students: Sequence[_Student]) -> None:
        nn.Module.__init__(self)  # it has no network of its own
        self._tasks = tasks = tuple(task for task, _, _ in students)
        self._alone = (copy.deepcopy(tasks[0]).to("meta").train(),)  # in a tuple: no submodule
        for name, first in tasks[0].named_parameters():
            values = torch.stack([task.get_parameter(name).detach() for task in tasks])
            stack = nn.Parameter(values, requires_grad=first.requires_grad)
            self.register_parameter(_registered(name), stack)
        for name, _ in tasks[0].named_buffers():
            values = torch.stack([task.get_buffer(name) for task in tasks])
            self.register_buffer(_registered(name), values)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the sum of the losses, and the logits ``(student, window, gesture)``.

        Args:
            batch: Every tensor with the student as its first axis.
        """

        def one(state: dict[str, Tensor], fields: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
            result = functional_call(self._alone[0], state, (Batch(**fields),))
            return result["loss"], result["output"]

        losses, output = vmap(one, randomness="different")(self._state(), _fields(batch))
        return {"loss": losses.sum(), "output": output}

    @torch.no_grad()
    def hand_back(self) -> None:
        """Give every task its weights and its batch-norm statistics, in evaluation mode."""
        state = self._state()
        for place, task in enumerate(self._tasks):
            own = {name: state[name][place] for name in task.state_dict()}
            task.to(next(iter(own.values())).device).load_state_dict(own)
            task.eval()

    def _state(self) -> dict[str, Tensor]:
        held = dict(self.named_parameters()) | dict(self.named_buffers())
        return {_original(name): value for name, value in held.items()}


class StackedBatches:
    """The batches of several students, side by side.

    Args:
        students: Each has as many batches, of the same shape.
    """

    def __init__(self, students: Sequence[_Student]) -> None:
        self._orders = [(batches, seed) for _, batches, seed in students]
        self.device = self._orders[0][0].device

    def __len__(self) -> int:
        return len(self._orders[0][0])

    def epoch(self, seed: int, epoch: int) -> Iterator[Batch]:
        """Yield batches whose tensors begin with the student's axis; each student has its seed."""
        orders = (batches.epoch(own, epoch) for batches, own in self._orders)
        for abreast in zip(*orders, strict=True):
            fields = [_fields(batch) for batch in abreast]
            yield Batch(**{n: torch.stack([one[n] for one in fields]) for n in fields[0]})


def _registered(name: str) -> str:
    """The name under which a module may hold what a submodule of another calls ``name``."""
    return name.replace(".", "/")


def _original(name: str) -> str:
    return name.replace("/", ".")


def _fields(batch: Batch) -> dict[str, Tensor]:
    return {name: value for name, value in vars(batch).items() if value is not None}


def _likeness(task: Task, batches: Batches, seed: int) -> str:
    """What students must share to be stacked, as text."""
    batch = next(batches.epoch(seed, 0))
    layers = [
        (name, type(layer).__qualname__, _facts(layer)) for name, layer in task.named_modules()
    ]
    shapes = [(name, tuple(p.shape), p.requires_grad) for name, p in task.named_parameters()]
    read = [(name, tuple(t.shape), t.dtype) for name, t in _fields(batch).items()]
    return repr((layers, shapes, read, len(batches), batches.device))


def _facts(layer: nn.Module) -> dict[str, object]:
    """What a layer was built with; weights, buffers and layers inside it are kept elsewhere."""
    return {n: fact for n, fact in vars(layer).items() if n != "training" and n[0] != "_"}


def _obstacle(students: Sequence[_Student]) -> str | None:
    """Say why students that are alike cannot be stacked; None if they can."""
    task = students[0][0]
    if len(students) == 1:
        return "no other has the same architecture, loss and number and shape of batches"
    if any(isinstance(layer, nn.RNNBase) for layer in task.modules()):
        return "recurrent layers take one set of weights at a time"
    abreast = StackedBatches(students)
    try:
        StackedTask(students).to(abreast.device)(next(abreast.epoch(0, 0)))
    except RuntimeError as error:  # what vmap has no rule for
        return " ".join(str(error).split())[:120]
    return None
