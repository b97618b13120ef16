"""The training loop learns, stops early, and resumes to the same result after a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

from myodistill.config import Augmentation, Training
from myodistill.datasets.recording import Electrodes
from myodistill.errors import ModelError, TrainingError
from myodistill.models.base import GestureModel
from myodistill.signals.augmentation import Augmenter
from myodistill.training import checkpoint
from myodistill.training.batches import Batches, ConcatInputs, TensorInputs
from myodistill.training.loop import RunPaths, rate, train
from myodistill.training.sampler import BatchSampler
from myodistill.training.tasks import DistillationTask, Task
from myodistill.training.teacher_output import TeacherOutput, TeacherOutputs

torch.set_num_threads(1)


def problem(count: int = 200) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(count, 6, generator=generator)
    return x, (x[:, 0] + x[:, 1] > 0).long()


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 2)
    )


class Featured(GestureModel):
    """A network with features to compare."""

    num_features = 16

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(6, 16), nn.Linear(16, 2)

    def forward_features(self, windows: Tensor) -> Tensor:
        return torch.relu(self.body(windows))

    def forward_head(self, features: Tensor) -> Tensor:
        logits: Tensor = self.head(features)
        return logits


def batches_of(x: Tensor, y: Tensor, size: int, *, mixup: float = 0.3, **options: Any) -> Batches:
    augmenter = Augmenter(Augmentation(mixup=mixup), Electrodes("grid", 1, 6), 1000.0)
    return Batches(
        TensorInputs(x), y, 2, BatchSampler(size), augmenter=augmenter, views=4, **options
    )


def learn(settings: Training, paths: RunPaths | None = None, **options: Any) -> nn.Module:
    x, y = problem()
    net = network()
    train(
        Task(net),
        batches_of(x, y, settings.batch_size),
        settings,
        paths=paths or RunPaths(),
        **options,
    )
    return net


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a.state_dict().values(), b.state_dict().values(), strict=True))  # fmt: skip # noqa: E501


def test_it_learns() -> None:
    net = learn(Training(num_epochs=30, batch_size=20, learning_rate=1e-2))
    x, y = problem()
    assert not net.training
    assert (net(x).argmax(1) == y).float().mean() > 0.95


@pytest.mark.parametrize("schedule", ["cosine", "one-cycle", "constant"])
def test_same_seed_same_weights(schedule: str) -> None:
    settings = Training(num_epochs=3, batch_size=20, schedule=schedule)
    assert same(learn(settings), learn(settings))
    assert not same(learn(settings), learn(settings, seed=1))


def test_global_random_state_does_not_matter() -> None:
    settings = Training(num_epochs=2, batch_size=20)
    torch.manual_seed(5)
    first = learn(settings)
    torch.manual_seed(6)
    torch.rand(100)
    assert same(first, learn(settings))


def test_rates() -> None:
    assert rate("constant", 7, 10) == 1
    assert rate("cosine", 0, 10) == 1
    assert rate("cosine", 10, 10) == pytest.approx(0)
    assert rate("one-cycle", 0, 100) == pytest.approx(0.04)
    assert rate("one-cycle", 30, 100) == pytest.approx(1)
    assert rate("one-cycle", 100, 100) == pytest.approx(0, abs=1e-9)


def test_early_stop_keeps_the_best_weights() -> None:
    scores = iter([0.5, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    kept: list[dict[str, Tensor]] = []

    def validate(net: nn.Module) -> float:
        kept.append({name: value.clone() for name, value in net.state_dict().items()})
        return next(scores)

    settings = Training(num_epochs=7, batch_size=20, patience=2, learning_rate=1e-2)
    net = learn(settings, validate=validate)
    assert len(kept) == 4  # the best was the second, then two without gain
    assert all(torch.equal(kept[1][name], value) for name, value in net.state_dict().items())


def test_an_epoch_passes_once_over_the_primary_windows() -> None:
    order = BatchSampler(10, primary=torch.arange(20), rehearsed_from=20, rehearsal=0.5)
    batches = Batches(TensorInputs(torch.zeros(30, 1)), torch.zeros(30).long(), 2, order)
    seen = torch.cat([batch.indices for batch in batches.epoch(0, 0)])
    assert sorted(seen[seen < 20].tolist()) == list(range(20))
    assert int((seen >= 20).sum()) == 20
    again = torch.cat([batch.indices for batch in batches.epoch(0, 0)])
    assert torch.equal(seen, again)
    assert not torch.equal(seen, torch.cat([b.indices for b in batches.epoch(0, 1)]))


def test_teacher_answers_belong_to_their_windows_when_mixed() -> None:
    x = torch.linspace(0.01, 0.99, 40)[:, None]
    said = torch.cat([x, 1 - x], dim=1).log()
    outputs: TeacherOutputs = lambda indices, view: TeacherOutput(said[indices])  # noqa: E731
    mixed = 0
    for batch in batches_of(x, torch.zeros(40).long(), 8, mixup=0.5, teacher_outputs=outputs).epoch(
        3, 1
    ):
        assert batch.teacher_logits is not None
        assert torch.allclose(batch.teacher_logits.exp()[:, :1], batch.inputs, atol=1e-5)
        mixed += int((batch.inputs != x[batch.indices]).sum())
    assert mixed > 20


def test_distillation_copies_its_teacher() -> None:
    x, y = problem(400)
    teacher = torch.stack([x[:, 2], -x[:, 2]], dim=1) * 3
    net = network()
    task = DistillationTask(net, alpha=0.0, temperature=2.0)
    outputs: TeacherOutputs = lambda indices, view: TeacherOutput(teacher[indices])  # noqa: E731
    train(
        task,
        Batches(TensorInputs(x), y, 2, BatchSampler(40), teacher_outputs=outputs),
        Training(num_epochs=40, learning_rate=1e-2),
    )
    assert (net(x).argmax(1) == teacher.argmax(1)).float().mean() > 0.93
    assert (net(x).argmax(1) == y).float().mean() < 0.7


def scalars(log: Path) -> dict[str, list[float]]:
    """The values of a TensorBoard log over epochs, by tag."""
    events = EventAccumulator(str(log))
    events.Reload()
    return {tag: [e.value for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_tensorboard_holds_the_named_losses(tmp_path: Path) -> None:
    """The loss of every epoch is what its weights make of the parts."""
    x, y = problem()
    teacher = torch.stack([x[:, 2], -x[:, 2]], dim=1) * 3
    outputs: TeacherOutputs = lambda indices, view: TeacherOutput(teacher[indices], x[indices])  # noqa: E731
    settings = Training(num_epochs=3, batch_size=20, learning_rate=1e-2)
    for loss in ("soft-target", "relational"):
        torch.manual_seed(0)
        task = DistillationTask(
            Featured(), loss=loss, alpha=0.25, temperature=2.0, feature_weight=0.5
        )
        log = tmp_path / loss
        batches = Batches(TensorInputs(x), y, 2, BatchSampler(20), teacher_outputs=outputs)
        train(task, batches, settings, paths=RunPaths(log=log))
        found = {tag: torch.tensor(values) for tag, values in scalars(log).items()}
        expected = 0.25 * found["task_loss"] + 0.75 * found["kd_loss"]
        if loss == "relational":
            expected = expected + 0.5 * found.pop("feature_loss")
        assert set(found) == {"loss", "task_loss", "kd_loss"}
        assert len(found["loss"]) == 3
        assert torch.allclose(found["loss"], expected)
    log = tmp_path / "labels"
    learn(settings, RunPaths(log=log))
    alone = scalars(log)
    assert set(alone) == {"loss", "task_loss"}
    assert alone["loss"] == alone["task_loss"]


def test_joined_inputs_are_both() -> None:
    joined = ConcatInputs(TensorInputs(torch.arange(3.0)), TensorInputs(torch.arange(10.0, 14.0)))
    assert len(joined) == 7
    assert joined[torch.tensor([6, 0, 3])].tolist() == [13.0, 0.0, 10.0]


SCRIPT = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_loop import batches_of, network, problem
from safetensors.torch import save_file
from myodistill.config import Training
from myodistill.training import checkpoint
from myodistill.training.loop import RunPaths, train
from myodistill.training.tasks import Task
checkpoint._SECONDS_BETWEEN = 0.0
x, y = problem()
net = network()
slow = (lambda net: (time.sleep(0.05), 0.0)[1]) if {slow} else None
train(Task(net), batches_of(x, y, 20), Training(num_epochs=40, learning_rate=1e-2),
      paths=RunPaths(Path({checkpoint!r})), validate=slow)
save_file(net.state_dict(), {out!r})
"""


