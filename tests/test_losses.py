"""The distillation loss against values worked out by hand, and at its limits."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from myodistill.distillation.losses import soft_target

STUDENT = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 0.0]])
TEACHER = torch.tensor([[1.0, 1.0, 0.0], [0.0, 3.0, 0.0]])
LABELS = torch.tensor([0, 1])


def test_alpha_one_is_cross_entropy() -> None:
    loss = soft_target(STUDENT, TEACHER, LABELS, alpha=1.0, temperature=7.0)
    assert loss.item() == pytest.approx(F.cross_entropy(STUDENT, LABELS).item())


def test_two_classes_by_hand() -> None:
    student, teacher = torch.tensor([[0.0, 0.0]]), torch.tensor([[2 * math.log(3.0), 0.0]])
    # at temperature 2 the teacher says 3/4 and 1/4, the student 1/2 and 1/2
    divergence = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    loss = soft_target(student, teacher, torch.tensor([0]), alpha=0.25, temperature=2.0)
    assert loss.item() == pytest.approx(0.25 * math.log(2) + 0.75 * 4 * divergence, abs=1e-6)


def test_the_teacher_itself_has_no_soft_loss() -> None:
    loss = soft_target(TEACHER, TEACHER, LABELS, alpha=0.0, temperature=3.0)
    assert loss.item() == pytest.approx(0.0, abs=1e-6)


def test_high_temperature_tends_to_matching_logits() -> None:
    student, teacher = STUDENT.double(), TEACHER.double()
    difference = (student - student.mean(1, keepdim=True)) - (
        teacher - teacher.mean(1, keepdim=True)
    )
    limit = (difference**2).sum(dim=1).mean() / (2 * 3)
    loss = soft_target(student, teacher, LABELS, alpha=0.0, temperature=1e3)
    assert loss.item() == pytest.approx(limit.item(), rel=1e-2)


def test_size_of_the_gradient_hardly_depends_on_the_temperature() -> None:
    sizes = []
    for temperature in (5.0, 20.0):
        student = STUDENT.clone().requires_grad_()
        soft_target(student, TEACHER, LABELS, alpha=0.0, temperature=temperature).backward()
        sizes.append(student.grad.norm().item())
    assert sizes[0] == pytest.approx(sizes[1], rel=0.25)


def test_no_gradient_reaches_the_teacher() -> None:
    teacher = TEACHER.clone().requires_grad_()
    student = STUDENT.clone().requires_grad_()
    soft_target(student, teacher, LABELS, alpha=0.5, temperature=2.0).backward()
    assert teacher.grad is None
    assert student.grad.abs().sum() > 0
