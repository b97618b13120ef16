"""Recordings that ``myodistill data prepare --raw`` has stored: read from memory maps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from myodistill.datasets.dataset import Dataset, Facts
from myodistill.datasets.recording import Annotation, Electrodes, Recording, Signal
from myodistill.errors import DataError, Wanted
from myodistill.readers import read_json, read_parquet

_WANTED = Wanted("a prepared store", advice="remove it and prepare again")
_RECORDINGS = {
    **dict.fromkeys(("subject", "session", "source", "repaired"), "text"),
    **dict.fromkeys(("begin", "end"), "integer"),
}
_ANNOTATIONS = {
    **dict.fromkeys(("subject", "session"), "text"),
    **dict.fromkeys(("recording", "repetition", "gesture", "start", "stop"), "integer"),
}


class StoreFiles(NamedTuple):
    """What lies in the folder of a prepared store; see :class:`~myodistill.signals.store.Store`."""

    signal: Signal
    recordings: pd.DataFrame
    annotations: pd.DataFrame
    about: dict[str, Any]


def read_store(folder: Path) -> StoreFiles:
    """Read the files of a prepared store; its signal is memory-mapped.

    Raises:
        DataError: The folder is no store, or a file of it is damaged.
    """
    about = read_json(folder / "store.json", _WANTED)
    recordings = read_parquet(folder / "recordings.parquet", _WANTED, columns=_RECORDINGS)
    annotations = read_parquet(folder / "annotations.parquet", _WANTED, columns=_ANNOTATIONS)
    with _WANTED.reading(folder):
        signal = np.load(folder / "signal.npy", mmap_mode="r", allow_pickle=False)
        if signal.ndim != 2 or len(signal) != recordings["end"].max():
            raise ValueError(f"signal.npy of shape {signal.shape}")
    return StoreFiles(signal, recordings, annotations, about)


class Stored(Dataset):
    """A prepared store as a dataset: the recordings, subjects and protocol that it was made from.

    Args:
        folder: Of the store.

    Raises:
        DataError: It is no store, or one that was filtered: a run filters by itself.
    """

    def __init__(self, folder: Path) -> None:
        advice = "prepare it again with --raw"
        store = read_store(folder)
        self._signal, self._recordings = store.signal, store.recordings
        self._annotations = store.annotations
        with Wanted("a prepared store", advice=advice).reading(folder):
            facts = dict(store.about["facts"])
            electrodes = dict(facts.pop("electrodes"))
            order = tuple(electrodes.pop("order"))
            for name in ("gestures", "passband", "test_sessions"):
                facts[name] = tuple(facts[name])
            self.facts = Facts(electrodes=Electrodes(**electrodes, order=order), **facts)
            rate = float(store.about["sampling_rate"])
            if rate != self.facts.sampling_rate:
                self.facts = _at(self.facts, rate)
            self._reserved = tuple(store.about["reserved"])
            band = store.about["preparation"]["passband"]
            filtered = None if band is None else f"{float(band[0]):g}-{float(band[1]):g} Hz"
        if filtered is not None:
            raise DataError(
                f"{folder}: expected recordings as they were made, these are filtered to "
                f"{filtered} and a run would filter them again; {advice}"
            )

    def subjects(self) -> tuple[str, ...]:
        """Return the subjects in the store."""
        return tuple(str(subject) for subject in self._recordings["subject"].unique())

    def pretraining_only(self) -> tuple[str, ...]:
        """Return the subjects whom the dataset's protocol reserves for pre-training."""
        return self._reserved

    def recordings(self, subject: str) -> list[Recording]:
        """Return one subject's recordings; their signals are views of the memory map."""
        self._check_subject(subject)
        mine = self._recordings[self._recordings["subject"] == subject]
        made = []
        for row in mine.itertuples():
            notes = self._annotations[self._annotations["recording"] == row.Index]
            annotations = tuple(
                Annotation(start - row.begin, stop - row.begin, gesture, repetition)
                for start, stop, gesture, repetition in notes[
                    ["start", "stop", "gesture", "repetition"]
                ].itertuples(index=False, name=None)
            )
            signal = self._signal[row.begin : row.end]
            made.append(self._make(subject, str(row.session), signal, annotations, str(row.source)))
        return made


def _at(facts: Facts, rate: float) -> Facts:
    """Return a protocol at another sampling rate: windows last as long as before."""
    ratio = rate / facts.sampling_rate
    low, high = facts.passband
    return replace(
        facts,
        sampling_rate=rate,
        samples=round(facts.samples * ratio),
        step=max(round(facts.step * ratio), 1),
        passband=(low, min(high, 0.45 * rate)),
    )
