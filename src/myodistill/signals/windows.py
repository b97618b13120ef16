"""Windows as views: each recording is stored once, a window is a position in it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from myodistill.datasets.recording import Recording, Repetition, Signal
from myodistill.errors import DataError

Indices = NDArray[np.intp]


@dataclass(frozen=True)
class Windows:
    """Labelled windows over recordings laid end to end.

    Selecting windows shares the signal; only :meth:`gather` copies.

    Attributes:
        signal: All recordings end to end, shape ``(time, channel)``, float32.
        samples: Length of a window.
        starts: First sample of each window, shape ``(window,)``.
        labels: Gesture of each window, shape ``(window,)``.
        repetition_index: Index into ``repetitions`` for each window, shape ``(window,)``.
        repetitions: The repetitions that the windows come from.
        filtered: What was done to the signal: empty for a raw one, else
            :func:`~myodistill.signals.filters.filter_mark` of its filter.
    """

    signal: Signal
    samples: int
    starts: Indices
    labels: Indices
    repetition_index: Indices
    repetitions: tuple[Repetition, ...]
    filtered: str = ""

    def __len__(self) -> int:
        return len(self.starts)

    def every_position(self) -> Signal:
        """View of every possible window, shape ``(position, channel, time)``; nothing is copied."""
        return np.lib.stride_tricks.sliding_window_view(self.signal, self.samples, axis=0)

    def gather(self, indices: Indices | slice = slice(None)) -> Signal:
        """Copy windows into a batch, shape ``(window, channel, time)``, float32.

        Where the signal lies sample by sample in memory, each window is one block and is copied
        as such: the batch is then a view with time before channel in memory.
        """
        if not self.signal.flags.c_contiguous:
            return self.every_position()[self.starts[indices]]
        rows, channels = self.signal.shape
        blocks = np.lib.stride_tricks.as_strided(
            self.signal,
            (max(rows - self.samples + 1, 0), self.samples * channels),
            (self.signal.strides[0], self.signal.strides[1]),
            writeable=False,
        )
        batch = blocks[self.starts[indices]]
        return batch.reshape(-1, self.samples, channels).transpose(0, 2, 1)

    def batches(self) -> Iterator[Signal]:
        """Copy all windows, as many at a time as :func:`at_once` says."""
        size = at_once(self.samples, self.signal.shape[1])
        for begin in range(0, len(self), size):
            yield self.gather(slice(begin, begin + size))

    def seen(self) -> frozenset[Repetition]:
        """Return the repetitions that have a window here."""
        return frozenset(self.repetitions[index] for index in np.unique(self.repetition_index))

    def select(self, repetitions: Collection[Repetition]) -> Windows:
        """Return the windows of some repetitions.

        Raises:
            DataError: One of them has no window here.
        """
        wanted = set(repetitions)
        absent = wanted - self.seen()
        if absent:
            raise DataError(
                f"windows: expected windows of {min(absent)}, there are none; "
                f"it was not recorded or not loaded"
            )
        mine = np.array([repetition in wanted for repetition in self.repetitions])
        return self.take(np.flatnonzero(mine[self.repetition_index]))

    def over(self, signal: Signal) -> Windows:
        """Return the same positions in another signal of the same length."""
        return replace(self, signal=signal)

    def trimmed(self) -> Windows:
        """Return the same windows over no more of the signal than they span."""
        begin, stop = int(self.starts.min()), int(self.starts.max()) + self.samples
        return replace(self, signal=self.signal[begin:stop], starts=self.starts - begin)

    def take(self, indices: Indices) -> Windows:
        """Return some windows by index, in that order."""
        return replace(
            self,
            starts=self.starts[indices],
            labels=self.labels[indices],
            repetition_index=self.repetition_index[indices],
        )


def at_once(samples: int, channels: int) -> int:
    """Return how many windows make 1 MiB, which a processor's cache holds with what comes of them.

    Args:
        samples: Length of a window.
        channels: Number of them.
    """
    return max(1, 2**18 // (samples * channels))


def cut(
    recordings: Sequence[Recording],
    signals: Sequence[Signal],
    *,
    samples: int,
    step: int,
    filtered: str = "",
) -> Windows:
    """Cut recordings into windows, none of which straddles two annotations.

    Args:
        recordings: Where the annotations come from.
        signals: What to cut for each recording: its signal after filtering, ``(time, channel)``.
        samples: Window length.
        step: Samples from one window to the next.
        filtered: What was done to the signals, as in :class:`Windows`.

    Raises:
        DataError: There is no recording, or an annotation is shorter than a window.
    """
    if not recordings:
        raise DataError("windows: expected at least one recording, got none")
    starts: list[Indices] = []
    labels: list[int] = []
    repetition_index: list[int] = []
    codes: dict[Repetition, int] = {}
    offset = 0
    for recording, signal in zip(recordings, signals, strict=True):
        for note in recording.annotations:
            if note.stop - note.start < samples:
                raise DataError(
                    f"{recording.source or recording.subject}: expected at least {samples} samples "
                    f"of gesture {note.gesture} for one window, got {note.stop - note.start}; "
                    f"the recording is truncated, fetch it again"
                )
            note_starts = np.arange(note.start, note.stop - samples + 1, step) + offset
            repetition = Repetition(recording.subject, recording.session, note.repetition)
            starts.append(note_starts)
            labels.extend([note.gesture] * len(note_starts))
            repetition_index.extend([codes.setdefault(repetition, len(codes))] * len(note_starts))
        offset += len(signal)
    return Windows(
        signal=np.ascontiguousarray(np.concatenate(signals)),
        samples=samples,
        starts=np.concatenate(starts),
        labels=np.array(labels, dtype=np.intp),
        repetition_index=np.array(repetition_index, dtype=np.intp),
        repetitions=tuple(codes),
        filtered=filtered,
    )


def running(
    windows: Windows, recordings: Sequence[Recording], *, sessions: Collection[str], step: int
) -> Windows:
    """Lay windows over whole recordings, annotated or not, as a decoder in operation meets them.

    Args:
        windows: Over all of ``recordings``, in their order.
        recordings: Of one person.
        sessions: Those that are run over.
        step: Samples from one window to the next; the first begins with its recording.

    Returns:
        Windows over the same signal without labels (-1); here ``repetition_index`` is the index of
        each window's recording in ``recordings``, not of a repetition.

    Raises:
        DataError: No recording of these sessions is as long as a window.
    """
    starts: list[Indices] = []
    recording_index: list[Indices] = []
    offset = 0
    for index, recording in enumerate(recordings):
        length = len(recording.signal)
        if recording.session in sessions:
            starts.append(np.arange(0, length - windows.samples + 1, step) + offset)
            recording_index.append(np.full(len(starts[-1]), index))
        offset += length
    if not sum(map(len, starts)):
        raise DataError(
            f"windows: expected a recording of at least {windows.samples} samples in "
            f"{', '.join(sessions)}, there is none; it was not recorded or not loaded"
        )
    joined = np.concatenate(starts)
    return replace(
        windows,
        starts=joined,
        labels=np.full(len(joined), -1),
        repetition_index=np.concatenate(recording_index),
        repetitions=(),
    )
