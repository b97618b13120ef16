"""YAML restricted to the values that JSON can express.

Plain words are read by the core schema of YAML 1.2: ``null``, ``true`` and ``false``, integers and
decimal numbers (``1e-3``, too); all else is text. So ``no`` is a word and ``2001-12-31`` is one. A
setting that is a truth value still takes ``yes`` and ``no``, as on the command line. Tags, anchors,
aliases, merge keys, duplicate keys and numbers that are not finite are refused: without them a file
means what it shows, and a short file cannot expand.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import yaml

from myodistill.errors import one_line, shown

DEEPEST = 32
"""Levels of lists and mappings within each other."""
_INTEGER = re.compile(r"[-+]?[0-9]+")
_NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


def load(text: str, *, integer_keys: bool = False) -> Any:
    """Parse one document.

    Args:
        text: YAML.
        integer_keys: Let keys of mappings be integers; else they are strings.

    Returns:
        None, a bool, int, finite float, string, or a list or dict of these.

    Raises:
        ValueError: It is not YAML, or uses what is refused; the message is one line.
    """
    try:
        events = iter(yaml.parse(text, Loader=yaml.SafeLoader))
        next(events)  # the stream's start
        if isinstance(next(events), yaml.StreamEndEvent):
            return None
        value = _node(next(events), events, 0, integer_keys)
        next(events)  # the document's end
        if not isinstance(next(events), yaml.StreamEndEvent):
            raise ValueError("more than one document")
    except yaml.MarkedYAMLError as error:
        where = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ValueError(one_line(f"no YAML: {error.problem}{where}")) from error
    except yaml.YAMLError as error:
        raise ValueError(one_line(f"no YAML: {error}")) from error
    return value


def _node(event: Any, events: Iterator[Any], depth: int, integer_keys: bool) -> Any:
    line = f"line {event.start_mark.line + 1}"
    if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
        raise ValueError(f"{line}: an anchor or alias; write the value out")
    if event.tag is not None:
        raise ValueError(f"{line}: a tag, {shown(event.tag, 30)}; write the value without it")
    if depth > DEEPEST:
        raise ValueError(f"{line}: more than {DEEPEST} levels within each other")
    if isinstance(event, yaml.ScalarEvent):
        # A character may be written as two halves, as in JSON.
        text = event.value.encode("utf-16", "surrogatepass").decode("utf-16")
        return _scalar(text, line) if event.implicit[0] else text
    if isinstance(event, yaml.SequenceStartEvent):
        items = []
        while not isinstance(part := next(events), yaml.SequenceEndEvent):
            items.append(_node(part, events, depth + 1, integer_keys))
        return items
    mapping: dict[Any, Any] = {}
    while not isinstance(part := next(events), yaml.MappingEndEvent):
        line = f"line {part.start_mark.line + 1}"
        key = _node(part, events, depth + 1, integer_keys)
        if key == "<<":
            raise ValueError(f"{line}: a merge key; write its keys out")
        if not isinstance(key, str) and not (integer_keys and type(key) is int):
            raise ValueError(f"{line}: the key {shown(key, 30)}; put it in quotes")
        if key in mapping:
            raise ValueError(f"{line}: the key {shown(key, 30)} a second time")
        mapping[key] = _node(next(events), events, depth + 1, integer_keys)
    return mapping


def _scalar(text: str, line: str) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        value = int(text) if len(text) <= 20 else 2**63
        if not -(2**63) <= value < 2**63:
            raise ValueError(f"{line}: an integer beyond 64 bits, {shown(text, 30)}")
        return value
    if _NUMBER.fullmatch(text) or _NOT_FINITE.fullmatch(text):
        number = math.inf if _NOT_FINITE.fullmatch(text) else float(text)
        if not math.isfinite(number):
            raise ValueError(f"{line}: a number that is not finite, {shown(text, 30)}")
        return number
    return text
