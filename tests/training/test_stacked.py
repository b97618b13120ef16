"""Students trained as one batched computation are those that are trained one by one."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

from myodistill.config import Training
from myodistill.datasets.recording import SignalSpec, grid, ring
from myodistill.errors import TrainingError
from myodistill.models.logpower import ProjectedLogPower
from myodistill.models.registry import build
from myodistill.training.batches import Batches, TensorInputs
from myodistill.training.loop import ExecutionConfig, RunPaths, train
from myodistill.training.losses import LOSSES
from myodistill.training.sampler import BatchSampler
from myodistill.training.stacked import train_stacked
from myodistill.training.tasks import DistillationTask, Task
from myodistill.training.teacher_output import TeacherOutput, TeacherOutputs

SPEC = SignalSpec(ring(6), 60, 1000.0, ("rest", "fist", "point"))
CLASSES = SPEC.classes
SETTINGS = Training(num_epochs=4, batch_size=16, learning_rate=1e-2, weight_decay=0.5)
Student = tuple[Task, Batches]


def log_power(seed: int) -> nn.Module:
    """What log-power-30k trains, without the parts that draw."""
    torch.manual_seed(seed)
    return nn.Sequential(
        ProjectedLogPower(4, 6, 8, jitter=0),
        nn.Linear(32, 20),
        nn.BatchNorm1d(20),
        nn.ReLU(),
        nn.Dropout(0),
        nn.Linear(20, CLASSES),
    )


def network(name: str, seed: int) -> nn.Module:
    return log_power(seed) if name == "log-power" else build(name, SPEC, seed=seed)


def student(name: str, number: int, *, windows: int = 66, loss: str = "soft-target") -> Student:
    """A student whose everything depends on its number; double precision hides no difference."""
    generator = torch.Generator().manual_seed(number)
    if name == "log-power":
        factors = torch.randn(windows, 4, 6, 12, generator=generator, dtype=torch.float64)
        inputs = factors @ factors.mT
    else:
        inputs = torch.randn(windows, 6, 60, generator=generator, dtype=torch.float64)
    teacher = 2 * torch.randn(windows, CLASSES, generator=generator, dtype=torch.float64)
    labels = torch.randint(CLASSES, (windows,), generator=generator)
    task = DistillationTask(
        network(name, number),
        alpha=0.1 + 0.2 * number,
        temperature=1.0 + number,
        loss=loss,
        label_smoothing=0.05,
    )
    outputs: TeacherOutputs = lambda indices, view: TeacherOutput(teacher[indices].log_softmax(1))  # noqa: E731
    sampler = BatchSampler(SETTINGS.batch_size)
    return task.double(), Batches(
        TensorInputs(inputs), labels, CLASSES, sampler, teacher_outputs=outputs
    )


def both_ways(students: Sequence[Student]) -> tuple[list[Task], list[Task]]:
    """Train stacked, and copies one by one."""
    tasks, batches = zip(*students, strict=True)
    alone = copy.deepcopy(tasks)
    for seed, (task, own) in enumerate(zip(alone, batches, strict=True)):
        train(task, own, SETTINGS, seed=seed)
    train_stacked(tasks, batches, SETTINGS, seeds=range(len(tasks)))
    return list(tasks), list(alone)


def require_same(stacked: Sequence[Task], alone: Sequence[Task], tolerance: float = 1e-6) -> None:
    """Compare all weights and statistics.

    A bias before batch normalisation has no gradient but rounding, which AdamW divides by 1e-8.
    """
    for one, other in zip(stacked, alone, strict=True):
        assert not one.training
        expected = other.state_dict()
        for name, value in one.state_dict().items():
            torch.testing.assert_close(
                value, expected[name], rtol=tolerance, atol=tolerance, msg=f"{name}: {{}}".format
            )


@pytest.mark.parametrize("name", ["log-power", "cnn", "tcn-10k"])
def test_stacked_as_one_by_one(name: str, caplog: pytest.LogCaptureFixture) -> None:
    students = [student(name, number, windows=64 + 3 * number) for number in range(3)]
    begun = copy.deepcopy(students[0][0].state_dict())
    stacked, alone = both_ways(students)
    require_same(stacked, alone)
    for key, value in stacked[0].state_dict().items():
        assert not torch.equal(value, begun[key]), key  # weights and batch-norm statistics moved
    assert not caplog.records


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_can_be_stacked(loss: str, caplog: pytest.LogCaptureFixture) -> None:
    require_same(*both_ways([student("log-power", n, loss=loss) for n in range(2)]))
    assert not caplog.records


def test_a_stack_logs_the_means_of_the_named_losses(tmp_path: Path) -> None:
    students = [student("log-power", number) for number in range(2)]
    for number, (task, own) in enumerate(copy.deepcopy(students)):
        train(task, own, SETTINGS, seed=number, paths=RunPaths(log=tmp_path / f"alone-{number}"))
    tasks, batches = zip(*students, strict=True)
    paths = RunPaths(log=tmp_path / "stack")
    train_stacked(tasks, batches, SETTINGS, seeds=range(2), paths=paths)
    logs = ("stack-1", "alone-0", "alone-1")
    stack, first, second = (scalars(tmp_path / name) for name in logs)
    assert set(stack) == {"loss", "task_loss", "kd_loss"}
    for tag, values in stack.items():
        alone = torch.tensor([first[tag], second[tag]]).mean(dim=0)
        torch.testing.assert_close(torch.tensor(values), alone)


def scalars(log: Path) -> dict[str, list[float]]:
    events = EventAccumulator(str(log))
    events.Reload()
    return {tag: [e.value for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def in_single(number: int) -> Student:
    task, batches = student("log-power", number)
    inputs, labels = batches.inputs[torch.arange(66)].float(), batches.targets.argmax(1)
    teacher = inputs.flatten(1)[:, :CLASSES]
    outputs: TeacherOutputs = lambda indices, view: TeacherOutput(teacher[indices])  # noqa: E731
    sampler = BatchSampler(SETTINGS.batch_size)
    return task.float(), Batches(
        TensorInputs(inputs), labels, CLASSES, sampler, teacher_outputs=outputs
    )


def test_single_precision_differs_by_rounding() -> None:
    """By the batch's own statistics, in which a bias before batch normalisation does not show."""
    students = [in_single(number) for number in range(2)]
    stacked, alone = both_ways(students)
    for (_, batches), one, other in zip(students, stacked, alone, strict=True):
        inputs = batches.inputs[torch.arange(66)]
        logits, expected = one.network.train()(inputs), other.network.train()(inputs)
        torch.testing.assert_close(logits, expected, rtol=0, atol=1e-4)


