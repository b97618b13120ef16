"""What commands leave in a folder, compared without the times in it."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from safetensors.numpy import load_file

_TIMED = re.compile(r"seconds|sha256|^median$|^p99$|^load$|^card$")
"""Keys of what takes time, and of hashes over it; what is hashed is compared itself."""

_TIMES = re.compile(r"Seconds to calibrate.*?</tbody>", re.DOTALL)
_LAST_CELL = re.compile(r"<td[^>]*>[^<]*</td>(?=\s*</tr>)")
"""The column of a report that holds times is the last of its table."""


def snapshot(folder: Path) -> dict[str, str]:
    """Hash every visible file below a folder, without the times that it holds."""
    found = {}
    for path in _visible(folder):
        if "logs" in path.parts or path.suffix == ".db":  # TensorBoard and Optuna: times
            continue
        content = path.read_bytes()
        with contextlib.suppress(Exception):  # half a file is compared as it is
            content = _comparable(path.suffix, content)
        found[str(path.relative_to(folder))] = hashlib.sha256(content).hexdigest()
    return found


def _comparable(kind: str, content: bytes) -> bytes:
    if kind == ".json":
        return json.dumps(_timeless(json.loads(content)), sort_keys=True).encode()
    if kind == ".parquet":
        frame = pd.read_parquet(io.BytesIO(content))
        return frame.drop(columns="seconds", errors="ignore").to_csv().encode()
    if kind == ".safetensors":  # its header is written in no order
        size = 8 + int.from_bytes(content[:8], "little")
        return json.dumps(json.loads(content[8:size]), sort_keys=True).encode() + content[size:]
    if kind == ".html":
        return _TIMES.sub(_without_last_cell, content.decode()).encode()
    return content


def _without_last_cell(rows: re.Match[str]) -> str:
    return _LAST_CELL.sub("", rows[0])


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(one) for key, one in value.items() if not _TIMED.search(key)}
    return [_timeless(one) for one in value] if isinstance(value, list) else value


def _visible(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and not _hidden(path)]


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def hidden(folder: Path) -> int:
    """Count what killed writers have left under hidden names, folders by themselves."""
    inside = [path.relative_to(folder) for path in folder.rglob(".*")]
    return sum(not _hidden(path.parent) for path in inside)


def differences(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Name the files that are not the same in two snapshots."""
    return sorted(
        name for name in before.keys() | after.keys() if before.get(name) != after.get(name)
    )


def unreadable(folder: Path) -> list[str]:
    """Name the visible files that are no longer whole."""
    read: dict[str, Callable[[Path], object]] = {
        ".json": lambda path: json.loads(path.read_text()),
        ".yaml": lambda path: yaml.safe_load(path.read_text()),
        ".parquet": pd.read_parquet,
        ".npy": np.load,
        ".npz": lambda path: dict(np.load(path)),
        ".safetensors": lambda path: load_file(path),
        ".html": lambda path: path.read_text().rindex("</html>"),
    }
    found = []
    for path in _visible(folder):
        try:
            if path.suffix in read:
                read[path.suffix](path)
        except Exception as error:
            found.append(f"{path.relative_to(folder)} ({type(error).__name__})")
    return found
