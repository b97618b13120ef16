"""The store of a run's results: bundles and values that appear whole or not at all."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from myodistill.bundle import Bundle
from myodistill.bundle_card import CARD
from myodistill.errors import BundleError, DataError, Wanted
from myodistill.files import new_folder, sha256_of, write_text
from myodistill.readers import read_json
from myodistill.training.loop import RunPaths, require_finite

_RECORD = "record.json"
_WANTED = Wanted("what a finished stage left")


class ArtifactStore:
    """Stores results under a folder and returns those that are still valid.

    Args:
        root: Folder of one fold and seed.
        resume: Resume from the checkpoints of a killed run; else start such stages again.
    """

    def __init__(self, root: Path, *, resume: bool = True) -> None:
        self.root = root
        self._resume = resume

    def bundle(self, name: str, key: str, make: Callable[[RunPaths], Bundle]) -> Bundle:
        """Return the bundle of a stage: the stored one if it is valid, else a new one.

        Args:
            name: Folder below the root.
            key: Changes with everything that the bundle depends on.
            make: Trains it; takes the paths of its checkpoint and log.
        """
        stored = self.find(name, key)
        if stored is not None:
            return stored
        checkpoint = self.root / "unfinished" / f"{name.replace('/', '-')}-{key}.safetensors"
        if not self._resume:
            checkpoint.unlink(missing_ok=True)
        title = f"{self.root.parent.name} {self.root.name} {name}"
        begin = time.perf_counter()
        bundle = make(RunPaths(checkpoint, self.root / "logs" / name, title))
        bundle = self.keep(name, key, bundle, time.perf_counter() - begin)
        checkpoint.unlink(missing_ok=True)
        return bundle

    def find(self, name: str, key: str) -> Bundle | None:
        """Return the stored bundle if it is whole and still valid."""
        folder = self.root / name
        if _read(folder / _RECORD) != {"key": key, "card": _hash_of(folder / CARD)}:
            return None
        try:
            bundle = Bundle.load(folder)
        except BundleError:
            return None  # damaged: made again
        # The bundle's own key counts, not the record beside it.
        origin = bundle.origin if isinstance(bundle.origin, dict) else {}
        is_valid = origin.get("key") == key and isinstance(origin.get("seconds"), float)
        return bundle if is_valid else None

    def keep(self, name: str, key: str, bundle: Bundle, seconds: float) -> Bundle:
        """Store a bundle that took ``seconds`` to make; return it as it is stored.

        Raises:
            TrainingError: A weight is not finite; an older bundle stays as it is.
        """
        title = f"{self.root.parent.name} {self.root.name} {name}"
        advice = "lower the learning rate; what was stored before is untouched"
        require_finite(bundle.network, title, advice=advice)
        origin = {**bundle.origin, "key": key, "seconds": round(seconds, 3)}
        bundle = replace(bundle, origin=origin)
        with new_folder(self.root / name) as part:
            bundle.save(part)
            record = {"key": key, "card": _hash_of(part / CARD)}
            write_text(part / _RECORD, json.dumps(record))
        return bundle

    def value(
        self,
        name: str,
        key: str,
        make: Callable[[], dict[str, Any]],
        fits: Callable[[dict[str, Any]], bool] = lambda value: True,
    ) -> dict[str, Any]:
        """Return what ``make`` returned for this key, computed once.

        Args:
            name: File below the root, without its suffix.
            key: Changes with everything that the value depends on.
            make: Computes it.
            fits: Whether a stored value belongs to what else is stored.
        """
        path = self.root / f"{name}.json"
        stored = _read(path)
        value = stored.get("value")
        if isinstance(value, dict) and stored.get("sha256") == _sum(key, value) and fits(value):
            return value
        value = make()
        content = {"key": key, "sha256": _sum(key, value), "value": value}
        write_text(path, json.dumps(content))
        return value


def _hash_of(path: Path) -> str | None:
    return sha256_of(path) if path.is_file() else None


def _sum(key: str, value: dict[str, Any]) -> str:
    text = json.dumps([key, value], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _read(path: Path) -> dict[str, Any]:
    try:
        return read_json(path, _WANTED) if path.exists() else {}
    except DataError:
        return {}  # damaged: made again
