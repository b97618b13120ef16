"""Reads files from a zip or from the folder that it unpacks to, as if there were no difference."""

from __future__ import annotations

import os
import re
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from myodistill.errors import DataError

DATA_VARIABLE = "MYODISTILL_DATA"


@dataclass(frozen=True)
class File:
    """One file of a dataset: where it is, for messages, and how to read it."""

    name: str
    place: str
    read: Callable[[], bytes]


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


def find_files(prefix: str, pattern: re.Pattern[str], *, title: str) -> dict[tuple[str, ...], File]:
    """Find the files of a dataset, in zips and folders whose name begins with ``prefix``.

    An unpacked folder takes the place of the zip with the same name.

    Args:
        prefix: Beginning of the zip's or folder's name, in any case.
        pattern: Matched at the end of each path; its groups are the file's identity.
        title: The dataset's name for messages.

    Returns:
        File by identity.

    Raises:
        DataError: Nothing is found, a zip is broken, or two files claim one identity.
    """
    folders = data_folders()
    places = [place for folder in folders for place in _candidates(folder, prefix)]
    found: dict[tuple[str, ...], File] = {}
    for place in places:
        files = _folder_files(place) if place.is_dir() else _zip_files(place)
        for file in files:
            match = pattern.search(file.name)
            if match is None:
                continue
            identity = match.groups()
            if identity in found:
                raise DataError(
                    f"{title}: expected one file for {'/'.join(identity)}, got "
                    f"{found[identity].place} and {file.place}; remove one of them"
                )
            found[identity] = file
    if not found:
        looked = ", ".join(str(folder) for folder in folders) or "no folder"
        held = f"; {', '.join(map(str, places))} holds none of its recordings" if places else ""
        raise DataError(
            f"{title}: expected '{prefix}*' (a zip or a folder), looked in {looked}{held}; "
            f"put it there or set {DATA_VARIABLE} to the folder that has it"
        )
    return found


def natural(name: str) -> tuple[object, ...]:
    """Sort key under which ``Male2`` comes before ``Male10``."""
    return tuple(int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name))


def _candidates(folder: Path, prefix: str) -> list[Path]:
    matches = [
        path
        for path in [folder, *sorted(folder.iterdir())]
        if path.name.lower().startswith(prefix.lower())
        and (path.is_dir() or path.suffix.lower() == ".zip")
    ]
    unpacked = {path for path in matches if path.is_dir()}
    return [path for path in matches if path.is_dir() or path.with_suffix("") not in unpacked]


def _folder_files(folder: Path) -> list[File]:
    def reader(path: Path) -> Callable[[], bytes]:
        def read() -> bytes:
            try:
                return path.read_bytes()
            except OSError as error:
                raise DataError(
                    f"{path}: expected a readable file, got: {error.strerror}"
                ) from error

        return read

    return [
        File(path.relative_to(folder).as_posix(), str(path), reader(path))
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]


def _zip_files(path: Path) -> list[File]:
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(f"{path}: expected a zip archive, got: {error}; fetch it again") from error

    def reader(name: str) -> Callable[[], bytes]:
        def read() -> bytes:
            try:
                return archive.read(name)
            except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
                raise DataError(
                    f"{path}: expected an intact '{name}', got: {error}; fetch the archive again"
                ) from error

        return read

    return [
        File(name, f"{path.name}/{name}", reader(name))
        for name in archive.namelist()
        if not name.endswith("/")
    ]
