"""What a message echoes of bad input: one short line, whatever it was."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from myodistill.errors import DataError, one_line, shown


class Broken:
    def __repr__(self) -> str:
        raise ValueError


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a", "'a'"),
        ("a\nb\x1b\u202e", r"'a\nb\x1b\u202e'"),
        (10**400, "a number of 1329 bits"),
        ({"a": [10**400]}, "{'a': [a number of 1329 bits]}"),
        ([[[[[1]]]]], "[[[[...]]]]"),
        (list(range(10**5)), "[0, 1, 2, 3, 4, 5, 6, 7, ...]"),
        (np.float32(2), "np.float32(2.0)"),
        (Broken(), "<Broken instance"),
    ],
)
def test_values_are_shown_briefly(value: object, text: str) -> None:
    assert shown(value).startswith(text)


def test_a_number_that_python_refuses_to_print() -> None:
    assert shown(10**5000) == "a number of 16610 bits"


@given(st.one_of(st.text(), st.binary(), st.lists(st.text()), st.integers(), st.floats()))
def test_what_is_shown_is_one_line(value: object) -> None:
    for text in (shown(value), shown(value, 20), one_line(str(value), 30)):
        assert text.isprintable()
        assert len(text) <= 80


def test_a_message_is_one_line_that_ends_with_the_advice() -> None:
    error = DataError(f"a\n\x1b[31m: {'x' * 1000}; do this")
    assert str(error).isprintable()
    assert len(str(error)) == 400
    assert str(error).endswith("x; do this")
    assert str(DataError("short")) == "short"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # as between processes
