"""Inputs for the fuzz driver: valid samples, damaged by bytes or by what they mean."""

from __future__ import annotations

import io
import json
import random
import struct
from typing import Any

import numpy as np
import pandas as pd

NASTY: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 7, 255, 2**31, 2**32, -(2**63), 2**63, 10**400, 0.5, -0.0),
    *(1e-320, 1e308, -1e30, float("nan"), float("inf"), float("-inf"), "", " ", "0", "1", "nan"),
    *("x" * 5000, "a\nb", "\x00", "\x1b[31m", "\u202e", "\ud800", "é" * 90, "../x", "/etc/passwd"),
    *("a,b,,a", "1,1", "inf", "1e400", "cuda:99", "meta", "synthetic", "{subject}", "*", "%s"),
    *([], {}, [[]], [None], [1, 1], ["a", "a"], {"": ""}, {"x": {"x": {}}}, [[1, 2], [3]]),
)
RAW_JSON = ("NaN", "-Infinity", "1e400", "1" * 500, "[" * 200 + "]" * 200, "[" * 3000, '"\\ud800"',
            '{"a": 1, "a": 2}', "", "01", "'x'", "nul", "// x\n1", "9" * 5000)  # fmt: skip
RAW_YAML = (
    *('!!int ""', "!!python/object/apply:os.system [ls]", "2001-99-99", "2001-12-14t21:59:43.1Z"),
    *("&a [*a]", "*a", "{<<: {a: 1}}", ".inf", ".nan", "0x", "0o9", "1_000", "190:20", "no", "~"),
    *("!!binary x", "!!float 1", "? a", "@", "`", "%x", "[" * 200 + "]" * 200, "[" * 3000, "- a"),
    *("{a: 1, a: 2}", "|\n x", '"\\ud83d"', "1" * 500, "!!set {a}", "!<x> 1", "---\n...\n---"),
)  # fmt: skip


class Raw(str):
    """Text that stands in a document as it is."""


