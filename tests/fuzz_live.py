"""The parsers of live use, for the fuzz driver."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import yaml

from myodistill.errors import DataError
from myodistill.live.keys import read_mapping
from myodistill.live.lines import LineReader
from myodistill.live.server.requests import parse_request


def add_live(root: Path, add: Callable[..., None]) -> None:
    """Add the line protocol, the mapping of keys, and what a page asks for."""
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

    asked = {"type": "guide", "action": "start", "repetitions": 4, "seconds": 2.5, "step": 1}
    others = (
        {"type": "threshold", "value": 0.5},
        {"type": "adapt", "on": True},
        {"type": "adapt-reset"},
        {"type": "record", "on": True, "gesture": "fist"},
    )
    frame = root / "request.json"
    frame.write_text(json.dumps(asked))
    texts = tuple(json.dumps(one).encode() for one in others)

    def read_request() -> None:
        request = parse_request(frame.read_bytes().decode("utf-8", "replace"))
        if request.kind not in ("threshold", "adapt", "adapt-reset", "record", "guide"):
            raise AssertionError(f"a request of kind {request.kind!r}")
        json.dumps(request.values, allow_nan=False)

    add("page requests", frame, read_request, 3, value=asked, others=texts)
