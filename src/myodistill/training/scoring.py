"""What is decided for a held-out subject's test sessions, by networks and classical methods."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax

from myodistill.deploy.bundle import Bundle
from myodistill.deploy.provenance import require_scorable
from myodistill.evaluation.events import Take
from myodistill.models.classical import CLASSICAL, FEATURES, FLOORS, as_cut, fit
from myodistill.signals.features import Features
from myodistill.signals.windows import Windows, running
from myodistill.training.stages import Fold


@dataclass(frozen=True)
class Answer:
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
    owners: NDArray[np.integer]
    starts: NDArray[np.integer]
    sessions: NDArray[np.str_]
    takes: Sequence[Take]
    confident: bool = True

    @property
    def predicted(self) -> NDArray[np.integer]:
        """The likeliest gesture of each window."""
        return np.asarray(np.argmax(self.probabilities, axis=1))


class Scorer:
    """Scores one fold's bundles and classical methods on the test sessions.

    Args:
        fold: Whose held-out subjects.
    """

    def __init__(self, fold: Fold) -> None:
        self._fold = fold
        self._opinion = lru_cache(maxsize=16)(self._log_probabilities)
        self._recordings = lru_cache(maxsize=1)(fold.dataset.recordings)
        self._features = lru_cache(maxsize=2 * len(FLOORS))(self._made)

    def evaluate(self, bundles: Sequence[Bundle], subject: str) -> Answer:
        """Decide the subject's test sessions by a bundle, or the mean opinion of several.

        Raises:
            LeakageError: One of them has seen a test repetition, or hides what it has seen.
            BundleError: One of them is of another split.
        """
        test = self._fold.split.test(subject)
        for bundle in bundles:
            require_scorable(bundle, self._fold.split, subject)

        def said(everywhere: bool) -> NDArray[np.float32]:
            opinions = [self._opinion(bundle, subject, everywhere) for bundle in bundles]
            return np.asarray(softmax(sum(opinions) / len(bundles), axis=1), dtype=np.float32)

        filtered = self._fold.material.people.filtered(subject)
        return self._answer(subject, filtered.select(test), self._everywhere(filtered), said)

    def classical(self, name: str, subject: str, k: int) -> Answer:
        """Calibrate a classical method as everything else is, and decide the test sessions."""
        method, split = CLASSICAL[name], self._fold.split
        windows, features = self._features(method.features, subject, False)
        calibration, test = (
            np.isin(windows.owners, [i for i, r in enumerate(windows.repetitions) if r in part])
            for part in (split.calibration(subject, k), split.test(subject))
        )
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
            return decide(features[test]).astype(np.float32)

        tested = windows.take(np.flatnonzero(test))
        found = self._answer(subject, tested, self._everywhere(windows), said)
        return replace(found, confident=method.is_confident)

    def _answer(
        self,
        subject: str,
        tested: Windows,
        everywhere: Windows,
        said: Callable[[bool], NDArray[np.float32]],
    ) -> Answer:
        """Put together what is said of the test windows and of whole recordings."""
        probabilities = said(False)
        same = np.array_equal(tested.starts, everywhere.starts)  # files of one gesture each
        stream = probabilities if same else said(True)
        recordings = self._recordings(subject)
        begins = np.cumsum([0, *(len(recording.signal) for recording in recordings)])
        stops = everywhere.starts + everywhere.samples
        takes = [
            Take(
                stream[mine := everywhere.owners == place],
                (stops[mine] - begins[place]) / recordings[place].sampling_rate,
                recordings[place].annotations,
                recordings[place].sampling_rate,
            )
            for place in np.unique(everywhere.owners)
        ]
        sessions = np.array([r.session for r in tested.repetitions])[tested.owners]
        return Answer(tested.labels, probabilities, tested.owners, tested.starts, sessions, takes)

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
        windows = self._fold.material.people.filtered(subject)
        test = self._fold.split.test(subject)
        read = self._everywhere(windows) if everywhere else windows.select(test)
        logits = torch.from_numpy(bundle.logits(read))
        return np.asarray(torch.log_softmax(logits, dim=1).numpy())

    def _made(self, name: str, subject: str, everywhere: bool) -> tuple[Windows, Features]:
        lay = self._everywhere if everywhere else as_cut
        return FEATURES[name](self._recordings(subject), self._fold.dataset.facts, lay)
