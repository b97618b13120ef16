"""Whatever a file holds, a reader returns data or raises one line."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet as pq

from myodistill import readers
from myodistill.errors import CacheError, DataError, Wanted
from myodistill.readers import (
    LARGEST_TEXT,
    parse_json,
    parse_tsv,
    read_json,
    read_npz,
    read_parquet,
    read_tensors,
    read_yaml,
)

WANTED = Wanted("a test", advice="mend it")
READERS: list[Callable[[Path], object]] = [
    lambda path: read_json(path, WANTED),
    lambda path: read_yaml(path, WANTED),
    lambda path: read_parquet(path, WANTED),
    lambda path: read_npz(path, WANTED, ["a"]),
    lambda path: read_tensors(path, WANTED),
]


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("kind", ["absent", "folder", "pipe", "junk"])
def test_what_is_no_such_file(tmp_path: Path, read: Callable[[Path], object], kind: str) -> None:
    path = tmp_path / "file"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "junk":
        path.write_bytes(bytes(range(256)))
    with pytest.raises(DataError, match=r"file: expected a test, got: .*; mend it") as caught:
        read(path)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expecting value"),
        ("{", "expecting property name"),
        ("[1]", "a list instead of an object"),
        ('{"a": NaN}', "NaN, which JSON does not have"),
        ('{"a": -Infinity}', "-Infinity, which"),
        ('{"a": 1e400}', "a number too large, '1e400'"),
        (f'{{"a": 1{"0" * 400}}}', "an integer beyond 64 bits"),
        (f'{{"a": 1{"0" * 5000}}}', "an integer beyond 64 bits"),
        ('{"a": 9223372036854775808}', "an integer beyond 64 bits"),
        ('{"a": 1, "a": 2}', "the same key twice"),
        ("[" * 100_000, "too many levels"),
        (f'{{"a": {"[" * 40}{"]" * 40}}}', "more than 32 levels"),
        ("\ud800", "surrogates not allowed"),
    ],
)
def test_json_without_extensions(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text, errors="surrogatepass")
    with pytest.raises(DataError, match=r"a\.json: expected a test, got: ") as caught:
        read_json(path, WANTED)
    said = str(caught.value)
    assert message.lower() in said.lower() or message == "surrogates not allowed"
    assert said.isprintable()
    assert len(said) < 400


def test_json_that_is_read() -> None:
    values = {"a": [1, -(2**63), 2**63 - 1, 1.5, None, True, "ü"], "b": {}}
    assert parse_json(json.dumps(values), "x", WANTED) == values
    assert parse_json(b"\xef\xbb\xbf[]", "x", WANTED) == []


def test_a_file_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with path.open("wb") as file:
        file.truncate(LARGEST_TEXT + 1)
    with pytest.raises(CacheError, match=r"16777217 bytes, more than 16777216"):
        read_json(path, Wanted("a test", CacheError))


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", {}),
        ("# nothing\n", {}),
        ("a: 1\nb: [x, '1', 1e-3, 007]\n", {"a": 1, "b": ["x", "1", 0.001, 7]}),
        ("a: [no, yes, on, off, true, ~]\n", {"a": ["no", "yes", "on", "off", True, None]}),
        ("k: 2001-99-99\nt: 12:30:00", {"k": "2001-99-99", "t": "12:30:00"}),
        ("a: |\n  x\n  y\n", {"a": "x\ny\n"}),
    ],
)
def test_yaml_says_what_json_can_say(tmp_path: Path, text: str, values: object) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    assert read_yaml(path, WANTED) == values


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('k: !!int ""', "line 1: a tag"),
        ("k: !!python/object/apply:os.system [ls]", "a tag"),
        ("a: &x 1\nb: *x", "line 1: an anchor or alias"),
        ("<<: {a: 1}", "a merge key"),
        ("a: 1\na: 2", "line 2: the key 'a' a second time"),
        ("1: 2", "the key 1; put it in quotes"),
        ("? [a]\n: b", "the key"),
        ("a: .inf", "not finite"),
        ("a: 1e999", "not finite"),
        ("a: " + "9" * 30, "beyond 64 bits"),
        ("a: " + "[" * 500, "more than 32 levels"),
        ("a: 1\n---\nb: 1", "more than one document"),
        ("- a", "a list instead of 'key: value' lines"),
        ("a: [1", "no YAML: expected ',' or ']'"),
        ("a: \x00", "no YAML: unacceptable character"),
    ],
)
def test_yaml_that_is_more_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(DataError, match="expected a test") as caught:
        read_yaml(path, WANTED)
    assert message in str(caught.value)
    assert str(caught.value).isprintable()


def test_integer_keys_where_they_are_wanted(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("gestures: {0: rest, 1: fist}")
    assert read_yaml(path, WANTED, integer_keys=True) == {"gestures": {0: "rest", 1: "fist"}}


KEYS = st.text(max_size=40).filter(lambda key: key != "<<")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(KEYS, JSON, max_size=4))
def test_json_is_yaml(tmp_path_factory: pytest.TempPathFactory, values: dict[str, object]) -> None:
    path = tmp_path_factory.mktemp("json") / "a.yaml"
    path.write_text(json.dumps(values))
    assert read_yaml(path, WANTED) == read_json(path, WANTED) == values


@pytest.mark.parametrize("read", [read_json, read_yaml])
def test_half_of_a_character_is_no_text(tmp_path: Path, read: Callable[..., object]) -> None:
    path = tmp_path / "a"
    path.write_text(r'{"a": "\ud83d\ude00"}')
    assert read(path, WANTED) == {"a": "\N{GRINNING FACE}"}
    path.write_text(r'{"a": "\ud83d"}')
    with pytest.raises(DataError, match="expected a test"):
        read(path, WANTED)


def test_tables_of_text() -> None:
    content = "a\tb\n1\tx\n\n2\ty\n".encode("utf-8-sig")
    assert parse_tsv(content, "t", WANTED, columns=["b"]) == [
        {"a": "1", "b": "x"},
        {"a": "2", "b": "y"},
    ]
    for bad, message in [
        (b"", "an empty file"),
        (b"b\tb\n", "names a column twice"),
        (b"b\n1\t2\n", "row 1 of 2 cells below 1 columns"),
        (b"a\n1\n", "no column b"),
        (b"a\tb\n\xff\t1\n", "no text in UTF-8"),
        (b"a\tb\n" + b"x" * 200_000 + b"\t1\n", "field larger"),
    ]:
        with pytest.raises(DataError, match=message):
            parse_tsv(bad, "t", WANTED, columns=["b"])


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pd.DataFrame({"a": ["x"]}), "no column n"),
        (pd.DataFrame({"a": [1], "n": [1.0]}), "column a of int64, expected text"),
        (pd.DataFrame({"a": ["x"], "n": ["1"]}), "column n of"),
        (pd.DataFrame({"a": ["x"], "n": [True]}), "column n of bool"),
    ],
)
def test_tables_hold_what_they_should(tmp_path: Path, frame: pd.DataFrame, message: str) -> None:
    path = tmp_path / "a.parquet"
    frame.to_parquet(path, index=False)
    with pytest.raises(DataError, match=message):
        read_parquet(path, WANTED, columns={"a": "text", "n": "number"})


def test_numbers_that_are_all_missing(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pd.DataFrame({"n": [None, None]}).to_parquet(path, index=False)
    read = read_parquet(path, WANTED, columns={"n": "number"})
    assert read["n"].isna().all()
    assert read["n"].dtype == float


def test_a_small_table_does_not_become_a_large_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.parquet"
    column = pa.DictionaryArray.from_arrays(np.zeros(10**5, np.int8), ["x" * 100])
    pq.write_table(pa.table({"a": column, "b": column}), path)
    assert path.stat().st_size < 10**6
    assert len(read_parquet(path, WANTED)) == 10**5
    monkeypatch.setattr(readers, "MOST_CELLS", 10**5)
    with pytest.raises(DataError, match="200000 cells, more than 100000"):
        read_parquet(path, WANTED)
    monkeypatch.undo()
    pq.write_table(pa.table({"a": ["x" * 10**4] * 10**4}), path)
    assert path.stat().st_size < 10**5
    monkeypatch.setattr(readers, "LARGEST_TABLE", 10**7)
    with pytest.raises(DataError, match="bytes when unpacked, more than 10000000"):
        read_parquet(path, WANTED)


def test_a_small_archive_does_not_become_a_large_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, a=np.zeros(10**6))
    assert path.stat().st_size < 10**4
    monkeypatch.setattr(readers, "LARGEST_TABLE", 10**6)
    with pytest.raises(DataError, match="8000128 bytes when unpacked, more than 1000000"):
        read_npz(path, WANTED, ["a"])


def test_arrays_are_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, a=np.arange(3), b=np.array(["x"]), c=np.array([None]))
    assert read_npz(path, WANTED, ["a"])["a"].tolist() == [0, 1, 2]
    for name, message in [("b", "no number"), ("c", "pickle"), ("d", "no array d")]:
        with pytest.raises(DataError, match=message):
            read_npz(path, WANTED, [name])
