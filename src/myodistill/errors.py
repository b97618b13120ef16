"""The errors that a user can cause; each is one line: what was expected, what came, what to do.

The command line prints the line and exits with code 2; everything else is a defect of ours and
keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from reprlib import Repr


class MyoDistillError(Exception):
    """Base of every error that bad input can cause."""


class DataError(MyoDistillError):
    """A recording, archive or folder is not what its loader was told to expect."""


class SettingsError(MyoDistillError):
    """A setting has a value that no run can use."""


class ModelError(MyoDistillError):
    """A model is unknown, cannot be built for a signal, or does not match its weights."""


class LeakageError(MyoDistillError):
    """Something would be scored on repetitions that it has seen."""


class BundleError(MyoDistillError):
    """A bundle is incomplete, altered or from another version."""


class CacheError(MyoDistillError):
    """Cached teacher outputs are damaged or belong to something else."""


class OutputError(MyoDistillError):
    """Results cannot be written; what was there before is untouched."""


class ToolError(MyoDistillError):
    """A program that is needed is not on this machine, or fails."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> str:
    """Return the line for an unknown name, with the nearest known names as a suggestion.

    Args:
        kind: What the name names, for example ``"model"``.
        name: The name that was asked for.
        known: The names that exist.
    """
    names = sorted(known)
    near = get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names)}"
    return f"unknown {kind} '{name}': {hint}"


def shown(value: object, length: int = 80) -> str:
    """Return a value as a message may echo it: its ``repr`` on one line, cut to ``length``.

    Args:
        value: Anything that came from a user or a file.
        length: Most characters of the answer.
    """
    if isinstance(value, str | bytes):
        value = value[: length + 1]
    try:
        text = repr(value) if isinstance(value, str | bytes) else _SHORT.repr(value)
    except Exception:  # whatever a foreign __repr__ throws
        text = f"a {type(value).__name__}"
    return one_line(text, length)


def one_line(text: str, length: int = 120) -> str:
    """Return text, such as another library's complaint, on one line and cut to ``length``."""
    head = " ".join(text[: 4 * length].split())
    safe = "".join(char if char.isprintable() else "?" for char in head)
    return safe if len(safe) <= length else f"{safe[: length - 3]}..."


class _Short(Repr):
    """``repr`` that does not go all the way through what is nested, long or huge."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxlist, self.maxtuple, self.maxdict = 3, 8, 8, 8
        self.maxstring = self.maxother = 90

    def repr_int(self, x: int, level: int) -> str:
        return repr(x) if x.bit_length() <= 128 else f"a number of {x.bit_length()} bits"


_SHORT = _Short()
