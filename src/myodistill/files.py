"""Files appear whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from myodistill.errors import DataError, MyoDistillError, OutputError, shown

LEAKING = "LEAKING"
"""Begins the name of every file, and of every column of scores, that comes of splits that leak."""

_ADVICE = {
    errno.ENOSPC: "the disk is full, free some space",
    errno.EDQUOT: "the disk quota is used up, free some space",
    errno.EACCES: "the folder is not writable, choose another with --out",
    errno.EPERM: "the folder is not writable, choose another with --out",
    errno.EROFS: "the file system is read-only, choose another folder with --out",
    errno.ENOTDIR: "a file stands where a folder is needed, choose another folder with --out",
    errno.EEXIST: "a file stands where a folder is needed, choose another folder with --out",
}


def plain_name(kind: str, name: str, error: type[MyoDistillError] = DataError) -> str:
    """Return a name of a folder or file if it is one plain part of a path.

    Args:
        kind: What it names, for the message.
        name: Letters of any script.
        error: What to raise.

    Raises:
        MyoDistillError: The name could leave its folder, hide, or not be written at all.
    """
    plain = (
        isinstance(name, str)
        and 0 < len(name) <= 100
        and name.isprintable()  # no control characters, line breaks or lone surrogates
        and name == name.strip()
        and not name.startswith(".")
        and not set(name) & set("/\\:")
        and len(name.encode()) <= 200
    )
    if not plain:
        raise error(
            f"{kind}: expected a name of 1 to 100 printable characters without / \\ : and without "
            f"a dot or space at its ends, got {shown(name)}; rename it"
        )
    return name


def plain_names(
    kind: str, names: Iterable[str], error: type[MyoDistillError] = DataError
) -> tuple[str, ...]:
    """Return names that lie side by side in one folder: plain, and different on any file system.

    Raises:
        MyoDistillError: As :func:`plain_name`, or two differ in nothing but case or the way an
            accent is encoded.
    """
    folded: dict[str, str] = {}
    for name in names:
        plain_name(kind, name, error)
        key = unicodedata.normalize("NFKC", name.casefold())
        other = folded.setdefault(key, name)
        if other != name:
            raise error(
                f"{kind}: expected names that differ in more than case and accents' encoding, got "
                f"{shown(other)} and {shown(name)}; rename one"
            )
    return tuple(folded.values())


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an error of the operating system while writing into one line.

    Raises:
        OutputError: ``path`` cannot be written.
    """
    try:
        yield
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0, "choose another folder with --out")
        reason = error.strerror or shown(str(error))  # NumPy's short writes have no number
        raise OutputError(
            f"{path}: expected to write there, got: {reason}; {advice} "
            f"(what was finished before is kept)"
        ) from error


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old content or the new, never a part.

    Raises:
        OutputError: The file cannot be written; an older one is untouched.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(name).chmod(0o644)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, 64 hex digits.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of(path: Path) -> str | None:
    """Return what :func:`file_sha256` does; None if the file cannot be read."""
    try:
        return file_sha256(path)
    except OSError:
        return None


def write_text(path: Path, content: str) -> None:
    """Write a text file whole or not at all; see :func:`write_bytes`."""
    write_bytes(path, content.encode())


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Fill a folder beside ``path`` and move it into place when the block succeeds.

    An older folder stays until then, and stays for good if the block fails.

    Raises:
        OutputError: The folder cannot be written.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        part.chmod(0o755)
        yield part
        with writing(path):
            if path.exists():
                old = part.with_name(f"{part.name}.old")
                path.replace(old)
                part.replace(path)
                shutil.rmtree(old)
            else:
                part.replace(path)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
