"""What every dataset tells about itself, and the one interface through which it is read."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

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
from myodistill.errors import DataError, shown
from myodistill.files import plain_name, plain_names

# Folders that a run keeps beside those of its subjects.
_RUN_FOLDERS = ("logs", "unfinished", "teacher-outputs")
_RUN_PREFIX = "pretrain-"


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

    __pydantic_config__ = ConfigDict(extra="forbid")

    def __post_init__(self) -> None:
        plain_name("dataset", self.name)
        where = f"dataset {self.name}"
        sessions = (self.calibration_session, *self.test_sessions)
        if len(set(sessions)) != len(sessions):
            raise DataError(
                f"{where}: expected test sessions that are scored once each and never calibrate, "
                f"got {shown(list(self.test_sessions))} beside {self.calibration_session!r}"
            )
        plain_names("session", sessions)
        if not (math.isfinite(self.sampling_rate) and self.sampling_rate > 0):
            raise DataError(f"{where}: expected a rate in Hz, got {self.sampling_rate}")
        nyquist, (low, high) = self.sampling_rate / 2, self.passband
        if not 0 < low < high <= nyquist:
            raise DataError(
                f"{where}: expected a passband of 0 < low < high up to the Nyquist frequency, "
                f"{nyquist:g} Hz, got {low:g} to {high:g}"
            )
        if min(self.samples, self.step, self.repetitions) < 1:
            raise DataError(
                f"{where}: expected at least 1 sample, step and repetition, "
                f"got {self.samples}, {self.step} and {self.repetitions}"
            )
        if len(set(self.gestures)) != len(self.gestures) or len(self.gestures) < 2:
            raise DataError(
                f"{where}: expected at least 2 gestures with names of their own, "
                f"got {shown(list(self.gestures))}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return dict(_facts().dump_python(self, mode="json"))

    @classmethod
    def from_dict(cls, values: object) -> Facts:
        """Return the facts that :meth:`to_dict` made.

        Raises:
            DataError: A key is missing, unknown, of another type, or makes no sense.
        """
        try:
            return _facts().validate_python(values)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"])) or "facts"
            raise DataError(
                f"facts: {shown(key)}: {first['msg'].lower()}, got {shown(first['input'])}"
            ) from None

    def spec(self, samples: int | None = None) -> SignalSpec:
        """Return the description that models are built from."""
        return SignalSpec(
            self.electrodes, samples or self.samples, self.sampling_rate, self.gestures
        )


@cache
def _facts() -> TypeAdapter[Facts]:
    return TypeAdapter(Facts)


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
        files: list[File] = []
        waiting: list[object] = list(vars(self).values())
        while waiting:
            one = waiting.pop()
            if isinstance(one, File):
                files.append(one)
            elif isinstance(one, dict):
                waiting.extend(one.values())
        return files

    def identity(self) -> str:
        """Return what identifies these recordings: the files' stamps, and how they were made.

        The folder that the files lie in is not part of it.
        """
        stamps = sorted((file.name, file.stamp) for file in self.files())
        return digest(stamps, self._made(), replace(self.facts, home="").to_dict())

    def _made(self) -> object:
        """Return what else the recordings depend on, as JSON-like values."""
        return sorted(
            f"{name}={value!r}"
            for name, value in vars(self).items()
            if name not in ("repair", "facts") and not isinstance(value, dict)
        )

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
        flat: tuple[int, ...] = ()
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
            filled_in=flat,
        )

    def _check_subject(self, subject: str) -> None:
        if subject not in self.subjects():
            raise DataError(
                f"{self.facts.title}: expected one of {len(self.subjects())} subjects "
                f"({', '.join(self.subjects()[:3])}, ...), got {shown(subject)}"
            )


def require_names(dataset: Dataset) -> Dataset:
    """Return the dataset if its subjects' names can name folders of a run.

    Raises:
        DataError: One is not a plain name, or collides with another or with a folder of the run.
    """
    for subject in plain_names("subject", dataset.subjects()):
        name = subject.casefold()
        if name in _RUN_FOLDERS or name.startswith(_RUN_PREFIX):
            raise DataError(
                f"subject: expected a name that no folder of a run has "
                f"({', '.join(_RUN_FOLDERS)}, {_RUN_PREFIX}*), got '{subject}'; "
                f"rename it"
            )
    return dataset


class FilePerGesture(Dataset):
    """A dataset whose authors stored every repetition of every gesture in a file of its own.

    Args:
        files: File by (subject, session, repetition, gesture).
    """

    def __init__(self, files: dict[tuple[str, str, int, int], File]) -> None:
        for (_, _, _, gesture), file in files.items():
            if not 0 <= gesture < len(self.facts.gestures):
                raise DataError(
                    f"{file.location}: expected gesture 0 to {len(self.facts.gestures) - 1} in its "
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
        return self._make(subject, session, signal, notes, file.location)
