"""One history of days with one seed: trains on it, and scores the days that are held out."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from myodistill.bundle import Bundle
from myodistill.distillation.subjects import recentre
from myodistill.evaluation.results import Method
from myodistill.models.base import split_network
from myodistill.models.classical import CLASSICAL, FittedClassifier, fit
from myodistill.models.registry import build
from myodistill.signals.windows import Windows
from myodistill.studies.runner import ExperimentRunner, Row, Until
from myodistill.studies.scorer import Predictions

BASELINE = Method("baseline", "lda-log-covariance")
"""The classical baseline of the protocol over days."""


class DayRunner(ExperimentRunner):
    """Days of one history; without history a student learns from the day's first trial alone."""

    @property
    def _alone(self) -> bool:
        return not self._data.split.pretraining

    def day(self, day: str) -> list[Row]:
        """Train and score everything for one day."""
        rows: list[Row] = []
        for k in self._settings.k:
            predict = partial(self._decide_classically, day, k)
            fitted = (self._key("re-centred with the history"), self._subject_key(day, k))
            rows.append(self._score(BASELINE, day, k, [], predict, fitted))
        return rows + super().subject("distill", day)

    def _networks(self, until: Until, subject: str, k: int) -> list[Row]:
        """Add the distilled students that follow their wearer, where anything of the day is used.

        Their rows are marked ``adapting``.
        """
        rows = super()._networks(until, subject, k)
        for method in self._taught(until, k) if self._data.split.uses_unlabelled else ():
            student = self._calibrated_student(method, subject, k)
            if student.adaptation is not None:
                predict = partial(self._scorer.evaluate, [student], subject, adapt=True)
                row = self._score(method, subject, k, [student], predict, variant="-adapting")
                rows.append(row | {"adapting": True})
        return rows

    def _decide_classically(self, day: str, k: int) -> Predictions:
        """Predict by linear discriminants on the history and, at K = 1, the day's first trial.

        The features are those of the closed-form teacher, re-centred and turned as every network's.
        The first trial then counts as much as the whole history.
        """
        data, split = self._data, self._data.split
        network = build("population", data.spec)
        subject = data.subject(day, k)
        calibration = split.calibration(day, 1) if k else frozenset()
        features, labels, seen = [], [], subject.preprocessing.seen | calibration
        if not self._alone:
            training_set = data.training_set("population")
            everything = torch.arange(len(training_set.labels))
            features.append(training_set.inputs[everything].numpy())
            labels.append(training_set.labels.numpy())
            seen |= training_set.seen
        if k:
            own = data.calibration_set(network, subject, k)
            inputs = own.inputs[torch.arange(len(own.labels))].numpy()
            times = max(1, round(len(labels[0]) / len(own.labels))) if labels else 1
            features += [inputs] * times
            labels += [own.labels.numpy()] * times
        classify = fit(
            CLASSICAL[BASELINE.model],
            np.concatenate(features),
            np.concatenate(labels),
            classes=data.spec.classes,
            seed=self._pipeline.seed,
        )
        recentre(network, subject)
        front, _ = split_network(network)
        assert front is not None

        def predict(windows: Windows) -> NDArray[np.floating]:
            mapped = subject.preprocessing.map(windows).batches()
            parts = [_classified(classify, front(torch.from_numpy(part))) for part in mapped]
            return np.concatenate(parts)

        return self._scorer.decide(BASELINE.model, seen, day, predict)

    def _classical(self) -> list[Method]:
        return []  # the one baseline learns from the history, too

    def _teachers(self) -> list[Bundle]:
        return [] if self._alone else super()._teachers()

    def _untaught(self, until: Until, k: int) -> list[Method]:
        stage = "supervised" if self._alone else "pretrained"
        return [method for method in super()._untaught(until, k) if method.stage == stage]

    def _taught(self, until: Until, k: int) -> list[Method]:
        methods = [] if self._alone else super()._taught(until, k)
        return [method for method in methods if method.stage == "pretrained_distilled"]

    def _print(self, subject: str, k: int, rows: Sequence[Row]) -> None:
        """Nothing: the person and the history are printed with the results."""


def _classified(classify: FittedClassifier, features: torch.Tensor) -> NDArray[np.floating]:
    return classify(features.numpy())
