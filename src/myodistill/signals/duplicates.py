"""The same signal under two names: a copied recording would be both trained and tested on.

A signal is known by fingerprints (Schleimer, Wilkerson and Aiken, Winnowing: local algorithms for
document fingerprinting, SIGMOD 2003): of the hashes of all pieces of half a window the least of
every half window is kept. Signals that share a whole window share a fingerprint, wherever the
window lies in either.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import minimum_filter1d

from myodistill.datasets.recording import Recording, Repetition, Signal
from myodistill.errors import LeakageError

Hashes = NDArray[np.uint64]

_SHARE = 0.5
"""Share of the shorter stretch's fingerprints that the other must hold, too."""

_SHIFT = np.uint64(11)
"""What is left of a hash is exact as a floating-point number."""

_ODD = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class _Stretch:
    repetition: Repetition
    gesture: int
    prints: Hashes


class DuplicateFinder:
    """Annotated stretches of signals, and which of them are the same.

    Args:
        samples: Length of a window.
    """

    def __init__(self, samples: int) -> None:
        self._piece = max(samples // 2, 1)
        self._stretches: list[_Stretch] = []

    def add(self, recordings: Sequence[Recording]) -> None:
        """Add the recordings of one subject."""
        for recording in recordings:
            rows = _rows(recording.signal)
            for note in recording.annotations:
                repetition = Repetition(recording.subject, recording.session, note.repetition)
                prints = _fingerprints(rows[note.start : note.stop], self._piece)
                self._stretches.append(_Stretch(repetition, note.gesture, prints))

    def to_arrays(self) -> tuple[list[tuple[str, str, int, int, int]], Hashes]:
        """Return what :meth:`from_arrays` takes.

        Returns:
            Subject, session, repetition, gesture and number of fingerprints of each stretch, and
            all fingerprints end to end.
        """
        rows = [
            (r.subject, r.session, r.index, stretch.gesture, len(stretch.prints))
            for stretch in self._stretches
            for r in (stretch.repetition,)
        ]
        return rows, np.concatenate([np.zeros(0, np.uint64), *(s.prints for s in self._stretches)])

    @classmethod
    def from_arrays(
        cls, samples: int, rows: Sequence[tuple[str, str, int, int, int]], prints: Hashes
    ) -> DuplicateFinder:
        """Rebuild from :meth:`to_arrays`."""
        finder, begin = cls(samples), 0
        for subject, session, index, gesture, count in rows:
            part = prints[begin : begin + count]
            finder._stretches.append(_Stretch(Repetition(subject, session, index), gesture, part))
            begin += count
        if begin != len(prints):
            raise ValueError(f"{len(prints)} fingerprints where {begin} are listed")
        return finder

    def copy(self) -> DuplicateFinder:
        """Return another finder that knows the same stretches."""
        other = copy.copy(self)
        other._stretches = list(self._stretches)
        return other

    def require_none(self) -> None:
        """Refuse a signal that appears in two repetitions.

        A stretch within another shares all its fingerprints with it; half of them are asked for,
        as ends may have been cut.

        Raises:
            LeakageError: There is one; the line names both repetitions.
        """
        sizes = [len(stretch.prints) for stretch in self._stretches]
        if not sum(sizes):
            return
        prints = np.concatenate([stretch.prints for stretch in self._stretches])
        stretch_index = np.repeat(np.arange(len(sizes)), sizes)
        order = np.lexsort((stretch_index, prints))
        prints, stretch_index = prints[order], stretch_index[order]
        common = np.flatnonzero(prints[1:] == prints[:-1])
        pairs = Counter(
            zip(
                stretch_index[common].tolist(),
                stretch_index[common + 1].tolist(),
                strict=True,
            )
        )
        for (one, other), count in pairs.items():
            here, there = self._stretches[one], self._stretches[other]
            if here.repetition == there.repetition:
                continue
            if count >= _SHARE * min(sizes[one], sizes[other]):
                raise LeakageError(
                    f"leakage: expected every repetition to be a recording of its own, gesture "
                    f"{here.gesture} of {here.repetition} and gesture {there.gesture} of "
                    f"{there.repetition} are the same signal; leave one of the copies out"
                )


def _rows(signal: Signal) -> Hashes:
    """Hash each sample of all channels, shape ``(time,)``."""
    bits = np.ascontiguousarray(signal, dtype=np.float32).view(np.uint32).astype(np.uint64)
    weights = np.random.default_rng(0).integers(1, 2**63, bits.shape[1], dtype=np.uint64) * 2 + 1
    return _mixed((_mixed(bits) * weights).sum(axis=1, dtype=np.uint64))


def _mixed(values: Hashes) -> Hashes:
    """Spread every bit over all others (the finaliser of MurmurHash3)."""
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        values = (values ^ (values >> np.uint64(33))) * np.uint64(factor)
    return values ^ (values >> np.uint64(33))


def _fingerprints(rows: Hashes, piece: int) -> Hashes:
    """Return the fingerprints of a stretch; none where the signal is constant."""
    moved = np.r_[0, np.cumsum(rows[1:] != rows[:-1])]
    if len(rows) < 2 * piece or moved[-1] < piece // 2:
        return rows[:0]
    powers = np.cumprod(np.full(len(rows), _ODD))
    sums = np.r_[np.uint64(0), np.cumsum(rows * powers)]
    inverse = np.cumprod(np.full(len(rows) - piece + 1, pow(int(_ODD), -1, 2**64), np.uint64))
    hashes = (_mixed((sums[piece:] - sums[:-piece]) * inverse) >> _SHIFT).astype(np.float64)
    # A pause looks alike everywhere: what changes in fewer than half of its samples is no witness.
    hashes[moved[piece - 1 :] - moved[: len(hashes)] < piece // 2] = np.inf
    least = minimum_filter1d(hashes, piece, origin=-(piece // 2))[: len(hashes) - piece + 1]
    whole = _mixed(sums[-1:] + np.uint64(len(rows))) >> _SHIFT
    return np.append(np.unique(least[np.isfinite(least)]).astype(np.uint64), whole)
