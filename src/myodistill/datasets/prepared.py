"""Recordings that ``myodistill data prepare --raw`` has stored: read from memory maps."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from myodistill.datasets.dataset import Dataset, Facts
from myodistill.datasets.limits import ALLOWANCE, MOST_ROWS
from myodistill.datasets.recording import Annotation, Recording, Signal
from myodistill.datasets.trees import File
from myodistill.errors import DataError
from myodistill.files import plain_names


class PreparedFiles(NamedTuple):
    """The files of a prepared store, :class:`~myodistill.signals.prepared.PreparedStore`."""

    signal: Signal
    recordings: pd.DataFrame
    annotations: pd.DataFrame
    about: dict[str, Any]


_FILES = ("store.json", "signal.npy", "recordings.parquet", "annotations.parquet")
_RECORDINGS = {"subject": "O", "session": "O", "source": "O", "begin": "i", "end": "i"}
_ANNOTATIONS = dict.fromkeys(("recording", "repetition", "gesture", "start", "stop"), "i")
_ANNOTATIONS |= {"subject": "O", "session": "O"}


def read_store(folder: Path) -> PreparedFiles:
    """Read the files of a prepared store; its signal is memory-mapped.

    Raises:
        DataError: The folder is not a store, or a file of it is damaged.
    """
    try:
        about = json.loads((folder / "store.json").read_text(encoding="utf-8"))
        signal = np.load(folder / "signal.npy", mmap_mode="r", allow_pickle=False)
        recordings = _table(folder / "recordings.parquet", _RECORDINGS)
        annotations = _table(folder / "annotations.parquet", _ANNOTATIONS)
        if not isinstance(about, dict) or "facts" not in about:
            raise KeyError("facts")
        if signal.ndim != 2 or signal.dtype != np.float32:
            raise ValueError(f"signal.npy of shape {signal.shape} and {signal.dtype}")
        plain_names("subject", recordings["subject"].unique())
        plain_names("session", recordings["session"].unique())
        _require_within(len(signal), recordings, annotations)
    except Exception as error:
        reason = " ".join(str(error).split())[:160]
        raise DataError(
            f"{folder}: expected a prepared store, got: {reason}; remove it and prepare again"
        ) from error
    return PreparedFiles(signal, recordings, annotations, about)


def _table(path: Path, columns: dict[str, str]) -> pd.DataFrame:
    """Read a table that has no more rows, and takes no more memory, than a store's could."""
    about = pq.read_metadata(path)
    groups = [about.row_group(i).total_byte_size for i in range(about.num_row_groups)]
    if about.num_rows > MOST_ROWS or sum(groups) > ALLOWANCE * 16:
        raise ValueError(f"{path.name} of {about.num_rows} rows and {sum(groups)} bytes")
    table = pd.read_parquet(path)
    kinds = {name: str(table[name].to_numpy().dtype.kind) for name in columns if name in table}
    if kinds != columns:
        raise ValueError(f"{path.name} with columns {', '.join(map(str, table.columns))}")
    return table


def _require_within(length: int, recordings: pd.DataFrame, annotations: pd.DataFrame) -> None:
    """Refuse recordings that do not fill the signal, and annotations outside their recording."""
    begin, end = recordings["begin"].to_numpy(), recordings["end"].to_numpy()
    if length == 0 or (begin >= end).any() or begin[0] != 0 or end[-1] != length:
        raise ValueError(f"recordings that do not fill the {length} samples of signal.npy")
    if (begin[1:] != end[:-1]).any():
        raise ValueError("recordings that do not follow each other")
    of = annotations["recording"].to_numpy()
    if len(of) and not 0 <= of.min() <= of.max() < len(recordings):
        raise ValueError("annotations of no recording")
    start, stop = annotations["start"].to_numpy(), annotations["stop"].to_numpy()
    if ((start < begin[of]) | (stop > end[of])).any():
        raise ValueError("annotations that lie outside their recording")
    for name in ("subject", "session"):
        if (annotations[name].to_numpy() != recordings[name].to_numpy()[of]).any():
            raise ValueError(f"annotations with the {name} of another recording")


class PreparedDataset(Dataset):
    """A prepared store as a dataset: the recordings, subjects and protocol that it was made from.

    Args:
        folder: Of the store.

    Raises:
        DataError: It is not a store, or a filtered one: a run does its own filtering.
    """

    def __init__(self, folder: Path) -> None:
        advice = "prepare it again with --raw"
        self._folder = folder
        store = read_store(folder)
        self._signal, self._recordings = store.signal, store.recordings
        self._annotations = store.annotations
        self._files = {name: _file(folder / name) for name in _FILES}
        self.facts = Facts.from_dict(store.about["facts"])
        try:
            rate = float(store.about["sampling_rate"])
            self._reserved = tuple(map(str, store.about["reserved"]))
            filtered = store.about["preparation"]["passband"]
            band = "" if filtered is None else "-".join(f"{float(edge):g}" for edge in filtered)
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{folder}: expected a prepared store, got: {str(error)[:80]}; {advice}"
            ) from error
        if filtered is not None:
            raise DataError(
                f"{folder}: expected recordings as they were made, these are filtered to "
                f"{band} Hz and a run would filter them again; {advice}"
            )
        if rate != self.facts.sampling_rate:
            self.facts = _at(self.facts, rate)

    def _made(self) -> object:
        return self._reserved  # all else lies in the files

    def subjects(self) -> tuple[str, ...]:
        """Return the subjects in the store."""
        return tuple(str(subject) for subject in self._recordings["subject"].unique())

    def pretraining_only(self) -> tuple[str, ...]:
        """Return the subjects whom the dataset's protocol reserves for pre-training."""
        return self._reserved

    def recordings(self, subject: str) -> list[Recording]:
        """Return one subject's recordings; their signals are views of the memory map."""
        self._check_subject(subject)
        # A map of its own, so that what is read of it is not resident for longer than this person.
        whole = np.load(self._folder / "signal.npy", mmap_mode="r", allow_pickle=False)
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
            signal = whole[row.begin : row.end]
            made.append(self._make(subject, str(row.session), signal, annotations, str(row.source)))
        return made


def _file(path: Path) -> File:
    status = path.stat()
    return File(
        path.name, str(path), path.read_bytes, path, f"{status.st_mtime_ns}:{status.st_size}"
    )


def _at(facts: Facts, rate: float) -> Facts:
    """Return a protocol at another sampling rate: windows last as long as before."""
    ratio = rate / facts.sampling_rate
    low, high = facts.passband
    return replace(
        facts,
        sampling_rate=rate,
        samples=max(round(facts.samples * ratio), 1),
        step=max(round(facts.step * ratio), 1),
        passband=(low, min(high, 0.45 * rate)),
    )