def script(folder: Path, name: str, *, slow: bool = False) -> list[str]:
    text = SCRIPT.format(
        tests=str(Path(__file__).parent),
        slow=slow,
        checkpoint=str(folder / "run.safetensors"),
        out=str(folder / name),
    )
    return [sys.executable, "-c", text]


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    subprocess.run(script(tmp_path / "whole", "net.safetensors"), check=True)

    process = subprocess.Popen(script(tmp_path, "net.safetensors", slow=True))
    waited = time.monotonic() + 60
    while not (tmp_path / "run.safetensors").exists() and time.monotonic() < waited:
        time.sleep(0.01)
    time.sleep(0.3)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "net.safetensors").exists()
    subprocess.run(script(tmp_path, "net.safetensors"), check=True)

    whole = load_file(tmp_path / "whole" / "net.safetensors")
    resumed = load_file(tmp_path / "net.safetensors")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_damaged_or_foreign_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(ModelError, match="expected a checkpoint of this network"):
        learn(Training(num_epochs=1), RunPaths(path))


def test_a_loss_that_is_no_number_ends_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "_SECONDS_BETWEEN", 0.0)
    where = RunPaths(tmp_path / "run.safetensors", title="student of Anna")
    learn(Training(num_epochs=2), where)
    assert where.checkpoint is not None
    assert where.checkpoint.exists()
    with pytest.raises(TrainingError, match="student of Anna: expected a finite loss") as told:
        learn(Training(num_epochs=9).model_copy(update={"learning_rate": 1e30}), where)
    assert "(learning rate 1e+30)" in str(told.value)
    assert "\n" not in str(told.value)
    assert not where.checkpoint.exists()


