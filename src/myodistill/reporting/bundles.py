"""The bundles that a run left in its folder, found by whom they decode."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from myodistill.bundle import Bundle
from myodistill.bundle_card import CARD
from myodistill.datasets.trees import natural
from myodistill.errors import BundleError, shown, unknown_name


class Bundles(Mapping[tuple[str, int, str], Bundle]):
    """The bundles of a run's subjects, of its first fold and seed that has each.

    Args:
        folder: Of the run.
    """

    def __init__(self, folder: Path) -> None:
        self._folders: dict[tuple[str, int, str], Path] = {}
        cards = sorted(folder.glob(f"fold-*/seed-*/*/k-*/*/{CARD}"), key=lambda p: natural(str(p)))
        for folder in (card.parent for card in cards):
            key = (folder.parts[-3], int(folder.parts[-2].removeprefix("k-")), folder.name)
            self._folders.setdefault(key, folder)

    def __getitem__(self, key: tuple[str, int, str]) -> Bundle:
        if key not in self._folders:
            names = (f"{subject}, K={k}, {method}" for subject, k, method in self._folders)
            raise BundleError(unknown_name("bundle", shown(key), names))
        return Bundle.load(self._folders[key])

    def __iter__(self) -> Iterator[tuple[str, int, str]]:
        return iter(self._folders)

    def __len__(self) -> int:
        return len(self._folders)
