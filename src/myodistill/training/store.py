"""What a run has finished: bundles in folders that are there whole, or not at all."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from myodistill.deploy.bundle import Bundle
from myodistill.errors import BundleError, DataError, Wanted
from myodistill.files import new_folder, write_text
from myodistill.readers import read_json
from myodistill.training.loop import Where

_RECORD = "record.json"
_WANTED = Wanted("what a finished stage left")


class Store:
    """Keeps finished work under a folder and says what need not be done again.

    Args:
        root: Folder of one fold and seed.
        resume: Go on from the checkpoints of a killed run; else begin such stages again.
    """

    def __init__(self, root: Path, *, resume: bool = True) -> None:
        self.root = root
        self._resume = resume

    def bundle(self, name: str, key: str, make: Callable[[Where], Bundle]) -> Bundle:
        """Return the bundle of a stage: the stored one if it is still valid, else a new one.

        Args:
            name: Folder below the root.
            key: Changes with everything that the bundle depends on.
            make: Trains it; told where to keep its checkpoint and log.
        """
        kept = self.find(name, key)
        if kept is not None:
            return kept
        checkpoint = self.root / "unfinished" / f"{name.replace('/', '-')}-{key}.safetensors"
        if not self._resume:
            checkpoint.unlink(missing_ok=True)
        title = f"{self.root.parent.name} {self.root.name} {name}"
        begin = time.perf_counter()
        made = make(Where(checkpoint, self.root / "logs" / name, title))
        bundle = self.keep(name, key, made, time.perf_counter() - begin)
        checkpoint.unlink(missing_ok=True)
        return bundle

    def find(self, name: str, key: str) -> Bundle | None:
        """Return the stored bundle if it is whole and still valid."""
        folder = self.root / name
        if _read(folder / _RECORD).get("key") != key:
            return None
        try:
            return Bundle.load(folder)
        except BundleError:
            return None  # damaged since: made anew

    def keep(self, name: str, key: str, made: Bundle, seconds: float) -> Bundle:
        """Store a bundle that took ``seconds`` to make; return it as it is stored."""
        bundle = replace(made, origin={**made.origin, "key": key, "seconds": round(seconds, 3)})
        with new_folder(self.root / name) as part:
            bundle.save(part)
            write_text(part / _RECORD, json.dumps({"key": key}))
        return bundle

    def value(self, name: str, key: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return what ``make`` returned for this key, computed once."""
        path = self.root / f"{name}.json"
        stored = _read(path)
        if stored.get("key") == key:
            return dict(stored["value"])
        value = make()
        write_text(path, json.dumps({"key": key, "value": value}))
        return value


def _read(path: Path) -> dict[str, Any]:
    try:
        return read_json(path, _WANTED) if path.exists() else {}
    except DataError:
        return {}  # damaged since: made anew
