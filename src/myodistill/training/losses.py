"""Distillation losses over logits, by name.

Every loss is the soft part alone, ``loss(student, teacher, labels, temperature)``; the hard-label
loss is added by :class:`~myodistill.training.tasks.DistillationTask`. Shapes: logits
``(window, gesture)``; labels are gestures, ``(window,)``, or their probabilities,
``(window, gesture)``, as mixup makes them. Losses return the mean over windows; no gradient flows
into the teacher. No loss branches on the value of a tensor, so that all run under
``torch.func.vmap``.

Born-again networks (Furlanello et al. 2018, section 3) need no loss of their own: they are
``soft-target`` under a teacher of the student's architecture.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from myodistill.errors import SettingsError, unknown_name
from myodistill.plugins import Registry, foreign_code

Number = float | Tensor
"""A number, or a tensor that holds one."""

Loss = Callable[[Tensor, Tensor, Tensor, Number], Tensor]
"""From student's logits, teacher's logits, labels and temperature to a scalar."""


def soft_target(student: Tensor, teacher: Tensor, labels: Tensor, temperature: Number) -> Tensor:
    """``T² KL(softmax(teacher / T) || softmax(student / T))``.

    Hinton, Vinyals and Dean 2015, eq. 1 and section 2.1: T² keeps the gradient at the same size
    for every temperature; for high ones it tends to that of matching logits (eq. 4).
    """
    divergence = _divergence(
        torch.log_softmax(teacher.detach() / temperature, dim=1),
        torch.log_softmax(student / temperature, dim=1),
    )
    return temperature**2 * divergence.mean()


def decoupled(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    temperature: Number,
    *,
    target: Number = 1.0,
    others: Number = 8.0,
) -> Tensor:
    """Decoupled distillation, ``T² (target * TCKD + others * NCKD)``.

    Zhao et al., Decoupled knowledge distillation, 2022, eq. 7. TCKD is the divergence over {the
    labelled gesture, all others}, NCKD the one among the others. With ``target`` 1 and ``others``
    the teacher's probability that it is another gesture, the sum is :func:`soft_target` (eq. 6).
    If labels are probabilities, the most probable gesture is the label.

    Args:
        student: Logits, shape ``(window, gesture)``.
        teacher: Logits, same shape.
        labels: Shape ``(window,)`` or ``(window, gesture)``.
        temperature: Above 0.
        target: Weight of TCKD, a number or one for each window; the paper's is 1.
        others: Weight of NCKD, likewise; the paper's is 8 for CIFAR-100.
    """
    gesture = labels if labels.ndim == 1 else labels.argmax(dim=1)
    labelled = gesture[:, None] == torch.arange(student.shape[1], device=student.device)
    teacher_pair, teacher_rest = _decouple(teacher.detach() / temperature, labelled)
    student_pair, student_rest = _decouple(student / temperature, labelled)
    tckd = _divergence(teacher_pair, student_pair)
    nckd = _divergence(teacher_rest, student_rest)
    return temperature**2 * (target * tckd + others * nckd).mean()


def dist(student: Tensor, teacher: Tensor, labels: Tensor, temperature: Number) -> Tensor:
    """DIST: one minus Pearson's correlation, within each window and within each gesture.

    Huang et al., Knowledge distillation from a stronger teacher, 2022, eqs. 8 and 9, in equal
    parts. A correlation is free of scale: its gradient does not shrink as the temperature grows, so
    there is no factor T².
    """
    ours = torch.softmax(student / temperature, dim=1)
    theirs = torch.softmax(teacher.detach() / temperature, dim=1)
    inter = 1 - _correlation(ours, theirs, dim=1)
    intra = 1 - _correlation(ours, theirs, dim=0)
    return inter.mean() + intra.mean()


def standardised(loss: Loss) -> Loss:
    """Wrap a loss: each window's logits are standardised to mean 0 and variance 1 first.

    Sun et al., Logit standardization in knowledge distillation, 2024, algorithms 1 and 2: a student
    need not reach its teacher's scale. With ``alpha`` 0 the scale of the student's logits is then
    arbitrary: its decisions are valid, its confidence is not.
    """

    def wrapped(student: Tensor, teacher: Tensor, labels: Tensor, temperature: Number) -> Tensor:
        return loss(_standardise(student), _standardise(teacher), labels, temperature)

    return wrapped


def teacher_free(student: Tensor, teacher: Tensor, labels: Tensor, temperature: Number) -> Tensor:
    """Soft targets of :func:`virtual_teacher`; the real teacher is ignored.

    Yuan et al., Revisiting knowledge distillation via label smoothing regularization, 2020, their
    Tf-KD_reg.
    """
    gesture = labels if labels.ndim == 1 else labels.argmax(dim=1)
    virtual = virtual_teacher(gesture, student.shape[1]).to(student.dtype)
    return soft_target(student, virtual, labels, temperature)


def virtual_teacher(labels: Tensor, classes: int, *, correct: float = 0.99) -> Tensor:
    """A teacher made from the labels: always right, its remaining probability spread evenly.

    Yuan et al., Revisiting knowledge distillation via label smoothing regularization, 2020, the
    manually designed teacher of their Tf-KD_reg, softened by a temperature like any other (theirs
    is 20). The control of what a real teacher adds to regularisation.

    Args:
        labels: Shape ``(window,)``.
        classes: Number of gestures, at least 2.
        correct: Probability of the labelled gesture, between 0 and 1.

    Returns:
        Log-probabilities, shape ``(window, gesture)``.
    """
    labelled = labels[:, None] == torch.arange(classes, device=labels.device)
    return torch.where(labelled, correct, (1 - correct) / (classes - 1)).log()


FEATURE_LOSSES = ("hint", "relational")
"""Names of the losses that compare features; each goes with the soft targets."""

LOSSES: Registry[Loss] = Registry("loss", SettingsError, reserved=FEATURE_LOSSES)
"""The losses over logits by name."""


def register_loss(name: str) -> Callable[[Loss], Loss]:
    """Add a loss; decorates a function of student's logits, teacher's, labels and temperature.

    It is the soft part alone and returns the mean over windows; ``--alpha`` adds the labels' part.
    It must not branch on values, as students may be trained as one batch.

    Raises:
        SettingsError: The name is taken or is not one plain word.
    """
    return LOSSES.registering(name)


def require_loss(name: str, classes: int) -> None:
    """Refuse an unknown loss, or a plug-in's that gives no scalar with a gradient.

    Raises:
        SettingsError: It is unknown, or does not work for logits ``(4, classes)``.
    """
    if name in FEATURE_LOSSES:
        return
    if name not in LOSSES:
        raise SettingsError(unknown_name("loss", name, (*LOSSES, *FEATURE_LOSSES)))
    if not LOSSES.plugin(name):
        return
    draw = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 4, classes, generator=draw)
    student.requires_grad_()
    with foreign_code(f"loss {name}", "a scalar with a gradient", SettingsError):
        value = LOSSES[name](student, teacher, torch.softmax(teacher, dim=1), torch.tensor(2.0))
        if value.shape != ():
            raise ValueError(f"a tensor of shape {tuple(value.shape)}")
        value.backward()


for _name, _loss in {
    "soft-target": soft_target,
    "decoupled": decoupled,
    "dist": dist,
    "standardised-soft-target": standardised(soft_target),
    "standardised-decoupled": standardised(decoupled),
    "teacher-free": teacher_free,
}.items():
    LOSSES.register(_name, _loss)


def smoothed(targets: Tensor, share: float) -> Tensor:
    """Spread a share of each window's probability over all gestures.

    Szegedy et al., Rethinking the Inception architecture, 2016, section 7; the control of what soft
    targets alone are worth.

    Args:
        targets: Probabilities by the labels, shape ``(window, gesture)``.
        share: 0 for plain labels, below 1.
    """
    return (1 - share) * targets + share / targets.shape[1]


def require_weight(alpha: float) -> None:
    """Refuse a weight of the hard-label loss outside 0 to 1.

    Raises:
        SettingsError: It is outside.
    """
    if not 0 <= alpha <= 1:
        raise SettingsError(
            f"alpha: expected 0 (teacher alone) to 1 (labels alone), got {alpha:g}; it weighs the "
            f"hard-label loss"
        )


def require_temperature(temperature: float) -> None:
    """Refuse a temperature that logits cannot be divided by.

    Raises:
        SettingsError: It is not above 0, or infinite.
    """
    if not 0 < temperature < math.inf:
        raise SettingsError(
            f"temperature: expected a number above 0, got {temperature:g}; 1 leaves the teacher as "
            f"it is, more softens it"
        )


def _divergence(teacher: Tensor, student: Tensor) -> Tensor:
    """Kullback-Leibler divergence of log-probabilities ``(window, n)``, for each window."""
    return (teacher.exp() * (teacher - student)).sum(dim=1)


def _decouple(logits: Tensor, labelled: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities of {labelled gesture, any other}, and of each gesture among the others.

    The second has 0 for the labelled gesture, for teacher and student alike, which adds nothing to
    a divergence.
    """
    whole = torch.log_softmax(logits, dim=1)
    hit = whole.masked_fill(~labelled, 0.0).sum(dim=1)
    miss = torch.logsumexp(whole.masked_fill(labelled, -math.inf), dim=1)
    rest = torch.log_softmax(logits.masked_fill(labelled, -math.inf), dim=1)
    return torch.stack([hit, miss], dim=1), rest.masked_fill(labelled, 0.0)


def _correlation(a: Tensor, b: Tensor, dim: int) -> Tensor:
    a, b = (x - x.mean(dim=dim, keepdim=True) for x in (a, b))
    return F.cosine_similarity(a, b, dim=dim)


def _standardise(logits: Tensor) -> Tensor:
    return F.layer_norm(logits, logits.shape[-1:], eps=1e-12)
