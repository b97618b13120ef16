"""One population of the people of several."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from myodistill.datasets.registry import open_dataset
from myodistill.datasets.union import Union
from myodistill.distillation.population import Population, of_training, pretrain
from myodistill.errors import PopulationError, SettingsError


def merge_populations(populations: Sequence[Path | str], out: Path | str) -> Population:
    """Train a population on everybody of several, with the settings of the first.

    A population holds no recordings: the datasets that they were made of have to be at hand.

    Args:
        populations: Their folders.
        out: Folder of the new one.

    Raises:
        DataError: A dataset is not at hand, or electrodes, rate, unit or gestures differ.
        LeakageError: Two people have the same recording.
        PopulationError: A population is damaged, or its dataset is no longer what it was.
    """
    if len(populations) < 2:
        raise SettingsError(
            f"merge: expected at least 2 populations, got {len(populations)}; name another"
        )
    loaded = [Population.load(folder) for folder in populations]
    datasets = []
    for folder, people in zip(populations, loaded, strict=True):
        dataset = open_dataset(people.settings.dataset)
        absent = tuple(name for name in dataset.subjects() if name not in people.subjects)
        mine = Union([dataset], exclude=absent)
        if people.identity not in (dataset.identity(), mine.identity()):
            raise PopulationError(
                f"{folder}: expected the recordings that it was made of as "
                f"'{people.settings.dataset[:80]}', they have changed; make it again with pretrain"
            )
        datasets.append(mine)
    return pretrain(Union(datasets), out=out, **of_training(loaded[0].settings))
