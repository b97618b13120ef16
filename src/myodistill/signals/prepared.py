"""The prepared store: each recording read, filtered and repaired once, then memory-mapped.

A store is a folder: ``signal.npy`` holds all recordings end to end, ``(time, channel)`` float32;
``recordings.parquet`` and ``annotations.parquet`` say what lies where; ``store.json`` holds the
settings. Windows of any length are views of it. It is named after its settings and the files that
it was made from, so that a changed file or setting makes another store and an unchanged one is
never made twice. People are prepared one by one into parts that appear whole or not at all: an
interrupted run goes on with the next person.

Nothing in it is fitted: scaling and re-centring belong to
:class:`~myodistill.signals.preprocessing.Preprocessing`, which knows who may be looked at.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from myodistill.config import digest
from myodistill.datasets.dataset import Dataset, Facts, require_names
from myodistill.datasets.prepared import read_store
from myodistill.datasets.recording import Repetition, Signal
from myodistill.datasets.registry import open_dataset
from myodistill.errors import DataError, OutputError, shown, unknown_name
from myodistill.files import new_folder, write_text, writing
from myodistill.processes import worker_pool
from myodistill.signals.disk_cache import write_rows
from myodistill.signals.filters import design, filter_mark
from myodistill.signals.preparation import Preparation, prepare_recording
from myodistill.signals.windows import Windows

_FORMAT = 2


@dataclass(frozen=True)
class PreparedStore:
    """A prepared dataset.

    Attributes:
        folder: Where it lies.
        signal: All recordings end to end, ``(time, channel)``, float32, memory-mapped.
        recordings: One row a recording: subject, session, source, begin, end, repaired.
        annotations: One row an annotation: recording, subject, session, repetition, gesture,
            start, stop.
        about: What ``store.json`` says: the dataset, its facts, how it was prepared.
    """

    folder: Path
    signal: Signal = field(repr=False)
    recordings: pd.DataFrame = field(repr=False)
    annotations: pd.DataFrame = field(repr=False)
    about: dict[str, Any] = field(repr=False)

    @property
    def subjects(self) -> tuple[str, ...]:
        """The people in it, in the dataset's order."""
        return tuple(self.recordings["subject"].unique())

    def windows(self, samples: int, step: int, subjects: Iterable[str] | None = None) -> Windows:
        """Lay windows over the recordings of some people, or of all; nothing is copied.

        Args:
            samples: Window length.
            step: Samples from one window to the next.
            subjects: Whose; all where none is given.

        Raises:
            DataError: A person is not in the store, or an annotation is shorter than a window.
        """
        notes = self.annotations
        if subjects is not None:
            wanted = list(subjects)
            absent = [name for name in wanted if name not in self.subjects]
            if absent:
                raise DataError(
                    f"{self.folder}: expected one of {len(self.subjects)} prepared subjects, "
                    f"got '{absent[0]}'; prepare it first"
                )
            notes = notes[notes["subject"].isin(wanted)]
        starts = notes["start"].to_numpy(dtype=np.intp)
        lengths = notes["stop"].to_numpy(dtype=np.intp) - starts
        if len(lengths) and lengths.min() < samples:
            row = notes.iloc[int(lengths.argmin())]
            raise DataError(
                f"{self.folder}: expected at least {samples} samples of gesture {row['gesture']} "
                f"of {row['subject']}/{row['session']} for one window, got {lengths.min()}"
            )
        counts = (lengths - samples) // step + 1
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        keys = notes[["subject", "session", "repetition"]].apply(tuple, axis=1)
        codes, names = pd.factorize(keys)
        return Windows(
            signal=self.signal,
            samples=samples,
            starts=np.repeat(starts, counts) + within * step,
            labels=np.repeat(notes["gesture"].to_numpy(dtype=np.intp), counts),
            repetition_index=np.repeat(codes.astype(np.intp), counts),
            repetitions=tuple(Repetition(str(a), str(b), int(c)) for a, b, c in names),
            filtered=_mark(self.about),
        )


