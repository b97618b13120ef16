"""Files that hold settings or stored results: any content is read as data, or refused in one line.

Every reader is told what is expected and which error to raise; whatever a parser raises becomes
that error. Sizes are bounded before anything is unpacked, so that a small file stays small.
"""

from __future__ import annotations

import csv
import io
import json
import math
import stat
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from myodistill.errors import Wanted, shown
from myodistill.files import LEAKING
from myodistill.restricted_yaml import DEEPEST, load

if TYPE_CHECKING:
    import pandas as pd  # a decoder on ONNX Runtime does without, and reads JSON
    from torch import Tensor

LARGEST_TEXT = 16 * 2**20
"""Bytes of a JSON or TSV file."""
LARGEST_YAML = 2**20
"""Bytes of a YAML file, which people write."""
LARGEST_TABLE = 2**30
"""Bytes of a table or of arrays, unpacked."""
MOST_CELLS = 10**8
"""Rows times columns of a table."""
_ROWS = 8192
LARGEST_INTEGER = 2**63


def _size(path: Path, most: int) -> None:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("a folder" if path.is_dir() else "something that is not a file")
    _limit(status.st_size, most)


def _limit(size: int, most: int, what: str = "bytes") -> None:
    if size > most:
        raise ValueError(f"{size} {what}, more than {most}")


def read_bytes(path: Path, wanted: Wanted, *, most: int = LARGEST_TEXT) -> bytes:
    """Read a regular file of at most ``most`` bytes.

    Raises:
        MyoDistillError: It is not there, not a file, or larger; of the class that is wanted.
    """
    with wanted.reading(path):
        _size(path, most)
        return path.read_bytes()


def read_json(path: Path, wanted: Wanted) -> dict[str, Any]:
    """Read a JSON file whose content is an object; see :func:`parse_json`."""
    content = parse_json(read_bytes(path, wanted), path, wanted)
    if not isinstance(content, dict):
        wanted.refuse(path, f"a {type(content).__name__} instead of an object")
    return content


def parse_json(content: bytes | str, source: object, wanted: Wanted) -> Any:
    """Parse JSON without its usual extensions.

    Refused are NaN and infinities, numbers that would become infinite, integers beyond 64 bits, an
    object with the same key twice, and more than :data:`DEEPEST` levels.

    Args:
        content: Text, or its UTF-8 bytes.
        source: What it is, for the message.
        wanted: What is expected.

    Raises:
        MyoDistillError: It is not such JSON; of the class that is wanted.
    """
    with wanted.reading(source):
        _limit(len(content), LARGEST_TEXT)
        text = content if isinstance(content, str) else content.decode("utf-8-sig")
        parsed = json.loads(
            text,
            parse_constant=_constant,
            parse_int=_integer,
            parse_float=_number,
            object_pairs_hook=_object,
        )
        _require_plain(parsed)
        return parsed


def read_yaml(path: Path, wanted: Wanted, *, integer_keys: bool = False) -> dict[str, Any]:
    """Read a YAML file whose content is a mapping; an empty one is an empty mapping.

    Only values that JSON can express are read, see :mod:`myodistill.restricted_yaml`.

    Args:
        path: The file.
        wanted: What is expected.
        integer_keys: Let keys be integers, too.

    Raises:
        MyoDistillError: It cannot be read, or says something else; of the class that is wanted.
    """
    content = read_bytes(path, wanted, most=LARGEST_YAML)
    with wanted.reading(path):
        values = load(content.decode("utf-8-sig"), integer_keys=integer_keys)
    if values is None:
        return {}
    if not isinstance(values, dict):
        wanted.refuse(path, f"a {type(values).__name__} instead of 'key: value' lines")
    return values


def parse_tsv(
    content: bytes, source: object, wanted: Wanted, *, columns: Sequence[str] = ()
) -> list[dict[str, str]]:
    """Parse tab-separated values with a header that names ``columns`` among others.

    Raises:
        MyoDistillError: It is not such a table, or a row has more or fewer cells than the header.
    """
    with wanted.reading(source):
        _limit(len(content), LARGEST_TEXT)
        text = io.StringIO(content.decode("utf-8-sig"), newline="")
        lines = [row for row in csv.reader(text, delimiter="\t") if row]
        if not lines:
            raise ValueError("an empty file")
        head, *rows = lines
        _require_columns(head, columns)
        if len(set(head)) < len(head):
            raise ValueError("a header that names a column twice")
        for number, row in enumerate(rows, start=1):
            if len(row) != len(head):
                raise ValueError(f"row {number} of {len(row)} cells below {len(head)} columns")
        return [dict(zip(head, row, strict=True)) for row in rows]


