"""What a student is given so that a decoder can follow its wearer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from myodistill.adaptation import Adaptation
from myodistill.bundle import Bundle
from myodistill.distillation.data import FoldData
from myodistill.distillation.teacher_outputs import predict_outputs
from myodistill.distillation.window_sets import TrainingSet
from myodistill.models.base import split_network
from myodistill.training.batches import Inputs


def adaptable_to_people(student: Bundle, training_set: TrainingSet) -> Bundle:
    """Return a pre-trained student that knows what is common to the training subjects."""
    logits = _logits(student.network, training_set.inputs)
    labels, people = (part.cpu().numpy() for part in (training_set.labels, training_set.subjects))
    return replace(student, adaptation=Adaptation.of_population(logits, labels, people))


def adaptable_to(
    student: Bundle, pretrained: Bundle | None, data: FoldData, subject: str, k: int
) -> Bundle:
    """Return a calibrated student that knows how its person differs from the population.

    Args:
        student: Of the person.
        pretrained: What it began as. Without, or with gestures that only the person has, there is
            no population to know, and the student stays as it is.
        data: Of the fold.
        subject: The person.
        k: Their calibration repetitions.
    """
    population = pretrained.adaptation if pretrained else None
    if population is None:
        return student
    network, repetitions = student.network, len(data.calibrating(subject, k))
    person = data.subject(subject, k)
    if not repetitions:
        if person.fitted_on:
            unlabelled = _logits(network, data.unlabelled(network, person))
            population = population.of_person(unlabelled, None, 0)
        return replace(student, adaptation=population)
    windows = data.calibration_set(network, person, k)
    labels = windows.labels.cpu().numpy()
    personal = population.of_person(_logits(network, windows.inputs), labels, repetitions)
    return replace(student, adaptation=personal)


def _logits(network: nn.Module, inputs: Inputs) -> NDArray[np.float32]:
    """Return the logits of a student for windows, up to what all those of a window share."""
    _, head = split_network(network)
    outputs = predict_outputs(head, inputs, torch.arange(len(inputs)), features=False)
    return np.asarray(outputs.logits.cpu().numpy())
