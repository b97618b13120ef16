"""The line protocol: what is a message is read, all else is told in one line and counted."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from myodistill.errors import DataError
from myodistill.live.lines import LIMIT, LineReader, parse_line
from myodistill.realtime.sources import Chunk

ROWS = [[1.0, -2.5, 3e2, 0.0], [5.0, 6.0, 7.0, 8.0]]


def feed(*parts: bytes) -> list[Chunk]:
    reader = LineReader(4)
    return [chunk for part in parts for chunk in reader.feed(part)] + list(reader.finish())


@pytest.mark.parametrize("line", [b"1,-2.5,3e2,.0", b" 1 ; -2.5;300 ;0 \r", b"1 -2.5\t+300 0."])
def test_plain_numbers(line: bytes) -> None:
    assert np.array_equal(parse_line(line, 4).samples, ROWS[:1])


def test_json() -> None:
    chunk = parse_line(json.dumps({"samples": ROWS, "seq": 7, "time": 1.5}).encode(), 4)
    assert np.array_equal(chunk.samples, ROWS)
    assert (chunk.number, chunk.time) == (7, 1.5)
    assert parse_line(json.dumps({"samples": ROWS}).encode(), 4).number is None
    assert np.isnan(parse_line(b'{"samples": [[NaN, 1, 2, 3]]}', 4).samples[0, 0])
    assert np.isnan(parse_line(b"nan,1,2,3", 4).samples[0, 0])


GARBAGE = [
    b"1,2,3",
    b"1,2,3,4,5",
    b"1,,3,4",
    b"1_0,2,3,4",
    b"0x1,2,3,4",
    b"one,2,3,4",
    b"\xff\xfe\x00",
    b"9" * 50 + b",2,3,4",
    b"{",
    b"{}",
    b'{"samples": []}',
    b'{"samples": 3}',
    b'{"samples": [[1,2,3]]}',
    b'{"samples": [[1,2,3,4],[1,2]]}',
    b'{"samples": [["1","2","3","4"]]}',
    b'{"samples": [[true,true,true,true]]}',
    b'{"samples": [[null,2,3,4]]}',
    b'{"samples": [[[1,2,3,4]]]}',
    b'{"samples": [[1,2,3,4]], "seq": -1}',
    b'{"samples": [[1,2,3,4]], "seq": 1.5}',
    b'{"samples": [[1,2,3,4]], "seq": true}',
    b'{"samples": [[1,2,3,4]], "seq": 1e400}',
    b'{"samples": [[1,2,3,4]], "time": "now"}',
    b'{"samples": [[1,2,3,4]], "time": NaN}',
    b'{"samples": ' + b"[" * 30000,
    b'{"samples": [[' + b"9" * 5000 + b",2,3,4]]}",
    b'{"samples": [[1,2,3,4]]} more',
]


@pytest.mark.parametrize("line", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_is_one_line_and_the_next_message_is_read(line: bytes) -> None:
    with pytest.raises(DataError) as caught:
        parse_line(line, 4)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 250
    bad, good = feed(line + b"\n1,2,3,4\n")
    assert (bad.refused, len(bad.samples), bad.reason) == (1, 0, str(caught.value))
    assert good.samples.tolist() == [[1, 2, 3, 4]]


def test_a_line_is_bounded_however_it_comes() -> None:
    long = b"1," * LIMIT
    for parts in ([long + b"\n1,2,3,4\n"], [long, long, b"5\n1,2,3,4\n"]):
        bad, good = feed(*parts)
        assert bad.refused == 1
        assert "expected at most 65536 bytes" in bad.reason
        assert good.samples.tolist() == [[1, 2, 3, 4]]
    reader = LineReader(4)
    for _ in range(50):
        list(reader.feed(long))
    assert len(reader._rest) <= LIMIT


def test_an_unfinished_line_is_no_sample() -> None:
    good, bad = feed(b"1,2,3,4\n1,2,3,45")
    assert len(good.samples) == 1
    assert "expected an end of line" in bad.reason
    assert feed(b"\n# a remark\n \r\n") == []


MESSAGES = (
    b"".join(b"%d,%d,0,1\n" % (i, i) for i in range(20))
    + json.dumps({"samples": ROWS, "seq": 3}).encode()
    + b"\nnonsense\n1,2,3,4\n"
)


@settings(max_examples=100, deadline=None)
@given(cuts=st.lists(st.integers(0, len(MESSAGES)), max_size=12))
def test_where_the_bytes_are_cut_changes_nothing(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(MESSAGES)]
    chunks = feed(*(MESSAGES[a:b] for a, b in pairwise(edges)))
    assert np.concatenate([chunk.samples for chunk in chunks]).shape == (23, 4)
    assert [chunk.number for chunk in chunks if chunk.number is not None] == [3]
    assert sum(chunk.refused for chunk in chunks) == 1


def fuzz(frames: int, seed: int) -> None:
    """Damage messages at random: each is read or refused, and none is lost or raised."""
    rng = np.random.default_rng(seed)
    sound = [*GARBAGE[:19], b"1,2,3,4", json.dumps({"samples": ROWS, "seq": 3}).encode()]
    reader = LineReader(4)
    read = 0
    for _ in range(frames):
        line = bytearray(sound[rng.integers(len(sound))])
        for _ in range(rng.integers(0, 4)):
            line[rng.integers(len(line))] = rng.integers(256)
        whole = bytes(line).replace(b"\n", b"!")
        blank = not whole.strip() or whole.lstrip().startswith(b"#")
        chunks = list(reader.feed(whole + b"\n"))
        assert len(chunks) == (not blank)
        for chunk in chunks:
            assert (chunk.refused == 1) == (len(chunk.samples) == 0)
            assert chunk.samples.shape[1] == 4
            assert len(chunk.reason) < 300
            assert chunk.reason.isprintable()
        read += sum(len(chunk.samples) for chunk in chunks)
    assert read > frames / 50  # not all were refused


def test_fuzz_a_little() -> None:
    fuzz(3000, 0)


@pytest.mark.slow
def test_fuzz() -> None:
    fuzz(120_000, 1)
