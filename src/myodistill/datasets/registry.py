"""The datasets by name."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from myodistill.datasets import capgmyo, grabmyo, ninapro
from myodistill.datasets.bids import EmgBids
from myodistill.datasets.capgmyo import CapgMyo
from myodistill.datasets.dataset import Dataset, Facts, require_names
from myodistill.datasets.described import Described
from myodistill.datasets.flexemg import FlexEmg
from myodistill.datasets.grabmyo import GrabMyo
from myodistill.datasets.hyser import Hyser, HyserBids
from myodistill.datasets.longterm import LongTerm
from myodistill.datasets.myo import Myo
from myodistill.datasets.ninapro import Ninapro
from myodistill.datasets.prepared import PreparedDataset
from myodistill.datasets.subject_card import CARD
from myodistill.datasets.subject_store import SubjectStore
from myodistill.datasets.synthetic import Synthetic
from myodistill.datasets.threedc import ThreeDC
from myodistill.errors import DataError
from myodistill.plugins import Registry

T = TypeVar("T")

DATASETS: Registry[Callable[[], Dataset]] = Registry("dataset", DataError)
"""What opens each dataset, by name."""

_OWN: dict[str, Callable[[], Dataset]] = {
    "3dc": ThreeDC,
    "capgmyo-dba": partial(CapgMyo, "a"),
    "capgmyo-dbb": partial(CapgMyo, "b"),
    "capgmyo-dbc": partial(CapgMyo, "c"),
    "flexemg": FlexEmg,
    "grabmyo": GrabMyo,
    "grabmyo-wrist": partial(GrabMyo, "wrist"),
    "hyser": Hyser,
    "hyser-bids": HyserBids,
    "long-term": LongTerm,
    "myo": Myo,
    "ninapro-db1": partial(Ninapro, 1),
    "ninapro-db2": partial(Ninapro, 2),
    "ninapro-db5": partial(Ninapro, 5),
    "ninapro-db6": partial(Ninapro, 6),
    "synthetic": Synthetic,
}
for _name, _open in _OWN.items():
    DATASETS.register(_name, _open)


def register_dataset(name: str) -> Callable[[T], T]:
    """Add a dataset to the catalogue; decorates a :class:`Dataset` or a function that opens one.

    A class with ``facts`` is listed even where its recordings are not at hand.

    Raises:
        DataError: The name is taken, or cannot name a folder.
    """
    return DATASETS.registering(name)


# What is known of a dataset before any file of it is there; generated ones are not listed.
FACTS: dict[str, Facts] = {
    facts.name: facts
    for facts in (
        ThreeDC.facts,
        *map(capgmyo.facts_of, "abc"),
        FlexEmg.facts,
        *map(grabmyo.facts_of, ("forearm", "wrist")),
        Hyser.facts,
        HyserBids.facts,
        LongTerm.facts,
        Myo.facts,
        *map(ninapro.facts_of, (1, 2, 5, 6)),
    )
}


def facts_of(name: str) -> Facts | None:
    """Return what is known of a dataset by its name alone; None if it is not in the catalogue."""
    facts = FACTS.get(name) or getattr(DATASETS.get(name), "facts", None)
    return facts if isinstance(facts, Facts) else None


def is_dataset(name: str) -> bool:
    """Return whether a path is a description, or a folder that is a dataset by itself."""
    return _opener(name) is not None


def _opener(name: str) -> Callable[[], Dataset] | None:
    path = os.path.expanduser(name)  # noqa: PTH111  (pathlib's raises for unknown users)
    if name.endswith((".yaml", ".yml")):
        return partial(Described, Path(path))
    kinds: dict[str, Callable[[Path], Dataset]] = {
        "store.json": PreparedDataset,
        CARD: SubjectStore,
        "dataset_description.json": EmgBids,
    }
    for file, kind in kinds.items():
        # pathlib's raises for a path that no file system takes.
        if os.path.isfile(os.path.join(path, file)):  # noqa: PTH113, PTH118
            return partial(kind, Path(path))
    return None


def open_dataset(name: str) -> Dataset:
    """Open a dataset by name, or one of your own by path.

    If one of your own has a name of the catalogue, ``own-`` is put before it.

    Args:
        name: A name of :data:`DATASETS`; a ``.yaml`` file that describes recordings (see
            :mod:`myodistill.datasets.described`); an EMG-BIDS folder; a prepared store; or a
            person's own folder.

    Raises:
        DataError: The name is unknown, the dataset's files are not found, or a subject's name
            cannot name a folder.
    """
    opener = DATASETS.get(name) or _opener(name) or DATASETS.look_up(name)
    dataset = opener()
    if not isinstance(dataset, Dataset):
        raise DataError(
            f"dataset {name[:80]}: expected a myodistill.datasets.dataset.Dataset, got a "
            f"{type(dataset).__name__}; return one from what is registered"
        )
    # A store bears the name of what it was made from, as its recordings are the same.
    if (
        name not in DATASETS
        and dataset.facts.name in DATASETS
        and not isinstance(dataset, PreparedDataset | SubjectStore)
    ):
        dataset.facts = replace(dataset.facts, name=f"own-{dataset.facts.name}")
    return require_names(dataset)