def test_each_architecture_makes_its_own_stack(caplog: pytest.LogCaptureFixture) -> None:
    names = ("log-power", "tcn-10k", "log-power", "tcn-10k")
    require_same(*both_ways([student(name, number) for number, name in enumerate(names)]))
    assert not caplog.records


class Undecided(nn.Module):
    """A network that no vmap can follow: what it does depends on its values."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(60, CLASSES)

    def forward(self, windows: Tensor) -> Tensor:
        logits: Tensor = self.linear(windows.mean(1))
        return logits if logits.sum().item() > 0 else 2 * logits


def undecided(number: int) -> Student:
    task, batches = student("tcn-10k", number)
    torch.manual_seed(number)
    task.network = Undecided().double()
    return task, batches


def unlike(number: int) -> Student:
    return student(("log-power", "tcn-10k")[number], number)


def of_other_length(number: int) -> Student:
    return student("log-power", number, windows=64 + 20 * number)


def of_other_electrodes(number: int) -> Student:
    """The same weights in the same shapes, but other neighbours."""
    task, batches = student("cnn", number)
    spec = SignalSpec((grid(2, 3), grid(3, 2))[number], 60, 1000.0, SPEC.gestures)
    task.network = build("cnn", spec, seed=number).double()
    return task, batches


def of_other_loss(number: int) -> Student:
    return student("log-power", number, loss=("dist", "decoupled")[number])


ALONE = "no other has the same architecture, loss and number and shape of batches"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda number: student("lstm-10k", number), "recurrent layers"),
        (undecided, "vmap"),
        (unlike, ALONE),
        (of_other_length, ALONE),
        (of_other_electrodes, ALONE),
        (of_other_loss, ALONE),
    ],
)
def test_who_cannot_be_stacked_is_trained_alone(
    make: Callable[[int], Student], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    stacked, alone = both_ways([make(number) for number in range(2)])
    require_same(stacked, alone, tolerance=0)
    (record,) = caplog.records
    line = record.getMessage()
    assert line.startswith("students trained one by one, not stacked: 2 of 2: ")
    assert reason in line
    assert "\n" not in line


def test_only_the_odd_one_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    students = [student("log-power", 0), student("tcn-10k", 1), student("log-power", 2)]
    require_same(*both_ways(students))
    assert "1 of 3: no other" in caplog.text


def test_a_single_student_is_no_stack_and_needs_no_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    require_same(*both_ways([student("log-power", 0)]), tolerance=0)
    assert not caplog.records


def test_dropout_is_drawn_for_each_student_and_repeatably() -> None:
    def trained() -> list[Task]:
        tasks, batches = [], []
        for _ in range(2):  # equal in everything
            task, own = student("log-power", 0)
            task.network[4] = nn.Dropout(0.5)  # type: ignore[operator]
            tasks.append(task)
            batches.append(own)
        train_stacked(tasks, batches, SETTINGS, seeds=[0, 0])
        return tasks

    first, again = trained(), trained()
    require_same(first, again, tolerance=0)
    with pytest.raises(AssertionError):
        require_same(first[:1], first[1:], tolerance=1e-3)


def test_bfloat16_runs_through_the_stack() -> None:
    tasks, batches = zip(*(in_single(number) for number in range(2)), strict=True)
    train_stacked(tasks, batches, SETTINGS, seeds=[0, 1], execution=ExecutionConfig("bfloat16"))
    assert all(torch.isfinite(p).all() for task in tasks for p in task.parameters())


@pytest.mark.parametrize("count", [1, 2])
def test_a_stack_that_diverges_ends(count: int) -> None:
    tasks, batches = zip(*(in_single(number) for number in range(count)), strict=True)
    hot = SETTINGS.model_copy(update={"learning_rate": 1e30})
    with pytest.raises(TrainingError, match="two students: expected a finite loss"):
        train_stacked(tasks, batches, hot, seeds=range(count), paths=RunPaths(title="two students"))
