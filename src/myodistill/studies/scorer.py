"""What is decided for a held-out subject's test sessions, by networks and classical methods."""

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
from myodistill.signals.features import Features
from myodistill.signals.windows import Indices, Windows, running
from myodistill.splits import unseen_windows

_Fitted = tuple[str, Collection[Repetition]]
"""What decides, and the repetitions that it was fitted on."""


@dataclass(frozen=True)
class Predictions:
    """What was said of some windows.

    Attributes:
        labels: Gesture of each window, shape ``(window,)``.
        probabilities: Of each gesture, shape ``(window, gesture)``.
        owners: Number of the repetition of each window, in the order of the recordings.
        starts: First sample of each window in the subject's recordings laid end to end.
        sessions: Name of the session of each window.
        takes: What was said all through each test recording, between the gestures, too.
        confident: Whether the probabilities are a method's own, so that its unsure decisions can
            be withheld.
    """

    labels: NDArray[np.integer]
    probabilities: NDArray[np.float32]
    repetition_index: NDArray[np.integer]
    starts: NDArray[np.integer]
    sessions: NDArray[np.str_]
    takes: Sequence[DecisionStream]
    confident: bool = True

    @property
    def predicted(self) -> NDArray[np.integer]:
        """The likeliest gesture of each window."""
        return np.asarray(np.argmax(self.probabilities, axis=1))


@dataclass(frozen=True)
class _Test:
    """What a subject is scored on.

    Attributes:
        windows: Of the test repetitions.
        places: Where these are among all windows of the subject.
        everywhere: Windows over the whole test recordings, annotated or not.
    """

    windows: Windows
    places: Indices
    everywhere: Windows


class Scorer:
    """Scores one fold's bundles and classical methods on the test sessions.

    Args:
        fold: Whose held-out subjects.
    """

    def __init__(self, fold: DistillationPipeline) -> None:
        self._fold = fold
        self._opinion = lru_cache(maxsize=16)(self._log_probabilities)
        self._recordings = lru_cache(maxsize=1)(fold.dataset.recordings)
        self._features = lru_cache(maxsize=2 * len(DEFAULT_BASELINES))(self._made)

    def evaluate(self, bundles: Sequence[Bundle], subject: str) -> Predictions:
        """Decide the subject's test sessions by a bundle, or the mean opinion of several.

        Raises:
            LeakageError: One of them has seen a test repetition, or hides what it has seen.
            BundleError: One of them is of another split.
        """
        for bundle in bundles:
            require_scorable(bundle, self._fold.split, subject)
        test = self._test(self._fold.material.people.filtered(subject), subject, _seen(bundles))

        def said(everywhere: bool) -> NDArray[np.float32]:
            opinions = [self._opinion(bundle, subject, everywhere) for bundle in bundles]
            return np.asarray(softmax(sum(opinions) / len(bundles), axis=1), dtype=np.float32)

        return self._answer(subject, test, said)

    def classical(self, name: str, subject: str, k: int) -> Predictions:
        """Calibrate a classical method as everything else is, and decide the test sessions.

        Raises:
            LeakageError: A test repetition calibrates.
        """
        method, split = CLASSICAL[name], self._fold.split
        windows, features = self._features(method.features, subject, False)
        part = split.calibration(subject, k)
        test = self._test(windows, subject, [(name, part)])
        own = [place for place, repetition in enumerate(windows.repetitions) if repetition in part]
        calibration = np.isin(windows.repetition_index, own)
        decide = fit(
            method,
            features[calibration],
            windows.labels[calibration],
            classes=self._fold.spec.classes,
            seed=self._fold.seed,
        )

        def said(everywhere: bool) -> NDArray[np.float32]:
            if everywhere:
                _, others = self._features(method.features, subject, True)
                return decide(others).astype(np.float32)
            return decide(features[test.places]).astype(np.float32)

        return replace(self._answer(subject, test, said), confident=method.is_confident)

    def _test(self, windows: Windows, subject: str, fitted: Sequence[_Fitted]) -> _Test:
        """Return what a subject is scored on, to whatever was fitted on none of it."""
        scored, places = unseen_windows(self._fold.split, windows, subject, fitted)
        return _Test(scored, places, self._everywhere(windows))

    def _answer(
        self, subject: str, test: _Test, said: Callable[[bool], NDArray[np.float32]]
    ) -> Predictions:
        """Put together what is said of the test windows and of whole recordings."""
        tested, everywhere = test.windows, test.everywhere
        probabilities = said(False)
        same = np.array_equal(tested.starts, everywhere.starts)  # files of one gesture each
        stream = probabilities if same else said(True)
        recordings = self._recordings(subject)
        begins = np.cumsum([0, *(len(recording.signal) for recording in recordings)])
        stops = everywhere.starts + everywhere.samples
        takes = [
            DecisionStream(
                stream[mine := everywhere.repetition_index == place],
                (stops[mine] - begins[place]) / recordings[place].sampling_rate,
                notes,
                recordings[place].sampling_rate,
            )
            for place in np.unique(everywhere.repetition_index)
            if (notes := _held(recordings[place]))
        ]
        sessions = np.array([r.session for r in tested.repetitions])[tested.repetition_index]
        return Predictions(
            tested.labels, probabilities, tested.repetition_index, tested.starts, sessions, takes
        )

    def _everywhere(self, windows: Windows) -> Windows:
        """Lay windows over a subject's whole test recordings, as a decoder in operation does."""
        return running(
            windows,
            self._recordings(windows.repetitions[0].subject),
            sessions=self._fold.split.test_sessions,
            step=self._fold.dataset.facts.step,
        )

    def _log_probabilities(
        self, bundle: Bundle, subject: str, everywhere: bool
    ) -> NDArray[np.float32]:
        filtered = self._fold.material.people.filtered(subject)
        test = self._test(filtered, subject, _seen([bundle]))
        logits = torch.from_numpy(bundle.logits(test.everywhere if everywhere else test.windows))
        return np.asarray(torch.log_softmax(logits, dim=1).numpy())

    def _made(self, name: str, subject: str, everywhere: bool) -> tuple[Windows, Features]:
        lay = self._everywhere if everywhere else as_cut
        made, features = FEATURES[name](self._recordings(subject), self._fold.dataset.facts, lay)
        return made.over(made.signal[:0].copy()), features  # it is kept without its signal


def _seen(bundles: Sequence[Bundle]) -> list[_Fitted]:
    return [(f"{bundle.origin['stage']} {bundle.model}", bundle.seen) for bundle in bundles]


def _held(recording: Recording) -> tuple[Annotation, ...]:
    """Return what was held when; where nothing is annotated it is rest, if there is any."""
    rest = rest_of(recording.gestures)
    if recording.annotations or rest is None:
        return recording.annotations
    return (Annotation(0, len(recording.signal), rest, 0),)
