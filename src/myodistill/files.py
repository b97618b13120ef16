"""Files appear whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from myodistill.errors import OutputError

_ADVICE = {
    errno.ENOSPC: "the disk is full, free some space",
    errno.EDQUOT: "the disk quota is used up, free some space",
    errno.EACCES: "the folder is not writable, choose another with --out",
    errno.EPERM: "the folder is not writable, choose another with --out",
    errno.EROFS: "the file system is read-only, choose another folder with --out",
    errno.ENOTDIR: "a file stands where a folder is needed, choose another folder with --out",
    errno.EEXIST: "a file stands where a folder is needed, choose another folder with --out",
}


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the operating system says while writing into one line.

    Raises:
        OutputError: ``path`` cannot be written.
    """
    try:
        yield
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0, "choose another folder with --out")
        raise OutputError(
            f"{path}: expected to write there, got: {error.strerror}; {advice} "
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


def sha256_of(path: Path) -> str | None:
    """Return the SHA-256 of a file's bytes, 64 hex digits; None if it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def write_text(path: Path, content: str) -> None:
    """Write a text file whole or not at all; see :func:`write_bytes`."""
    write_bytes(path, content.encode())


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Fill a folder beside ``path`` and put it in its place when the block ends well.

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
