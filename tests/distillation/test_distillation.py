"""What surrounds the losses: several teachers as one, features, calibration."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from myodistill.distillation.ensemble import (
    averaged,
    confidence_weighted,
    confidence_weights,
)
from myodistill.distillation.temperature import LEAST, fit_temperature
from myodistill.errors import DataError
from myodistill.training.feature_losses import Hint, relational
from myodistill.training.losses import smoothed, soft_target, virtual_teacher


def drawn(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


# Several teachers


def test_the_average_is_the_mean_of_logits_at_every_temperature() -> None:
    logits = drawn(3, 5, 4)
    mean = averaged(torch.log_softmax(logits, dim=2))
    assert mean.exp().sum(1).tolist() == pytest.approx([1.0] * 5)
    for temperature in (1.0, 5.0):
        torch.testing.assert_close(
            torch.softmax(mean / temperature, 1), torch.softmax(logits.mean(0) / temperature, 1)
        )


def test_weights_by_hand() -> None:
    # entropies log 2 and 0, so the softmax over them is 2/3 and 1/3
    unsure, sure = [math.log(0.5)] * 2, [0.0, -1000.0]
    weights = confidence_weights(torch.tensor([[unsure], [sure]]))
    assert weights[:, 0].tolist() == pytest.approx([1 / 3, 2 / 3])


def test_the_surest_counts_most_and_weights_sum_to_one() -> None:
    logits = drawn(1, 6, 4) * torch.tensor([0.5, 5.0, 1.0])[:, None, None]
    weights = confidence_weights(torch.log_softmax(logits, dim=2))
    assert weights.shape == (3, 6)
    assert weights.sum(0).tolist() == pytest.approx([1.0] * 6)
    assert (weights[1] > weights[2]).all()
    assert (weights[2] > weights[0]).all()


def test_each_window_has_its_own_weights() -> None:
    sure, unsure = [0.98, 0.01, 0.01], [0.3, 0.4, 0.3]
    teachers = torch.tensor([[sure, unsure], [unsure, sure]]).log()
    weighted, plain = confidence_weighted(teachers), averaged(teachers)
    assert (weighted[:, 0] > plain[:, 0] + 0.05).all()


def test_identical_teachers_and_a_single_one_are_themselves() -> None:
    one = torch.log_softmax(drawn(6, 4), dim=1)
    for count in (1, 3):
        several = one.expand(count, -1, -1)
        torch.testing.assert_close(confidence_weighted(several), one)
        torch.testing.assert_close(averaged(several), one)


def test_the_virtual_teacher_is_label_smoothing_at_temperature_one() -> None:
    """Up to the student's own part: KL is cross-entropy with smoothed labels less their entropy."""
    labels, student = torch.tensor([2, 0, 1]), drawn(3, 4)
    teacher = virtual_teacher(labels, 4, correct=0.91)
    assert teacher[0].exp().tolist() == pytest.approx([0.03, 0.03, 0.91, 0.03])
    smooth = smoothed(F.one_hot(labels, 4).double(), 0.12)
    entropy = torch.special.entr(smooth).sum(1).mean()
    expected = F.cross_entropy(student, smooth) - entropy
    loss = soft_target(student, teacher, labels, 1.0)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


# Features


def test_a_hint_that_is_met_costs_nothing() -> None:
    hint, student = Hint(3, 5).double(), drawn(4, 3)
    teacher = hint.projection(student).detach()
    assert hint(student, teacher).item() == 0
    # one unit off in every one of five features of every window: half of five
    assert hint(student, teacher + 1).item() == pytest.approx(2.5)


def test_the_projection_learns_beside_the_student_and_the_teacher_does_not() -> None:
    hint = Hint(3, 5).double()
    student, teacher = drawn(4, 3).requires_grad_(), drawn(4, 5, seed=1).requires_grad_()
    hint(student, teacher).backward()
    assert teacher.grad is None
    for learned in (student, hint.projection.weight, hint.projection.bias):
        assert learned.grad is not None
        assert learned.grad.abs().sum() > 0