def emit(value: Any) -> str:
    """Write a value as JSON, or what looks like it."""
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(str(k))}: {emit(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(emit, value)) + "]"
    if isinstance(value, float) and value == float("inf"):
        return "1e999"
    return str(value) if isinstance(value, int) and value > 2**70 else json.dumps(value)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value within a value, itself left out."""
    if isinstance(value, dict):
        keys: Any = list(value)
    elif isinstance(value, list):
        keys = range(min(len(value), 5))
    else:
        return []
    if len(path) > 12:  # moved deeper by an earlier change
        return []
    found = []
    for key in keys:
        found += [(*path, key), *_places(value[key], (*path, key))]
    return found


def changed(rng: random.Random, value: Any, raw: tuple[str, ...]) -> Any:
    """Return a document with some values in it replaced, left out, doubled or moved deeper."""
    value = json.loads(json.dumps(value))
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        places = _places(value)
        if not places:
            return rng.choice(NASTY)
        *path, last = rng.choice(places)
        holder = value
        for key in path:
            holder = holder[key]
        kind = rng.randrange(10)
        if kind == 0:
            del holder[last]
        elif kind == 1 and isinstance(holder, dict):
            holder[rng.choice(("x", "", "../x", "a\nb", "<<", "é" * 90, "0", "é\x00"))] = holder[
                last
            ]
        elif kind == 2 and isinstance(holder, dict):
            holder[rng.choice(list(holder))] = holder[last]
        elif kind == 3:
            deep = holder[last]
            for _ in range(rng.choice((1, 2, 40, 100))):
                deep = [deep] if rng.random() < 0.5 else {"a": deep}
            holder[last] = deep
        elif kind == 4:
            holder[last] = Raw(rng.choice(raw))
        elif kind == 5 and isinstance(holder[last], list):
            holder[last] = holder[last] * rng.choice((0, 2, 50))
        elif kind == 6 and isinstance(holder[last], int | float) and abs(holder[last]) < 2**70:
            holder[last] = holder[last] * rng.choice((-1, 0, 2, 1000, 0.5)) + rng.choice(
                (0, 1, 0.1)
            )
        elif kind == 7 and isinstance(holder[last], str):
            word = holder[last]
            holder[last] = rng.choice(
                (word[:-1], word + "x", word * 50, word.upper(), [word], "\n" + word)
            )
        else:
            holder[last] = rng.choice(NASTY)
    return rng.choice(NASTY) if rng.random() < 0.01 else value


def document(rng: random.Random, value: Any, raw: tuple[str, ...]) -> bytes:
    """Return a damaged document, sometimes with damaged bytes as well."""
    text = emit(changed(rng, value, raw)).encode("utf-8", "surrogatepass")
    return damaged(rng, text) if rng.random() < 0.2 else text


_WORDS = (
    *(b"\x00", b"\xff" * 8, b"\xff\xff\xff\x7f", b"\x00" * 8, b"\x80", b"\n", b"\t", b",", b"{"),
    *(b"nan", b"1e400", b"-1", b"PK\x03\x04", b"\xed\xa0\x80", b"\xef\xbb\xbf", b'"', b"\r\n"),
)


def damaged(rng: random.Random, content: bytes, *others: bytes) -> bytes:
    """Return content with bytes flipped, cut, put in, doubled, or of another file."""
    if rng.random() < 0.01:
        return rng.choice((b"", rng.randbytes(rng.randrange(1, 300)), *others))
    found = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        size = len(found)
        if not size:
            break
        kind, at = rng.randrange(7), rng.randrange(size)
        if kind == 0:
            found[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            found[at] = rng.randrange(256)
        elif kind == 2:
            word = rng.choice(_WORDS)
            found[at : at + rng.choice((0, len(word)))] = word
        elif kind == 3:
            del found[at : at + rng.choice((1, 2, 16, size))]
        elif kind == 4:
            found[at:at] = found[at : at + rng.choice((1, 8, 100))]
        elif kind == 5:
            found[at : at + 4] = struct.pack("<I", rng.choice((0, 1, 2**31 - 1, 2**32 - 1, size)))
        elif others:
            other = rng.choice(others)
            start = rng.randrange(len(other)) if other else 0
            found[at:] = other[start:]
    return bytes(found)


_CELLS: tuple[Any, ...] = (
    "",
    "x",
    "pretrained_distilled",
    "../x",
    None,
    0,
    -1,
    2**62,
    0.5,
    float("nan"),
    float("inf"),
    True,
)


def table(rng: random.Random, frame: pd.DataFrame) -> bytes:
    """Return a Parquet file whose columns are gone, renamed, retyped or hold odd values."""
    frame = frame.copy()
    for _ in range(rng.choice((1, 1, 2, 3))):
        if not len(frame.columns):
            break
        name = rng.choice(list(frame.columns))
        kind = rng.randrange(7)
        if kind == 0:
            frame = frame.drop(columns=name)
        elif kind == 1:
            frame = frame.rename(columns={name: rng.choice(("x", "", "a\nb", "stage", "k"))})
            frame = frame.loc[:, ~frame.columns.duplicated()]
        elif kind == 2:
            frame = frame.iloc[: rng.choice((0, 1))]
        elif kind == 3:
            frame[name] = frame[name].astype(str)
        elif kind == 4:
            frame[name] = pd.Series([[1]] * len(frame), dtype=object, index=frame.index)
        elif kind == 5:
            frame[name] = pd.Series([rng.choice(_CELLS)] * len(frame), index=frame.index)
        elif len(frame):
            column = frame[name].astype(object)
            column.iloc[0] = rng.choice(_CELLS)
            first = type(column.iloc[0])
            same = np.array([isinstance(value, first) for value in column])
            frame[name] = column.where(same)  # else no Parquet file could hold it
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    return damaged(rng, buffer.getvalue()) if rng.random() < 0.2 else buffer.getvalue()


def arrays(rng: random.Random, names: tuple[str, ...]) -> bytes:
    """Return an ``.npz`` file of arrays with odd shapes, types and values."""
    kinds = ("f2", "f4", "f8", "i2", "i8", "u1", "?", "U3", "S2", "c8", "M8[s]", "i4,f4", ">i2")
    shapes = ((), (0,), (3,), (3, 2), (2, 3), (3, 0), (1, 1, 1), (3, 6))
    made = {}
    for name in names:
        if rng.random() < 0.95:
            dtype, shape = np.dtype(rng.choice(kinds)), rng.choice(shapes)
            size = int(np.prod(shape)) * dtype.itemsize
            made[name] = np.frombuffer(rng.randbytes(size), dtype).reshape(shape) \
                if dtype.kind not in "?U" else np.zeros(shape, dtype)  # fmt: skip
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **made)
    return damaged(rng, buffer.getvalue()) if rng.random() < 0.3 else buffer.getvalue()


def tensors(rng: random.Random, content: bytes) -> bytes:
    """Return a safetensors file whose header says something else."""
    size = int.from_bytes(content[:8], "little")
    header = document(rng, json.loads(content[8 : 8 + size]), RAW_JSON)
    return struct.pack("<Q", len(header)) + header + content[8 + size :]
