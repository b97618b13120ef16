"""The parsers of live use, for the fuzz driver."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import yaml

from myodistill.errors import DataError
from myodistill.live.keys import read_mapping
from myodistill.live.lines import LineReader


def add_live(root: Path, add: Callable[..., None]) -> None:
    """Add the line protocol and the mapping of keys."""
    message = {"samples": [[1.0, -2.5, 300, 0], [5, 6, 7, 8]], "seq": 7, "time": 1.5}
    root.mkdir()
    path = root / "message.jsonl"
    path.write_text(json.dumps(message) + "\n")

    def read_lines() -> None:
        reader = LineReader(4)
        for chunk in [*reader.feed(path.read_bytes()), *reader.finish()]:
            if chunk.refused:
                raise DataError(chunk.reason)
            if chunk.samples.ndim != 2 or chunk.samples.shape[1] != 4:
                raise AssertionError(f"samples of shape {chunk.samples.shape}")

    add("line protocol", path, read_lines, 3, value=message)

    keys = root / "keys.yaml"
    dead_man = {"gesture": "c", "seconds": 0.5, "lasts": 5.0}
    values = {"keys": {"a": "ctrl+left"}, "taps": {"b": "x"}, "dead_man": dead_man}
    keys.write_text(yaml.safe_dump(values | {"release_after": 0.3}))
    add("keys", keys, lambda: read_mapping(keys, "abc"), 1, value=values)
