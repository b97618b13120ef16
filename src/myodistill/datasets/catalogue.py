"""The datasets by name."""

from __future__ import annotations

from collections.abc import Callable

from myodistill.datasets.dataset import Dataset
from myodistill.datasets.myo import Myo
from myodistill.datasets.synthetic import Synthetic
from myodistill.datasets.threedc import ThreeDC
from myodistill.errors import DataError, unknown_name

DATASETS: dict[str, Callable[[], Dataset]] = {
    "3dc": ThreeDC,
    "myo": Myo,
    "synthetic": Synthetic,
}


def open_dataset(name: str) -> Dataset:
    """Open a dataset by name.

    Raises:
        DataError: The name is unknown, or the dataset's files are not found.
    """
    if name not in DATASETS:
        raise DataError(unknown_name("dataset", name, DATASETS))
    return DATASETS[name]()
