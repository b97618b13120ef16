"""Predictions of networks and classical methods for the test sessions of held-out subjects."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax

from myodistill.bundle import Bundle
from myodistill.datasets.recording import Annotation, Recording, Repetition
from myodistill.distillation.method import DistillationPipeline
from myodistill.evaluation.events import DecisionStream, rest_of
from myodistill.models.classical import CLASSICAL, DEFAULT_BASELINES, FEATURES, as_cut, fit
from myodistill.provenance import require_scorable
from myodistill.realtime.adaptation import GuardedGestureMeans
from myodistill.signals.features import Features
from myodistill.signals.windows import Indices, Windows
from myodistill.signals.windows import running as running_windows
from myodistill.splits import unseen_windows

_Fitted = tuple[str, Collection[Repetition]]
"""Name of a method, and the repetitions that it was fitted on."""


@dataclass(frozen=True)
class Predictions:
    """Predictions for some windows.

    Attributes:
        labels: Gesture of each window, shape ``(window,)``.
        probabilities: Of each gesture, shape ``(window, gesture)``.
        repetition_index: Number of the repetition of each window, in the order of the recordings.
        starts: First sample of each window in the subject's concatenated recordings.
        sessions: Name of the session of each window.
        streams: Decisions throughout each test recording, also between the gestures.
        confident: Whether the method gives probabilities, so that unsure decisions can be
            rejected.
    """

    labels: NDArray[np.integer]
    probabilities: NDArray[np.float32]
    repetition_index: NDArray[np.integer]
    starts: NDArray[np.integer]
    sessions: NDArray[np.str_]
    streams: Sequence[DecisionStream]
    confident: bool = True

    @property
    def predicted(self) -> NDArray[np.integer]:
        """The most probable gesture of each window."""
        return np.asarray(np.argmax(self.probabilities, axis=1))


@dataclass(frozen=True)
class _TestSet:
    """The windows that a subject is scored on.

    Attributes:
        windows: Of the test repetitions.
        indices: Of these among all windows of the subject.
        running: Windows over the whole test recordings, annotated or not.
    """

    windows: Windows
    indices: Indices
    running: Windows


class Scorer:
    """Scores one fold's bundles and classical methods on the test sessions.

    Args:
        pipeline: Of the fold.
    """

    def __init__(self, pipeline: DistillationPipeline) -> None:
        self._pipeline = pipeline
        self._split = pipeline.split
        self._log_probabilities = lru_cache(maxsize=16)(self._predict_log_probabilities)
        self._recordings = lru_cache(maxsize=1)(pipeline.dataset.recordings)
        self._features = lru_cache(maxsize=2 * len(DEFAULT_BASELINES))(self._extract_features)

    def evaluate(
        self, bundles: Sequence[Bundle], subject: str, *, adapt: bool = False
    ) -> Predictions:
        """Predict a subject's test sessions by a bundle, or by the mean logits of several.

        Args:
            bundles: What decides.
            subject: Who is scored.
            adapt: Follow the subject from window to window, by the adaptation of the first bundle.

        Raises:
            LeakageError: One of them has seen a test repetition, or hides what it has seen.
            BundleError: One of them is of another split.
        """
        for bundle in bundles:
            require_scorable(bundle, self._split, subject)
        windows = self._pipeline.data.subjects.filtered(subject)
        test_set = self._test_set(windows, subject, _fitted(bundles))

        def predict(running: bool) -> NDArray[np.float32]:
            each = [self._log_probabilities(bundle, subject, running) for bundle in bundles]
            logits = np.asarray(sum(each) / len(bundles), dtype=np.float32)
            if adapt:
                assert bundles[0].adaptation is not None
                adapter = GuardedGestureMeans(bundles[0].adaptation)
                logits = np.stack([adapter.adapt(one) for one in logits])
            return np.asarray(softmax(logits, axis=1), dtype=np.float32)

        return self._predictions(subject, test_set, predict)

    def classical(self, name: str, subject: str, k: int) -> Predictions:
        """Calibrate a classical method on ``k`` repetitions, and predict the test sessions.

        Raises:
            LeakageError: A test repetition is among them.
        """
        method, split = CLASSICAL[name], self._split
        windows, features = self._features(method.features, subject, False)
        repetitions = split.calibration(subject, k)
        test_set = self._test_set(windows, subject, [(name, repetitions)])
        numbers = [n for n, one in enumerate(windows.repetitions) if one in repetitions]
        in_calibration = np.isin(windows.repetition_index, numbers)
        classify = fit(
            method,
            features[in_calibration],
            windows.labels[in_calibration],
            classes=self._pipeline.spec.classes,
            seed=self._pipeline.seed,
        )

        def predict(running: bool) -> NDArray[np.float32]:
            if running:
                _, all_features = self._features(method.features, subject, True)
                return classify(all_features).astype(np.float32)
            return classify(features[test_set.indices]).astype(np.float32)

        return replace(self._predictions(subject, test_set, predict), confident=method.is_confident)

    def decide(
        self,
        what: str,
        seen: Collection[Repetition],
        subject: str,
        predict: Callable[[Windows], NDArray[np.floating]],
    ) -> Predictions:
        """Predict a subject's test sessions by any function of filtered windows.

        Args:
            what: What was fitted, for the message.
            seen: All repetitions that it was fitted on.
            subject: Who is scored.
            predict: Returns probabilities, ``(window, gesture)``.

        Raises:
            LeakageError: A test repetition is among ``seen``.
        """
        windows = self._pipeline.data.subjects.filtered(subject)
        test_set = self._test_set(windows, subject, [(what, seen)])
        return self._predictions(
            subject,
            test_set,
            lambda running: predict(test_set.running if running else test_set.windows).astype(
                np.float32
            ),
        )

    def _test_set(self, windows: Windows, subject: str, fitted: Sequence[_Fitted]) -> _TestSet:
        """Return the windows to score; refuse what was fitted on one of their repetitions."""
        scored, indices = unseen_windows(self._split, windows, subject, fitted)
        return _TestSet(scored, indices, self._running(windows))

    def _predictions(
        self, subject: str, test_set: _TestSet, predict: Callable[[bool], NDArray[np.float32]]
    ) -> Predictions:
        """Predict the test windows, and the whole test recordings.

        Args:
            subject: Who is scored.
            test_set: Of the subject.
            predict: Returns probabilities ``(window, gesture)``; of the windows over whole
                recordings if it is passed True.
        """
        tested, running = test_set.windows, test_set.running
        probabilities = predict(False)
        same = np.array_equal(tested.starts, running.starts)  # files of one gesture each
        of_running = probabilities if same else predict(True)
        recordings = self._recordings(subject)
        begins = np.cumsum([0, *(len(recording.signal) for recording in recordings)])
        stops = running.starts + running.samples
        streams = [
            DecisionStream(
                of_running[mask := running.repetition_index == index],
                (stops[mask] - begins[index]) / recordings[index].sampling_rate,
                annotations,
                recordings[index].sampling_rate,
            )
            for index in np.unique(running.repetition_index)
            if (annotations := _annotations(recordings[index]))
        ]
        sessions = np.array([r.session for r in tested.repetitions])[tested.repetition_index]
        return Predictions(
            tested.labels, probabilities, tested.repetition_index, tested.starts, sessions, streams
        )

    def _running(self, windows: Windows) -> Windows:
        """Cut windows over a subject's whole test recordings, as a decoder in operation does."""
        return running_windows(
            windows,
            self._recordings(windows.repetitions[0].subject),
            sessions=self._split.test_sessions,
            step=self._pipeline.dataset.facts.step,
        )

    def _predict_log_probabilities(
        self, bundle: Bundle, subject: str, running: bool
    ) -> NDArray[np.float32]:
        filtered = self._pipeline.data.subjects.filtered(subject)
        test_set = self._test_set(filtered, subject, _fitted([bundle]))
        windows = test_set.running if running else test_set.windows
        logits = torch.from_numpy(bundle.logits(windows))
        return np.asarray(torch.log_softmax(logits, dim=1).numpy())

    def _extract_features(self, name: str, subject: str, running: bool) -> tuple[Windows, Features]:
        cut = self._running if running else as_cut
        facts = self._pipeline.dataset.facts
        windows, features = FEATURES[name](self._recordings(subject), facts, cut)
        return windows.over(windows.signal[:0].copy()), features  # cached without the signal


def _fitted(bundles: Sequence[Bundle]) -> list[_Fitted]:
    return [(f"{bundle.origin['stage']} {bundle.model}", bundle.seen) for bundle in bundles]


def _annotations(recording: Recording) -> tuple[Annotation, ...]:
    """Return the annotations; a recording without any is all rest, if the gestures include rest."""
    rest = rest_of(recording.gestures)
    if recording.annotations or rest is None:
        return recording.annotations
    return (Annotation(0, len(recording.signal), rest, 0),)
