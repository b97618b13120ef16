"""What every dataset tells about itself, and the one interface through which it is read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from myodistill.config import digest
from myodistill.datasets.quality import fill_in, flat_channels
from myodistill.datasets.recording import (
    Annotation,
    Electrodes,
    Recording,
    Signal,
    SignalSpec,
)
from myodistill.datasets.trees import File, natural
from myodistill.errors import DataError


@dataclass(frozen=True)
class Facts:
    """What is fixed about a dataset before any file of it is opened.

    Attributes:
        name: Short name, as given to ``--dataset``.
        title: Name in prose.
        electrodes: Layout of the channels.
        sampling_rate: In hertz.
        gestures: Names in label order; the first is rest where there is one.
        unit: Physical unit of the signal, or ``"counts"``.
        samples: Window length of the protocol, in samples.
        step: Window step of the protocol, in samples.
        passband: Edges of the band-pass in hertz.
        mains: Mains frequency where it was recorded, in hertz.
        repetitions: Repetitions in every session.
        calibration_session: The session whose first K repetitions calibrate.
        test_sessions: The sessions that are scored.
        licence: Of the recordings.
        citation: What to cite.
        home: Where the recordings are published.
    """

    name: str
    title: str
    electrodes: Electrodes
    sampling_rate: float
    gestures: tuple[str, ...]
    unit: str
    samples: int
    step: int
    passband: tuple[float, float]
    mains: float
    repetitions: int
    calibration_session: str
    test_sessions: tuple[str, ...]
    licence: str
    citation: str
    home: str

    def spec(self, samples: int | None = None) -> SignalSpec:
        """Return the description that models are built from."""
        return SignalSpec(
            self.electrodes, samples or self.samples, self.sampling_rate, self.gestures
        )


class Dataset(ABC):
    """A dataset at hand: who is in it, and each person's recordings.

    Attributes:
        facts: What is fixed about it.
        repair: Whether flat channels are filled in from their neighbours instead of refused.
    """

    facts: Facts
    repair: bool = False

    @abstractmethod
    def subjects(self) -> tuple[str, ...]:
        """Return the names of all subjects, in natural order."""

    def pretraining_only(self) -> tuple[str, ...]:
        """Return the subjects whom the protocol reserves for pre-training; often none.

        A dataset that reserves some has one fold: these against all others.
        """
        return ()

    @abstractmethod
    def recordings(self, subject: str) -> list[Recording]:
        """Read all recordings of one subject.

        Raises:
            DataError: The subject is unknown, or a file is missing, truncated or malformed.
        """

    def files(self) -> list[File]:
        """Return the files that this object has found; none for generated recordings."""
        found: list[File] = []
        waiting: list[object] = list(vars(self).values())
        while waiting:
            one = waiting.pop()
            if isinstance(one, File):
                found.append(one)
            elif isinstance(one, dict):
                waiting.extend(one.values())
        return found

    def identity(self) -> str:
        """Return what tells these recordings from others: files' stamps, and how it was made."""
        stamps = sorted((file.name, file.stamp) for file in self.files())
        made = sorted(
            f"{name}={value!r}"
            for name, value in vars(self).items()
            if name != "repair" and not isinstance(value, dict)
        )
        return digest(stamps, made, repr(self.facts))

    def _make(
        self,
        subject: str,
        session: str,
        signal: Signal,
        annotations: tuple[Annotation, ...],
        source: str,
    ) -> Recording:
        """Make a recording of this dataset; flat channels are repaired where that is asked for."""
        facts = self.facts
        if self.repair and signal.ndim == 2 and signal.shape[1] == facts.electrodes.channels:
            flat = tuple(int(channel) for channel in flat_channels(signal))
            if flat:
                signal = fill_in(signal, facts.electrodes, flat, source=source)
        return Recording(
            subject=subject,
            session=session,
            signal=signal,
            sampling_rate=facts.sampling_rate,
            electrodes=facts.electrodes,
            gestures=facts.gestures,
            annotations=annotations,
            unit=facts.unit,
            source=source,
        )

    def _check_subject(self, subject: str) -> None:
        if subject not in self.subjects():
            raise DataError(
                f"{self.facts.title}: expected one of {len(self.subjects())} subjects "
                f"({', '.join(self.subjects()[:3])}, ...), got '{subject}'"
            )


class FilePerGesture(Dataset):
    """A dataset whose authors stored every repetition of every gesture in a file of its own.

    Args:
        files: File by (subject, session, repetition, gesture).
    """

    def __init__(self, files: dict[tuple[str, str, int, int], File]) -> None:
        for (_, _, _, gesture), file in files.items():
            if not 0 <= gesture < len(self.facts.gestures):
                raise DataError(
                    f"{file.place}: expected gesture 0 to {len(self.facts.gestures) - 1} in its "
                    f"name, got {gesture}; this is no file of {self.facts.title}"
                )
        self._files = files
        self._subjects = tuple(sorted({key[0] for key in files}, key=natural))

    def subjects(self) -> tuple[str, ...]:
        """Return the names of the subjects at hand."""
        return self._subjects

    def sessions(self, subject: str) -> tuple[str, ...]:
        """Return the sessions that ``subject`` must have."""
        return (self.facts.calibration_session, *self.facts.test_sessions)

    @abstractmethod
    def parse(self, file: File) -> Signal:
        """Read one file as ``(time, channel)``; errors name the file."""

    def recordings(self, subject: str) -> list[Recording]:
        """Read all recordings of one subject, in the order session, repetition, gesture."""
        self._check_subject(subject)
        return [
            self._recording(subject, session, repetition, gesture)
            for session in self.sessions(subject)
            for repetition in range(self.facts.repetitions)
            for gesture in range(len(self.facts.gestures))
        ]

    def _recording(self, subject: str, session: str, repetition: int, gesture: int) -> Recording:
        facts = self.facts
        file = self._files.get((subject, session, repetition, gesture))
        if file is None:
            raise DataError(
                f"{facts.title}: expected repetition {repetition} of gesture {gesture} "
                f"({facts.gestures[gesture]}) in {subject}/{session}, its file is missing; "
                f"fetch the dataset again"
            )
        signal = self.parse(file)
        notes = (Annotation(0, len(signal), gesture, repetition),)
        return self._make(subject, session, signal, notes, file.place)
