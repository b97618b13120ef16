"""The errors that a user can cause; each is one line: what was expected, what came, what to do.

The command line prints the line and exits with code 2; everything else is a defect of ours and
keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from reprlib import Repr
from typing import NoReturn


class MyoDistillError(Exception):
    """Base of every error that bad input can cause.

    Its message is one printable line of at most 400 characters, whatever it echoes: the middle of a
    longer one is cut, as the advice stands at the end.
    """

    def __init__(self, message: str = "") -> None:
        line = one_line(message, max(len(message), 1))
        super().__init__(line if len(line) <= 400 else f"{line[:300]}...{line[-97:]}")


class DataError(MyoDistillError):
    """A recording, archive or folder is not what its loader was told to expect."""


class SettingsError(MyoDistillError):
    """A setting has a value that no run can use."""


class ModelError(MyoDistillError):
    """A model is unknown, cannot be built for a signal, or does not match its weights."""


class LeakageError(MyoDistillError):
    """Something would be scored on repetitions that it has seen."""


class TrainingError(MyoDistillError):
    """Training diverged to values that are not finite; what was stored before is untouched."""


class BundleError(MyoDistillError):
    """A bundle is incomplete, altered or from another version."""


class PopulationError(MyoDistillError):
    """A population is incomplete, altered or from another version."""


class CacheError(MyoDistillError):
    """Cached teacher outputs are damaged or belong to something else."""


class OutputError(MyoDistillError):
    """Results cannot be written; what was there before is untouched."""


class PluginError(MyoDistillError):
    """A plug-in is not there, or fails while it is imported."""


class ToolError(MyoDistillError):
    """A program that is needed is not on this machine, or fails."""


def not_installed(error: ModuleNotFoundError) -> str:
    """Say in one line which library is missing, as in an installation that only decodes."""
    name = (error.name or "a library").partition(".")[0]
    return (
        f"expected {one_line(name, 40)} to be installed, it is not; install all of myodistill, as "
        f"myodistill-runtime only decodes what was exported"
    )


def unknown_name(kind: str, name: str, known: Iterable[str]) -> str:
    """Return the line for an unknown name, with the nearest known names as a suggestion.

    Args:
        kind: What the name names, for example ``"model"``.
        name: The name that was asked for.
        known: The names that exist.
    """
    names = sorted(known)
    near = get_close_matches(name[:80], names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names)}"
    return f"unknown {kind} {shown(name)}: {one_line(hint, 260)}"


def shown(value: object, length: int = 80) -> str:
    """Return a value as a message may echo it: its ``repr`` on one line, cut to ``length``.

    Args:
        value: Anything that came from a user or a file.
        length: Most characters of the result.
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
    """A ``repr`` that stops early on nested, long or huge values."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxlist, self.maxtuple, self.maxdict = 3, 8, 8, 8
        self.maxstring = self.maxother = 90

    def repr_int(self, x: int, level: int) -> str:
        return repr(x) if x.bit_length() <= 128 else f"a number of {x.bit_length()} bits"


_SHORT = _Short()


@dataclass(frozen=True)
class Wanted:
    """What a file should be, for the message if it is not.

    Attributes:
        expected: Noun phrase: ``"the settings of a run"``.
        error: Raised if it is something else.
        advice: What to do then, as ``"run again"``; may be empty.
        named: What the file is called in the message, if not by its path.
    """

    expected: str
    error: type[MyoDistillError] = DataError
    advice: str = ""
    named: str = ""

    @contextmanager
    def reading(self, source: object) -> Iterator[None]:
        """Turn whatever a parser raises in the block into one line.

        Args:
            source: File, or name of the part of one.
        """
        try:
            yield
        except MyoDistillError:
            raise
        except OSError as error:
            self.refuse(source, error.strerror or _reason(error), error)
        except Exception as error:  # a parser may throw anything on bad bytes
            self.refuse(source, _reason(error), error)

    def refuse(self, source: object, reason: str, cause: Exception | None = None) -> NoReturn:
        """Raise the error for ``source``.

        Args:
            source: File, or name of the part of one.
            reason: What came instead.
            cause: The parser's own error.
        """
        line = f"{_name(self.named or source)}: expected {self.expected}, got: "
        line += one_line(reason, 240) + (f"; {self.advice}" if self.advice else "")
        raise self.error(line) from cause


def _name(source: object) -> str:
    text = str(source)
    return one_line(text if len(text) <= 160 else f"...{text[-157:]}", 160)


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "too many levels within each other"
    if isinstance(error, MemoryError):
        return "more than the memory holds"
    if isinstance(error, UnicodeDecodeError):
        return f"bytes that are no text in UTF-8, at {error.start}"
    if isinstance(error, UnicodeEncodeError):
        return "half of a character"
    text = str(error)[:2000].strip()
    return text or f"what it cannot be read as ({type(error).__name__})"
