"""The distillation losses against values worked out by hand, and at their limits."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from myodistill.config import Augmentation
from myodistill.datasets.recording import ring
from myodistill.errors import SettingsError
from myodistill.signals.augmentation import Augmenter
from myodistill.training.batches import Batch, Batches, TensorInputs
from myodistill.training.losses import (
    LOSSES,
    Loss,
    decoupled,
    dist,
    smoothed,
    soft_target,
    standardised,
)
from myodistill.training.sampler import BatchSampler
from myodistill.training.tasks import DistillationTask
from myodistill.training.teacher_output import TeacherOutput

STUDENT = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 0.0], [0.0, 1.0, 0.3]], dtype=torch.float64)
TEACHER = torch.tensor([[1.0, 1.0, 0.0], [0.0, 3.0, 0.0], [-1.0, 0.5, 2.0]], dtype=torch.float64)
LABELS = torch.tensor([0, 1, 2])
every_name = pytest.mark.parametrize("name", LOSSES)
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


def losses(
    loss: Loss, student: Tensor = STUDENT, *, alpha: float, temperature: float
) -> dict[str, Tensor]:
    """What a task returns for the windows, with any loss over logits."""
    task = DistillationTask(torch.nn.Identity(), alpha=alpha, temperature=temperature)
    task.kd_loss = loss
    result: dict[str, Tensor] = task(
        Batch(student, F.one_hot(LABELS, 3).double(), torch.arange(3), TEACHER)
    )
    return result


def gradient(loss: Loss, *, alpha: float, temperature: float, scale: float = 1.0) -> Tensor:
    student = (scale * STUDENT).requires_grad_()
    losses(loss, student, alpha=alpha, temperature=temperature)["loss"].backward()
    assert student.grad is not None
    return student.grad


@every_loss
def test_alpha_one_is_cross_entropy(loss: Loss) -> None:
    whole = losses(loss, alpha=1.0, temperature=7.0)["loss"]
    assert whole.item() == pytest.approx(F.cross_entropy(STUDENT, LABELS).item())
    student = STUDENT.clone().requires_grad_()
    F.cross_entropy(student, LABELS).backward()
    torch.testing.assert_close(gradient(loss, alpha=1.0, temperature=7.0), student.grad)


@every_loss
def test_alpha_weighs_the_two_parts(loss: Loss) -> None:
    soft = loss(STUDENT, TEACHER, LABELS, 2.0).item()
    result = losses(loss, alpha=0.25, temperature=2.0)
    hard = F.cross_entropy(STUDENT, LABELS).item()
    assert soft > 0.01
    assert result["task_loss"].item() == pytest.approx(hard)
    assert result["kd_loss"].item() == pytest.approx(soft)
    assert result["loss"].item() == pytest.approx(0.25 * hard + 0.75 * soft)
    assert torch.equal(result["output"], STUDENT)


@pytest.mark.parametrize("loss", [v for n, v in LOSSES.items() if n != "teacher-free"])
def test_the_teacher_itself_has_no_soft_loss(loss: Loss) -> None:
    assert loss(TEACHER, TEACHER, LABELS, 3.0).item() == pytest.approx(0.0, abs=1e-9)


@every_loss
def test_going_down_the_gradient_leads_to_the_teacher(loss: Loss) -> None:
    student = STUDENT.clone().requires_grad_()
    optimizer = torch.optim.Adam([student], lr=0.05)
    for _ in range(400):
        optimizer.zero_grad()
        value = loss(student, TEACHER, LABELS, 2.0)
        value.backward()
        optimizer.step()
    assert value.item() < 1e-3
    assert torch.equal(student.argmax(1)[1:], TEACHER.argmax(1)[1:])  # its first window is a tie


@every_loss
def test_no_gradient_reaches_the_teacher(loss: Loss) -> None:
    teacher, student = TEACHER.clone().requires_grad_(), STUDENT.clone().requires_grad_()
    loss(student, teacher, LABELS, 2.0).backward()
    assert teacher.grad is None
    assert student.grad is not None
    assert student.grad.abs().sum() > 0


@every_loss
def test_labels_as_probabilities_say_the_same(loss: Loss) -> None:
    probabilities = F.one_hot(LABELS, 3).double()
    one = loss(STUDENT, TEACHER, LABELS, 2.0)
    other = loss(STUDENT, TEACHER, probabilities, 2.0)
    assert other.item() == pytest.approx(one.item())


@every_loss
def test_far_apart_logits_and_equal_ones_have_finite_gradients(loss: Loss) -> None:
    for scale in (0.0, 1e3):
        assert torch.isfinite(gradient(loss, alpha=0.0, temperature=1.0, scale=scale)).all()


def test_soft_target_of_two_gestures_by_hand() -> None:
    student, teacher = torch.tensor([[0.0, 0.0]]), torch.tensor([[2 * math.log(3.0), 0.0]])
    # at temperature 2 the teacher says 3/4 and 1/4, the student 1/2 and 1/2
    divergence = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    loss = soft_target(student, teacher, torch.tensor([0]), 2.0)
    assert loss.item() == pytest.approx(4 * divergence, abs=1e-6)


def test_high_temperature_tends_to_matching_logits() -> None:
    """Hinton et al., eq. 4: the gradient tends to (student - teacher) / gestures, both centred."""
    apart = STUDENT - TEACHER
    apart = apart - apart.mean(1, keepdim=True)
    loss = soft_target(STUDENT, TEACHER, LABELS, 1e4)
    assert loss.item() == pytest.approx((apart**2).sum(1).mean().item() / (2 * 3), rel=1e-3)
    limit = apart / 3 / len(apart)
    torch.testing.assert_close(
        gradient(soft_target, alpha=0.0, temperature=1e4), limit, rtol=1e-2, atol=1e-4
    )


def test_size_of_the_gradient_hardly_depends_on_the_temperature() -> None:
    cool, warm = (gradient(soft_target, alpha=0.0, temperature=t).norm() for t in (5.0, 20.0))
    assert cool.item() == pytest.approx(warm.item(), rel=0.25)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_decoupled_with_the_classical_weights_is_soft_target(temperature: float) -> None:
    """Zhao et al., eq. 6."""
    sure = torch.softmax(TEACHER / temperature, dim=1)[torch.arange(3), LABELS]
    loss = decoupled(STUDENT, TEACHER, LABELS, temperature, others=1 - sure)
    whole = soft_target(STUDENT, TEACHER, LABELS, temperature)
    assert loss.item() == pytest.approx(whole.item())


def test_decoupled_by_hand() -> None:
    # of the label and the two others the teacher says 1/2, 3/8 and 1/8, the student 1/4, 3/8, 3/8
    teacher = torch.tensor([[0.5, 0.375, 0.125]]).log()
    student = torch.tensor([[0.25, 0.375, 0.375]]).log()
    tckd = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    nckd = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    label = torch.tensor([0])
    loss = decoupled(student, teacher, label, 1.0)
    assert loss.item() == pytest.approx(tckd + 8 * nckd, abs=1e-6)
    loss = decoupled(student, teacher, label, 1.0, target=2.0, others=0.0)
    assert loss.item() == pytest.approx(2 * tckd, abs=1e-6)


def test_decoupled_takes_the_greatest_of_mixed_labels() -> None:
    mixed = torch.tensor([[0.6, 0.4, 0.0], [0.1, 0.7, 0.2], [0.2, 0.3, 0.5]])
    loss = decoupled(STUDENT, TEACHER, mixed, 2.0)
    assert loss.item() == pytest.approx(decoupled(STUDENT, TEACHER, LABELS, 2.0).item())
    other = decoupled(STUDENT, TEACHER, LABELS.flip(0), 2.0)
    assert other.item() != pytest.approx(loss.item(), rel=1e-3)


def test_dist_is_zero_for_affine_predictions() -> None:
    theirs = torch.softmax(TEACHER, dim=1)
    ours = 0.4 * theirs + 0.6 / 3
    assert soft_target(ours.log(), TEACHER, LABELS, 1.0).item() > 0.1
    assert dist(ours.log(), TEACHER, LABELS, 1.0).item() == pytest.approx(0.0, abs=1e-9)


def test_dist_by_hand() -> None:
    # two windows, two gestures: in each window and each gesture one correlates with itself or
    # with its opposite, so that the distance is 0 or 2
    teacher = torch.tensor([[0.8, 0.2], [0.3, 0.7]], dtype=torch.float64).log()
    opposite = torch.tensor([[0.2, 0.8], [0.6, 0.4]], dtype=torch.float64).log()
    one_off = torch.tensor([[0.6, 0.4], [0.7, 0.3]], dtype=torch.float64).log()
    labels = torch.tensor([0, 1])
    assert dist(opposite, teacher, labels, 1.0).item() == pytest.approx(2 + 2)
    assert dist(one_off, teacher, labels, 1.0).item() == pytest.approx(1 + 2)


@pytest.mark.parametrize("loss", [soft_target, decoupled])
def test_standardised_sees_neither_shift_nor_scale(loss: Loss) -> None:
    shifts = torch.tensor([[3.0], [-1.0], [10.0]])
    scales = torch.tensor([[0.1], [2.0], [30.0]])
    wrapped = standardised(loss)
    plain = wrapped(STUDENT, TEACHER, LABELS, 2.0).item()
    moved = wrapped(scales * STUDENT + shifts, TEACHER, LABELS, 2.0).item()
    assert moved == pytest.approx(plain)
    moved = wrapped(STUDENT, scales * TEACHER - shifts, LABELS, 2.0).item()
    assert moved == pytest.approx(plain)
    assert wrapped(-STUDENT, TEACHER, LABELS, 2.0).item() != pytest.approx(plain, rel=0.1)


def test_standardised_by_hand() -> None:
    def scores(x: Tensor) -> Tensor:
        return (x - x.mean(1, keepdim=True)) / x.std(1, correction=0, keepdim=True)

    expected = soft_target(scores(STUDENT), scores(TEACHER), LABELS, 2.0)
    loss = LOSSES["standardised-soft-target"](STUDENT, TEACHER, LABELS, 2.0)
    assert loss.item() == pytest.approx(expected.item())


@every_name
def test_a_task_finds_its_loss_by_name(name: str) -> None:
    task = DistillationTask(torch.nn.Identity(), alpha=0.25, temperature=3.0, loss=name)
    targets = F.one_hot(LABELS, 3).double()
    batch = Batch(STUDENT, targets, torch.arange(3), TEACHER)
    expected = LOSSES[name](STUDENT, TEACHER, LABELS, 3.0)
    assert task(batch)["kd_loss"].item() == pytest.approx(expected.item())


@every_name
def test_a_teacher_without_any_doubt_is_met_all_the_same(name: str) -> None:
    """Kept in half precision and mixed, its probabilities vanish; the loss must not."""
    sure = TeacherOutput((1e6 * TEACHER.float()).log_softmax(1)).half().logits.float()
    augmenter = Augmenter(Augmentation(mixup=1.0), ring(3), 1000.0)
    batches = Batches(
        TensorInputs(STUDENT.float()),
        LABELS,
        3,
        BatchSampler(3),
        teacher_outputs=lambda indices, view: TeacherOutput(sure[indices]),
        augmenter=augmenter,
        views=1,
    )
    task = DistillationTask(torch.nn.Identity(), alpha=0.0, temperature=1.0, loss=name)
    (batch,) = batches.epoch(0, 0)
    batch.inputs.requires_grad_()
    loss = task(batch)["loss"]
    loss.backward()
    assert torch.isfinite(loss)
    assert batch.inputs.grad is not None
    assert torch.isfinite(batch.inputs.grad).all()


def test_smoothed_labels() -> None:
    assert smoothed(F.one_hot(torch.tensor([1]), 4), 0.2)[0].tolist() == pytest.approx(
        [0.05, 0.85, 0.05, 0.05]
    )
    assert smoothed(F.one_hot(torch.tensor([1]), 4), 0.0)[0].tolist() == [0, 1, 0, 0]


@pytest.mark.parametrize("alpha", [-0.1, 1.5, math.nan])
def test_alpha_outside_its_range(alpha: float) -> None:
    with pytest.raises(SettingsError, match=r"alpha: expected 0 .* to 1 .*, got"):
        DistillationTask(torch.nn.Identity(), alpha=alpha, temperature=1.0)


@pytest.mark.parametrize("temperature", [0.0, -3.0, math.inf, math.nan])
def test_temperature_outside_its_range(temperature: float) -> None:
    with pytest.raises(SettingsError, match="temperature: expected a number above 0, got"):
        DistillationTask(torch.nn.Identity(), alpha=0, temperature=temperature)


def test_an_unknown_loss_gets_a_suggestion() -> None:
    task = partial(DistillationTask, torch.nn.Identity(), alpha=0, temperature=1)
    with pytest.raises(SettingsError, match="did you mean decoupled"):
        task(loss="decoupld")


def test_teacher_free_asks_no_teacher() -> None:
    said = [LOSSES["teacher-free"](STUDENT, t, LABELS, 4.0) for t in (TEACHER, -TEACHER)]
    assert said[0] == said[1]
    sure = 50 * F.one_hot(LABELS, 3).double()
    assert LOSSES["teacher-free"](sure, TEACHER, LABELS, 1.0) < said[0]
