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
        self._places: dict[tuple[str, int, str], Path] = {}
        cards = sorted(folder.glob(f"fold-*/seed-*/*/k-*/*/{CARD}"), key=lambda p: natural(str(p)))
        for place in (card.parent for card in cards):
            key = (place.parts[-3], int(place.parts[-2].removeprefix("k-")), place.name)
            self._places.setdefault(key, place)

    def __getitem__(self, key: tuple[str, int, str]) -> Bundle:
        if key not in self._places:
            names = (f"{subject}, K={k}, {method}" for subject, k, method in self._places)
            raise BundleError(unknown_name("bundle", shown(key), names))
        return Bundle.load(self._places[key])

    def __iter__(self) -> Iterator[tuple[str, int, str]]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)
