"""What is replayed: a table in a file, or a person's recordings."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from myodistill.datasets.arrays import read_arrays
from myodistill.datasets.foreign import as_signal
from myodistill.datasets.recording import Recording, Signal, SignalSpec
from myodistill.datasets.registry import DATASETS, is_dataset, open_dataset
from myodistill.datasets.trees import File
from myodistill.errors import DataError, shown, unknown_name


def recordings(address: str, spec: SignalSpec) -> Iterator[tuple[str, Signal]]:
    """Yield recordings in order, each with a line about it; that of a file is empty.

    Args:
        address: As of the source ``replay``.
        spec: The signal that is decoded.

    Raises:
        DataError: There is no such file, dataset, person or session, or it is another signal.
    """
    # pathlib's raises for odd paths.
    if is_dataset(address) or not os.path.isfile(address):  # noqa: PTH113
        name = address.partition(",")[0]
        if name == address and name not in DATASETS and not is_dataset(name):
            raise DataError(
                f"replay: expected a recording or a dataset, there is no file {shown(address)}"
            )
        for one in _of_person(address, spec):
            yield f"replay: {one.subject}, session {one.session}, in {one.unit}", one.signal
        return
    path = Path(address)
    file = File(path.name, str(path), path.read_bytes, path)
    arrays = [array for array in read_arrays(file).values() if array.ndim == 2]
    if len(arrays) != 1:
        raise DataError(
            f"replay: expected one (time, channel) table in {shown(address)}, got {len(arrays)}"
        )
    yield "", as_signal(file, arrays[0])


def _of_person(address: str, spec: SignalSpec) -> list[Recording]:
    """Return a person's recordings.

    Raises:
        DataError: The dataset, person or session is unknown, or the signal is another one.
    """
    name, *words = (word.strip() for word in address.split(","))
    if len(words) > 2:
        raise DataError(f"replay: expected DATASET,SUBJECT,SESSION, got {shown(address)}")
    dataset = open_dataset(name)
    people = dataset.subjects()
    if not words and len(people) != 1:
        raise DataError(
            f"replay: expected a person of {shown(name)}, got none; add one, as in "
            f"{name[:40]},{people[0]}"
        )
    person = words[0] if words else people[0]
    if person not in people:
        raise DataError(unknown_name("subject", person, people))
    recordings = dataset.recordings(person)
    if words[1:]:
        sessions = list(dict.fromkeys(one.session for one in recordings))
        if words[1] not in sessions:
            raise DataError(unknown_name("session", words[1], sessions))
        recordings = [one for one in recordings if one.session == words[1]]
    for one in recordings:
        if one.signal.shape[1] != spec.channels or one.sampling_rate != spec.sampling_rate:
            raise DataError(
                f"replay: expected {spec.channels} channels at {spec.sampling_rate:g} Hz, "
                f"{person} has {one.signal.shape[1]} at {one.sampling_rate:g} Hz; choose a person "
                f"of the dataset that the bundle was made for"
            )
    return recordings