def read_parquet(
    path: Path, wanted: Wanted, *, columns: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """Read a Parquet table.

    Args:
        path: The file.
        wanted: What is expected.
        columns: Columns that must be there, and what they hold: ``"text"``, ``"integer"`` or
            ``"number"`` (of which some, or all, may be missing).

    Raises:
        MyoDistillError: It cannot be read, lacks a column, or holds scores of splits that leak and
            none of these is asked for; of the class that is wanted.
    """
    # Takes a moment to import, and settings are read by commands that need no table.
    from pyarrow import Table, parquet

    with wanted.reading(path):
        _size(path, LARGEST_TABLE)
        with parquet.ParquetFile(path) as file:
            about = file.metadata
            _limit(about.num_rows * max(about.num_columns, 1), MOST_CELLS, "cells")
            names = file.schema_arrow.names
            if len(set(names)) < len(names):
                raise ValueError("a table that names a column twice")
            _require_honest(names, columns or ())
            _require_columns(names, list(columns or ()))
            batches, unpacked = [], 0
            for batch in file.iter_batches(_ROWS, use_threads=False):
                batches.append(batch)
                unpacked += batch.nbytes
                _limit(unpacked, LARGEST_TABLE, "bytes when unpacked")
            table = Table.from_batches(batches, file.schema_arrow)
        frame: pd.DataFrame = table.to_pandas(ignore_metadata=True)
        for name, holds in (columns or {}).items():
            frame[name] = _holding(holds, name, frame[name])
        return frame


def read_npz(path: Path, wanted: Wanted, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Read arrays of numbers from an ``.npz`` file.

    Raises:
        MyoDistillError: It cannot be read, or one of ``names`` is missing; others are not read.
    """
    with wanted.reading(path):
        _size(path, LARGEST_TABLE)
        with zipfile.ZipFile(path) as archive:
            members = {one.filename: one for one in archive.infolist()}
            absent = [name for name in names if f"{name}.npy" not in members]
            if absent:
                raise ValueError(f"no array {', '.join(absent)}")
            unpacked = sum(members[f"{name}.npy"].file_size for name in names)
            _limit(unpacked, LARGEST_TABLE, "bytes when unpacked")
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: np.asarray(stored[name]) for name in names}
        for name, array in arrays.items():
            if array.dtype.kind not in "biuf":
                raise ValueError(f"array {name} of {array.dtype}, which holds no numbers")
        return arrays


def read_tensors(path: Path, wanted: Wanted) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Open a safetensors file; what is read of it is mapped, not copied.

    Returns:
        Its tensors, and its metadata (empty where it has none).

    Raises:
        MyoDistillError: It cannot be read; of the class that is wanted.
    """
    from safetensors import safe_open

    with wanted.reading(path):
        _size(path, 16 * LARGEST_TABLE)
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118


def checksums(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """Return a CRC-32 of each tensor's bytes, by which an altered file is known."""
    from torch import uint8

    return {
        name: zlib.crc32(one.contiguous().reshape(-1).view(uint8).numpy().data)
        for name, one in tensors.items()
    }


def _constant(text: str) -> NoReturn:
    raise ValueError(f"{text}, which JSON does not have")


def _integer(text: str) -> int:
    value = int(text) if len(text) <= 20 else LARGEST_INTEGER
    if not -LARGEST_INTEGER <= value < LARGEST_INTEGER:
        raise ValueError(f"an integer beyond 64 bits, {shown(text, 30)}")
    return value


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"a number too large, {shown(text, 30)}")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        raise ValueError("an object with the same key twice")
    return mapping


def _require_plain(value: Any) -> None:
    """Refuse what nests deeper than :data:`DEEPEST`, and text that no file could hold."""
    level = [value]
    for _ in range(DEEPEST + 1):
        if not level:
            return
        inner: list[Any] = []
        for one in level:
            if isinstance(one, str):
                one.encode()  # halves of a character, as in "\\ud800", cannot be written
            elif isinstance(one, dict):
                inner += [*one, *one.values()]
            elif isinstance(one, list):
                inner += one
        level = inner
    raise ValueError(f"more than {DEEPEST} levels within each other")


def _require_honest(names: Sequence[str], columns: Iterable[str]) -> None:
    if is_leaking(names) and not is_leaking(columns):
        raise ValueError(f"scores of {LEAKING} splits, which no honest table may hold")


def is_leaking(columns: Iterable[str]) -> bool:
    """Return whether any of some columns holds scores of splits that leak."""
    return any(str(name).startswith(LEAKING) for name in columns)


def _require_columns(names: Sequence[str], columns: Sequence[str]) -> None:
    absent = [name for name in columns if name not in names]
    if absent:
        raise ValueError(f"no column {', '.join(absent)}")


def _holding(holds: str, name: str, column: pd.Series[Any]) -> pd.Series[Any]:
    """Return a column, if it holds what it should."""
    if holds == "number" and column.isna().all():
        return column.astype(float)
    fits = (
        all(isinstance(value, str) for value in column.unique())
        if holds == "text"
        else column.dtype.kind in {"integer": "iu", "number": "iuf"}[holds]
    )
    if not fits:
        raise ValueError(f"column {name} of {column.dtype}, expected {holds}")
    return column