def test_relations_survive_rotation_scale_and_shift() -> None:
    student = drawn(7, 4)
    rotation, _ = torch.linalg.qr(drawn(6, 6, seed=1))
    wider = torch.cat([student, torch.zeros(7, 2)], dim=1)
    teacher = 3 * wider @ rotation + 5
    assert relational(student, teacher).item() == pytest.approx(0, abs=1e-9)
    teacher[0] = teacher[1] + 0.1
    assert relational(student, teacher).item() > 0.1


def test_relations_by_hand() -> None:
    # distances 1, 1 and 2, and 3, 4 and 5, become 3/4, 3/4 and 6/4, and 3/4, 4/4 and 5/4
    line = torch.tensor([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]])
    triangle = torch.tensor([[0.0, 3.0], [0.0, 0.0], [4.0, 0.0]])
    apart = (0.25**2 / 2 + 0.25**2 / 2) / 3
    assert relational(line, triangle, distance=1, angle=0).item() == pytest.approx(apart, rel=1e-4)
    # cosines at the three points: 1, -1 and 1 on the line, 3/5, 0 and 4/5 in the triangle
    turned = (0.4**2 / 2 + 1 / 2 + 0.2**2 / 2) / 3
    assert relational(line, triangle, distance=0, angle=1).item() == pytest.approx(turned, rel=1e-4)


def test_only_the_first_windows_are_related() -> None:
    student, teacher = drawn(20, 3), drawn(20, 5, seed=1)
    some = relational(student, teacher, windows=8)
    assert some.item() == relational(student[:8], teacher[:8]).item()
    assert some.item() != pytest.approx(relational(student, teacher).item())


@pytest.mark.parametrize("count", [1, 2, 5])
def test_windows_in_one_place_have_finite_gradients(count: int) -> None:
    student = torch.ones(count, 3, dtype=torch.float64, requires_grad=True)
    relational(student, drawn(count, 4)).backward()
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()


# Calibration


def overconfident(count: int, factor: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits that are ``factor`` times what the labels were drawn from."""
    honest = 2 * drawn(count, 5, seed=seed)
    generator = torch.Generator().manual_seed(1000 + seed)
    labels = torch.multinomial(torch.softmax(honest, 1), 1, generator=generator)[:, 0]
    return factor * honest, labels


@pytest.mark.parametrize("factor", [0.5, 1.0, 4.0])
def test_the_temperature_that_the_labels_were_drawn_at(factor: float) -> None:
    assert fit_temperature(*overconfident(20_000, factor)) == pytest.approx(factor, rel=0.05)


def test_calibration_lowers_the_surprise_of_other_windows() -> None:
    temperature = fit_temperature(*overconfident(500, 4.0))
    logits, labels = overconfident(500, 4.0, seed=1)
    calibrated = F.cross_entropy(logits / temperature, labels)
    assert calibrated < F.cross_entropy(logits, labels) - 0.1


def test_a_few_windows_decided_rightly_do_not_ask_for_certainty() -> None:
    logits = 3 * torch.eye(4)
    temperature = fit_temperature(logits, torch.arange(4))
    assert 10 * LEAST < temperature < 1
    assert 0.5 < fit_temperature(torch.tensor([[1.0, 0.0]]), torch.tensor([1])) < 5


@pytest.mark.parametrize(
    ("logits", "labels", "line"),
    [
        (torch.zeros(0, 3), torch.zeros(0, dtype=torch.long), "at least one window"),
        (torch.zeros(4, 3), torch.zeros(3, dtype=torch.long), r"\(4, 3\) and \(3,\)"),
        (torch.full((2, 3), math.nan), torch.zeros(2, dtype=torch.long), "finite logits"),
    ],
)
def test_calibration_refuses(logits: Tensor, labels: Tensor, line: str) -> None:
    with pytest.raises(DataError, match=line):
        fit_temperature(logits, labels)
