"""The errors that a user can cause; each is one line: what was expected, what came, what to do.

The command line prints the line and exits with code 2; everything else is a defect of ours and
keeps its traceback.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterable
from difflib import get_close_matches


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


class TrainingError(MyoDistillError):
    """Training did not converge to numbers; what was stored before is untouched."""


class BundleError(MyoDistillError):
    """A bundle is incomplete, altered or from another version."""


class CacheError(MyoDistillError):
    """Cached teacher outputs are damaged or belong to something else."""


class OutputError(MyoDistillError):
    """Results cannot be written; what was there before is untouched."""


class ToolError(MyoDistillError):
    """A program that is needed is not on this machine, or fails."""


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60


def shown(value: object) -> str:
    """Return a value from outside as a message may quote it: one line, at most 80 characters.

    Nested values are cut before they are written out, as a few lines of YAML can stand for
    gigabytes.
    """
    return " ".join(_SHORT.repr(value).split())[:80]


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
    return f"unknown {kind} {shown(name)}: {hint}"
