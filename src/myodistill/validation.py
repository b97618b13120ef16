"""Values checked against types; what pydantic objects to becomes one line."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from myodistill.errors import Wanted, one_line, shown

T = TypeVar("T")
UNKNOWN = "there is no such key"
"""The reason given for an unknown key."""


def problem(error: ValidationError) -> tuple[str, str]:
    """Return the dotted key that is wrong first, and what was expected and came."""
    first = error.errors(include_url=False)[0]
    key = one_line(".".join(str(part) for part in first["loc"] if not isinstance(part, int)), 60)
    if first["type"] == "missing":
        return key, "expected a value, got none"
    if first["type"] == "extra_forbidden":
        return key, UNKNOWN
    got = shown(first["input"])
    if first["type"] == "path_type":
        return key, f"expected a path, got {got}"
    message = one_line(first["msg"].removeprefix("Value error, "), 160)
    if not message.startswith("Input should be "):
        return key, f"{message[:1].lower()}{message[1:]}, got {got}"
    return key, f"expected {message.removeprefix('Input should be ')}, got {got}"


def checked(adapter: TypeAdapter[T], values: Any, source: object, wanted: Wanted) -> T:
    """Return values as a type, if they are of that type.

    Args:
        adapter: Of the type.
        values: Content of a file.
        source: The file, for the message.
        wanted: What it should be.

    Raises:
        MyoDistillError: They are of another type; of the class that is wanted.
    """
    try:
        return adapter.validate_python(values)
    except ValidationError as error:
        wanted.refuse(source, ": ".join(filter(None, problem(error))), error)
