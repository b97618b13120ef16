"""Models of one's own: what is declared is used, nothing is guessed, what does not fit is said."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from myodistill.bundle import Bundle
from myodistill.config import Settings, Training
from myodistill.datasets.recording import SignalSpec, ring
from myodistill.datasets.synthetic import Synthetic
from myodistill.distillation.data import FoldData
from myodistill.distillation.method import DistillationPipeline, StudentSpec
from myodistill.errors import ModelError
from myodistill.models import registry as registry
from myodistill.models.base import GestureModel, split_network
from myodistill.models.registry import build, register_model
from myodistill.splits import make_split
from myodistill.training.batches import Batches, TensorInputs
from myodistill.training.loop import NO_PATHS, train
from myodistill.training.sampler import BatchSampler
from myodistill.training.tasks import DistillationTask
from myodistill.training.teacher_output import TeacherOutput

TINY = SignalSpec(ring(4), 24, 200.0, ("rest", "fist", "point"))


def windows_of(spec: SignalSpec, count: int = 64) -> Tensor:
    random = torch.Generator().manual_seed(0)
    return torch.randn(count, spec.channels, spec.samples, generator=random)


@pytest.fixture
def registered() -> Iterator[Callable[..., str]]:
    """Registers a build function under a name of its own for one test."""
    added = []

    def add(build_it: Callable[[SignalSpec], object], name: str = "odd") -> str:
        register_model(name, "student")(build_it)  # type: ignore[arg-type]
        added.append(name)
        return name

    yield add
    for name in added:
        del registry.MODELS[name]


@pytest.mark.parametrize(
    ("build_it", "message"),
    [
        (lambda spec: nn.Linear(7, 2), "channels and 24 samples, got RuntimeError: mat1 and mat2"),
        (lambda spec: nn.Flatten(), r"logits of shape \(2, 3\) for 2 windows, got \(2, 96\)"),
        (lambda spec: 5, "got TypeError: a int instead of a module"),
        (lambda spec: 1 / 0, "got ZeroDivisionError: division by zero"),
        (lambda spec: OwnModel(spec, told=9), r"features of shape \(2, 9\) .*, got \(2, 4\)"),
    ],
)
def test_a_module_that_does_not_fit_is_refused_in_one_line(
    registered: Callable[..., str], build_it: Callable[[SignalSpec], object], message: str
) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        build(registered(build_it), TINY)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "a/b", "..", "a\\b", "a\nb", " a", "x" * 300 + "/"])
def test_a_name_that_is_no_folder_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match="model: expected a name of 1 to 100 printable") as caught:
        register_model(name, "student")(lambda spec: nn.Identity())
    assert len(str(caught.value)) < 250
    assert "\n" not in str(caught.value)


class OwnModel(GestureModel):
    """Trains what it calls ``front``, uses a layer twice, and decides before its last layer."""

    def __init__(self, spec: SignalSpec, told: int = 4) -> None:
        super().__init__()
        self.num_features = told
        self.front = nn.Linear(spec.channels * spec.samples, 4)
        self.decide = nn.Linear(4, spec.classes)
        self.twice = nn.Linear(4, 4)

    def forward_features(self, windows: Tensor) -> Tensor:
        features: Tensor = self.twice(self.twice(self.front(windows.flatten(1))).relu())
        return features

    def forward_head(self, features: Tensor) -> Tensor:
        logits: Tensor = self.decide(features)
        return logits


class OwnFront(GestureModel):
    """Power through a fixed front with weights of its own."""

    num_features = 4

    def __init__(self, spec: SignalSpec) -> None:
        super().__init__()
        self.filters = nn.Sequential(nn.Conv1d(spec.channels, 4, 5), nn.Dropout(0.9))
        self.front = nn.Linear(4, 4)
        self.decide = nn.Linear(4, spec.classes)

    @property
    def fixed_front(self) -> nn.Module:
        return self.filters

    def after_front(self, seen: Tensor) -> Tensor:
        features: Tensor = self.front(seen.square().mean(dim=2).add(1e-6).log())
        return features

    def forward_head(self, features: Tensor) -> Tensor:
        logits: Tensor = self.decide(features)
        return logits


def plain(spec: SignalSpec) -> nn.Module:
    """No contract at all; its parts have names that mean something elsewhere."""
    inside = nn.Linear(spec.channels * spec.samples, 4)
    return nn.Sequential(OrderedDict(flat=nn.Flatten(), front=inside, head=nn.Linear(4, 3)))


@pytest.mark.parametrize("build_it", [OwnModel, plain])
def test_every_weight_of_ones_own_model_is_trained(
    registered: Callable[..., str], build_it: Callable[[SignalSpec], nn.Module]
) -> None:
    network = build(registered(build_it), TINY, seed=0)
    front, trained = split_network(network)
    assert front is None
    assert moved(network, trained, windows_of(TINY)) == set(network.state_dict())


def test_a_declared_front_is_computed_once_and_not_trained(
    registered: Callable[..., str],
) -> None:
    network = build(registered(OwnFront), TINY, seed=0).eval()
    front, trained = split_network(network)
    assert front is network.get_submodule("filters")
    windows = windows_of(TINY)
    torch.testing.assert_close(trained(front(windows)), network(windows))
    expected = {name for name in network.state_dict() if not name.startswith("filters.")}
    assert moved(network, trained, front(windows).detach()) == expected


def moved(network: nn.Module, trained: nn.Module, inputs: Tensor) -> set[str]:
    """Names of the weights that training changes, under a loss over features."""
    before = {name: value.clone() for name, value in network.state_dict().items()}
    labels = torch.arange(len(inputs)) % TINY.classes

    def outputs(indices: Tensor, view: int) -> TeacherOutput:
        return TeacherOutput(
            functional.one_hot(labels[indices], 3).float(), inputs.flatten(1)[indices, :5]
        )

    compares = isinstance(network, GestureModel)
    task = DistillationTask(
        trained, loss="hint" if compares else "soft-target", temperature=2.0, features=5
    )
    batches = Batches(TensorInputs(inputs), labels, 3, BatchSampler(16), teacher_outputs=outputs)
    train(task, batches, Training(num_epochs=2, batch_size=16, learning_rate=1e-2))
    after = network.state_dict()
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_ones_own_models_go_through_all_stages(
    registered: Callable[..., str], tmp_path: Path
) -> None:
    """A fixed front is re-used between models only where it is the same."""
    dataset, brief = Synthetic(subjects=5, seconds=0.6, repetitions=2), {"num_epochs": 1}
    settings = Settings.load(
        {"dataset": "synthetic", **dict.fromkeys(("pretrain", "distill"), brief)}
    )
    fold = DistillationPipeline(FoldData(dataset, make_split(dataset, 1), settings), settings, 0)
    subject = fold.split.heldout[0]
    teacher = fold.pretrain(registered(OwnFront, "own-teacher"), NO_PATHS)
    tuned = fold.finetune(teacher, subject, 1, NO_PATHS)
    front: Any = tuned.network.front
    filters: Any = tuned.network.filters
    fresh: Any = build("own-teacher", fold.spec, seed=0)
    assert not torch.equal(front.weight, fresh.front.weight)
    torch.testing.assert_close(filters.state_dict(), fresh.filters.state_dict())
    for name, build_it in (("own-student", OwnModel), ("own-front", OwnFront)):
        job = StudentSpec(registered(build_it, name), None, [tuned], subject, 1, "hint")
        student = fold.distill(job, NO_PATHS)
        begun = build(name, fold.spec, seed=0).state_dict()
        weight = student.network.get_parameter("front.weight")
        assert not torch.equal(weight, begun["front.weight"])
        student.save(tmp_path / name)
        loaded = Bundle.load(tmp_path / name)
        windows = fold.data.subjects.filtered(subject)
        assert np.array_equal(loaded.logits(windows), student.logits(windows))


def test_features_that_nobody_declared_are_refused() -> None:
    with pytest.raises(ModelError, match=r"loss hint: .*Sequential has none; make it a .*Gesture"):
        DistillationTask(plain(TINY), loss="hint", temperature=2.0, features=5)