def test_a_weight_that_is_no_number_ends_training() -> None:
    x, y = problem()
    net = network()
    net.register_buffer("unused", torch.tensor(torch.inf))
    with pytest.raises(TrainingError, match=r"training: .* finite weights, got .* epoch 1 of 1"):
        train(Task(net), batches_of(x, y, 20), Training(num_epochs=1))


class Hungry(nn.Module):
    """A network that asks for a petabyte when it is given many windows."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most, self.layer = most, nn.Linear(6, 2)

    def forward(self, windows: Tensor) -> Tensor:
        if len(windows) > self.most:
            torch.empty(2**50)
        logits: Tensor = self.layer(windows)
        return logits


@pytest.mark.parametrize(
    ("most", "advice"),
    [(30, r"set batch_size to 25, which fits"), (1, r"take a smaller model")],
)
def test_without_memory_the_size_that_fits_is_said(most: int, advice: str) -> None:
    x, y = problem()
    with pytest.raises(TrainingError, match=advice) as caught:
        train(
            Task(Hungry(most)),
            batches_of(x, y, 100),
            Training(num_epochs=1),
            paths=RunPaths(title="cnn"),
        )
    assert str(caught.value).startswith("cnn: expected memory for a step of 100 windows")
    assert "\n" not in str(caught.value)


def test_other_errors_of_a_step_are_passed_on() -> None:
    x, y = problem()
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        train(Task(nn.Linear(5, 2)), batches_of(x, y, 100), Training(num_epochs=1))
