"""Reads files from a zip or from the folder that it unpacks to, as if there were no difference."""

from __future__ import annotations

import os
import re
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from myodistill.datasets.limits import LARGEST, check_member, read_member, require_sane
from myodistill.errors import DataError, shown

DATA_VARIABLE = "MYODISTILL_DATA"


@dataclass(frozen=True)
class File:
    """One file of a dataset: where it is, for messages, and how to read it.

    Attributes:
        name: Path within the dataset.
        location: Where it lies, for messages.
        read: Returns its content; errors name the file.
        path: Where it lies on disk; none within a zip.
        stamp: Changes when the content does: checksum or time of change, and size.
    """

    name: str
    location: str
    read: Callable[[], bytes]
    path: Path | None = None
    stamp: str = ""


@contextmanager
def on_disk(*files: File) -> Iterator[list[Path]]:
    """Provide files side by side on disk under their own names, for libraries that take paths."""
    paths = [file.path for file in files if file.path is not None]
    if len(paths) == len(files) and len({path.parent for path in paths}) == 1:
        yield paths
        return
    with tempfile.TemporaryDirectory(prefix="myodistill-") as folder:
        copies = [Path(folder) / PurePosixPath(file.name).name for file in files]
        for copy, file in zip(copies, files, strict=True):
            copy.write_bytes(file.read())
        yield copies


def data_folders() -> list[Path]:
    """Return the folders that may hold datasets: ``MYODISTILL_DATA``, else ``./data``.

    Raises:
        DataError: ``MYODISTILL_DATA`` names a folder that is not there.
    """
    named = os.environ.get(DATA_VARIABLE)
    if named:
        folders = [Path(part).expanduser() for part in named.split(os.pathsep) if part]
        for folder in folders:
            if not folder.is_dir():
                raise DataError(
                    f"{DATA_VARIABLE}: expected a folder, '{folder}' is none; "
                    f"set it to the folder that holds the datasets"
                )
        return folders
    default = Path("data")
    return [default] if default.is_dir() else []


def find_files(
    prefix: str | tuple[str, ...], pattern: re.Pattern[str], *, title: str
) -> dict[tuple[str, ...], File]:
    """Find the files of a dataset, in zips and folders whose name begins with ``prefix``.

    An unpacked folder takes the place of the zip with the same name; zips within a folder are
    searched, too.

    Args:
        prefix: Beginning of the zip's or folder's name, in any case; or several.
        pattern: Matched at the end of each path; its groups are the file's identity.
        title: The dataset's name for messages.

    Returns:
        File by identity.

    Raises:
        DataError: Nothing is found, a zip is broken, or two files claim one identity.
    """
    folders = data_folders()
    prefixes = (prefix,) if isinstance(prefix, str) else prefix
    roots = [root for folder in folders for root in _candidates(folder, prefixes)]
    files: dict[tuple[str, ...], File] = {}
    for root in roots:
        for file in list_files(root):
            match = pattern.search(file.name)
            if match is None:
                continue
            identity = match.groups()
            if identity in files:
                raise DataError(
                    f"{title}: expected one file for {'/'.join(identity)}, got "
                    f"{files[identity].location} and {file.location}; remove one of them"
                )
            files[identity] = file
    if not files:
        looked = ", ".join(str(folder) for folder in folders) or "no folder"
        held = f"; {', '.join(map(str, roots))} holds none of its recordings" if roots else ""
        raise DataError(
            f"{title}: expected '{prefixes[0]}*' (a zip or a folder), looked in {looked}{held}; "
            f"put it there or set {DATA_VARIABLE} to the folder that has it"
        )
    return files


def natural(name: str) -> tuple[object, ...]:
    """Sort key under which ``Male2`` comes before ``Male10``; no two names have the same."""
    parts = re.split(r"(\d+)", name)
    # Every second part is of decimal digits; int() takes no more than 4300 of them.
    numbers = (int(part[:4000]) if i % 2 else part for i, part in enumerate(parts))
    return tuple(numbers), name


def list_files(path: Path) -> list[File]:
    """List the files of a folder or zip.

    Raises:
        DataError: A zip is broken or unsafe.
    """
    return _folder_files(path) if path.is_dir() else _zip_files(path)


def _candidates(folder: Path, prefixes: tuple[str, ...]) -> list[Path]:
    beginnings = tuple(prefix.lower() for prefix in prefixes)
    matches = [
        path
        for path in [folder, *sorted(folder.iterdir())]
        if path.name.lower().startswith(beginnings)
        and (path.is_dir() or path.suffix.lower() == ".zip")
    ]
    return _without_unpacked(matches)


def _without_unpacked(paths: list[Path]) -> list[Path]:
    """Leave out every zip that lies beside a folder of its name."""
    unpacked = {path for path in paths if path.is_dir()}
    return [
        path
        for path in paths
        if path.suffix.lower() != ".zip" or path in unpacked or path.with_suffix("") not in unpacked
    ]


def _folder_files(folder: Path) -> list[File]:
    files = []
    root = folder.resolve()
    # Folders behind links are not walked into: what they lead to is here anyway, or is refused.
    for path in _without_unpacked(sorted(folder.rglob("*"))):
        outside = path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(root)
        packed = path.suffix.lower() == ".zip"
        if outside and (packed or path.is_dir()):
            raise DataError(_LEAVES.format(path=_line(path)))
        if not path.is_file():
            continue
        if packed:
            files.extend(_zip_files(path))
        else:
            name = path.relative_to(folder).as_posix()
            status = path.lstat() if outside else path.stat()
            stamp = f"{status.st_mtime_ns}:{status.st_size}"
            # Others than recordings may be links (environments are full of them): read is refused.
            read = _refused(path) if outside else _reader(path)
            files.append(File(name, _line(path), read, None if outside else path, stamp))
    return files


_LEAVES = "{path}: expected files of this folder, it is a link that leaves it; put them here"


def _line(path: object) -> str:
    """A path on one line for a message: names on disk may have line breaks."""
    return "".join(letter if letter.isprintable() else "?" for letter in str(path))


def _refused(path: Path) -> Callable[[], bytes]:
    def read() -> bytes:
        raise DataError(_LEAVES.format(path=_line(path)))

    return read


def _reader(path: Path) -> Callable[[], bytes]:
    def read() -> bytes:
        try:
            if path.stat().st_size > LARGEST:
                raise DataError(
                    f"{path}: expected at most {LARGEST} bytes, got {path.stat().st_size}; split it"
                )
            return path.read_bytes()
        except OSError as error:
            raise DataError(f"{path}: expected a readable file, got: {error.strerror}") from error

    return read


def _zip_files(path: Path) -> list[File]:
    try:
        archive = zipfile.ZipFile(path)
        members = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise DataError(f"{path}: expected a zip archive, got: {error}; fetch it again") from error
    for member in members:
        check_member(path, member)
        name = shown(member.filename)
        require_sane(path, name, member.compress_size, member.file_size)

    def reader(member: zipfile.ZipInfo) -> Callable[[], bytes]:
        def read() -> bytes:
            try:
                return read_member(archive, member)
            except Exception as error:  # zlib, bz2, lzma, encryption: each has errors of its own
                raise DataError(
                    f"{path}: expected an intact '{member.filename}', got: {error}; "
                    f"fetch the archive again"
                ) from error

        return read

    return [
        File(
            member.filename,
            f"{path.name}/{member.filename}",
            reader(member),
            stamp=f"{member.CRC:08x}:{member.file_size}",
        )
        for member in members
        if member.filename and not member.is_dir()  # a damaged one can have no name
    ]
