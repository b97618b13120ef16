"""Generated muscles: recordings of people who do not exist."""

from __future__ import annotations

from myodistill.datasets.dataset import Dataset


class Synthetic(Dataset):
    """Being written."""