def prepare(
    name: str,
    out: Path,
    preparation: Preparation | None = None,
    *,
    subjects: Iterable[str] = (),
    processes: int = 1,
    dataset: Dataset | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> PreparedStore:
    """Prepare a dataset, or open the store if that was done before.

    Args:
        name: Of the dataset, as :func:`~myodistill.datasets.registry.open_dataset` takes it.
        out: Folder of stores; this one is named within it after its content.
        preparation: How.
        subjects: Whose recordings; all where none is named.
        processes: How many people are prepared at once.
        dataset: The dataset if it is open already.
        tell: Called with where the store lies and what was repaired.

    Raises:
        DataError: A recording is damaged; the people before it are kept for the next run.
        OutputError: The store cannot be written.
    """
    preparation = preparation or Preparation()
    dataset = require_names(dataset) if dataset else open_dataset(name)
    known = dataset.subjects()
    chosen = tuple(dict.fromkeys(subjects)) or known
    for subject in chosen:
        if subject not in known:
            raise DataError(unknown_name("subject", subject, known))
    key = digest(_FORMAT, asdict(preparation), dataset.identity(), chosen)
    folder = out / f"{dataset.facts.name}-{key}"
    if (folder / "store.json").is_file():
        return open_prepared(folder)
    parts = out / f".{folder.name}.parts"
    with writing(parts):
        parts.mkdir(parents=True, exist_ok=True)
        for left in parts.glob(".*"):  # half of what a killed run was writing
            shutil.rmtree(left)
    # Parts left by a run of other files or settings have another name, so none can be mistaken.
    waiting = [i for i, _ in enumerate(chosen) if not (parts / str(i)).is_dir()]
    with tqdm(total=len(chosen), initial=len(chosen) - len(waiting), desc="prepare", disable=None,
              unit="person") as bar:  # fmt: skip
        # Another process opens the dataset by its name: only if that gives the same recordings.
        apart = processes > 1 and len(waiting) > 1
        if apart and open_dataset(name).identity() == dataset.identity():
            with worker_pool(processes) as pool:
                jobs = [
                    pool.submit(_prepare_by_name, name, chosen[i], parts / str(i), preparation)
                    for i in waiting
                ]
                try:
                    for job in as_completed(jobs):
                        job.result()
                        bar.update()
                except BrokenProcessPool as error:
                    raise OutputError(
                        f"{parts}: expected {processes} processes to finish, one was killed, as "
                        f"happens when memory runs out; run again with fewer --processes (who was "
                        f"prepared is kept)"
                    ) from error
        else:
            for i in waiting:
                _prepare_one(dataset, chosen[i], parts / str(i), preparation)
                bar.update()
    reserved = [subject for subject in dataset.pretraining_only() if subject in chosen]
    folders = [parts / str(i) for i in range(len(chosen))]
    # Put together among the parts: what a killed run leaves is all in one place.
    with new_folder(parts / "whole") as new, writing(folder):
        _assemble(new, folders, dataset.facts, reserved, preparation)
    with writing(folder):
        if folder.exists():  # without its store.json it is no store
            shutil.rmtree(folder)
        (parts / "whole").replace(folder)
        shutil.rmtree(parts)
    store = open_prepared(folder)
    repaired = int((store.recordings["repaired"] != "").sum())
    tell(f"{folder}: {len(store.recordings)} recordings, {repaired} with repaired channels")
    return store


def open_prepared(folder: Path) -> PreparedStore:
    """Open a prepared store.

    Raises:
        DataError: The folder is not a store, or a file of it is damaged.
    """
    return PreparedStore(folder, *read_store(folder))


def _mark(about: dict[str, Any]) -> str:
    """Return the mark of a store's filter, as :attr:`Windows.filtered` holds it."""
    how = about["preparation"]
    if how["passband"] is None:
        return ""
    if how["repair"] or how["sampling_rate"]:
        return f"prepared, {digest(how)}"
    band = (float(how["passband"][0]), float(how["passband"][1]))
    return filter_mark(design(about["sampling_rate"], band, mains=how["mains"]))


def _prepare_by_name(name: str, subject: str, part: Path, preparation: Preparation) -> None:
    _prepare_one(open_dataset(name), subject, part, preparation)


def _prepare_one(dataset: Dataset, subject: str, part: Path, preparation: Preparation) -> None:
    """Prepare one person into a folder that appears whole or not at all."""
    dataset.repair = preparation.repair or dataset.repair
    signals: list[Signal] = []
    rows: list[tuple[str, str, str, int, int, str]] = []
    notes: list[tuple[int, str, str, int, int, int, int]] = []
    offset = 0
    for number, recording in enumerate(dataset.recordings(subject)):
        signal, annotations, repaired = prepare_recording(recording, preparation)
        end = offset + len(signal)
        channels = ",".join(map(str, repaired))
        rows.append((subject, recording.session, recording.source, offset, end, channels))
        notes.extend(
            (number, subject, recording.session, note.repetition, note.gesture,
             offset + note.start, offset + note.stop)
            for note in annotations
        )  # fmt: skip
        signals.append(signal)
        offset = end
    if not signals:
        raise DataError(
            f"{dataset.facts.title}: expected recordings of {shown(subject)}, there are none; "
            f"leave this person out with --subjects"
        )
    with new_folder(part) as folder, writing(part):
        _write_signal(folder / "signal.npy", signals)
        _recording_table(rows).to_parquet(folder / "recordings.parquet")
        _annotation_table(notes).to_parquet(folder / "annotations.parquet")


def _recording_table(rows: list[tuple[str, str, str, int, int, str]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["subject", "session", "source", "begin", "end", "repaired"])


def _annotation_table(rows: list[tuple[int, str, str, int, int, int, int]]) -> pd.DataFrame:
    return pd.DataFrame(
        rows,
        columns=["recording", "subject", "session", "repetition", "gesture", "start", "stop"],
    )


def _write_signal(path: Path, signals: Sequence[Signal]) -> None:
    """Write signals end to end as one array."""
    blocks = (
        signal[begin : begin + _ROWS]
        for signal in signals
        for begin in range(0, len(signal), _ROWS)
    )
    write_rows(path, (sum(map(len, signals)), signals[0].shape[1]), blocks)


_ROWS = 2**16


def _assemble(
    folder: Path,
    parts: list[Path],
    facts: Facts,
    reserved: list[str],
    preparation: Preparation,
) -> None:
    """Lay the parts end to end in one file, so that one memory map holds everybody."""
    signals = [np.load(part / "signal.npy", mmap_mode="r") for part in parts]
    recordings, annotations, offset, number = [], [], 0, 0
    for part, signal in zip(parts, signals, strict=True):
        table = pd.read_parquet(part / "recordings.parquet")
        notes = pd.read_parquet(part / "annotations.parquet")
        table[["begin", "end"]] += offset
        notes[["start", "stop"]] += offset
        notes["recording"] += number
        recordings.append(table)
        annotations.append(notes)
        offset += len(signal)
        number += len(table)
    _write_signal(folder / "signal.npy", signals)
    pd.concat(recordings, ignore_index=True).to_parquet(folder / "recordings.parquet")
    pd.concat(annotations, ignore_index=True).to_parquet(folder / "annotations.parquet")
    about = {
        "format": _FORMAT,
        "dataset": facts.name,
        "sampling_rate": preparation.sampling_rate or facts.sampling_rate,
        "facts": facts.to_dict(),
        "reserved": reserved,
        "preparation": asdict(preparation),
    }
    write_text(folder / "store.json", json.dumps(about, indent=1, ensure_ascii=False))
