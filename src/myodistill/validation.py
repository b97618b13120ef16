"""Values checked against types; what pydantic objects to becomes one line."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from myodistill.errors import Wanted, one_line, shown

T = TypeVar("T")
UNKNOWN = "there is no such key"
"""What is said of a key that there is not."""


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
    said = one_line(first["msg"].removeprefix("Value error, "), 160)
    if not said.startswith("Input should be "):
        return key, f"{said[:1].lower()}{said[1:]}, got {got}"
    return key, f"expected {said.removeprefix('Input should be ')}, got {got}"


def checked(adapter: TypeAdapter[T], values: Any, place: object, wanted: Wanted) -> T:
    """Return values as a type, if they are of that type.

    Args:
        adapter: Of the type.
        values: What a file said.
        place: The file, for the message.
        wanted: What it should be.

    Raises:
        MyoDistillError: They are of another type; of the class that is wanted.
    """
    try:
        return adapter.validate_python(values)
    except ValidationError as error:
        wanted.refuse(place, ": ".join(filter(None, problem(error))), error)
