"""How much a file may unpack to, before and while it is unpacked.

Recordings are noisy: archives of them shrink to a half or a tenth, seldom less. An archive that
claims to unpack to a hundred times its size, and to more than a few megabytes, was made to fill
memory. A column of labels alone does shrink that much, hence the allowance below which nothing is
checked.
"""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import PurePosixPath

from myodistill.errors import DataError, shown

# The longest recordings of any public dataset fill some hundred megabytes a file.
LARGEST = 4 * 2**30
# Labels of an hour at 2 kHz, 64 bits each, are 58 MB and shrink to nothing.
ALLOWANCE = 64 * 2**20
DENSEST = 100
# No deflated byte stands for more than this many.
_DEFLATE_MOST = 1032
# Rows of recordings or annotations in a prepared store; some million fill a year.
MOST_ROWS = 10**7
# Electrodes of one layout; the largest arrays in use have some hundred.
MOST_CHANNELS = 4096


def unpacked_limit(packed: int) -> int:
    """Return how many bytes a file or a part of one, ``packed`` bytes long, may unpack to."""
    return min(LARGEST, max(ALLOWANCE, DENSEST * packed))


def require_sane(path: object, what: str, packed: int, unpacked: int) -> None:
    """Refuse what claims to unpack to more than a recording would.

    Raises:
        DataError: It does; the line names the file and ``what`` within it.
    """
    if unpacked > unpacked_limit(packed):
        raise DataError(
            f"{path}: expected recordings, {what} claims to unpack from {packed} to {unpacked} "
            f"bytes; do not trust it, fetch the dataset from its home"
        )


def inflate(content: bytes, limit: int) -> int:
    """Inflate a zlib stream and return its length; nothing of it is kept.

    Raises:
        ValueError: It is longer than ``limit``.
        zlib.error: It is damaged.
    """
    stream, total, chunk = zlib.decompressobj(), 0, 2**14  # of which at most 16 MiB come
    for begin in range(0, len(content), chunk):
        total += len(stream.decompress(content[begin : begin + chunk]))
        if total > limit:
            raise ValueError(f"{len(content)} bytes that unpack to more than {limit}")
    return total


def check_deflated(parts: Iterable[bytes], packed: int) -> None:
    """Refuse zlib streams of a file of ``packed`` bytes that unpack to too much together.

    Raises:
        ValueError: They do.
    """
    left = unpacked_limit(packed)
    if packed * _DEFLATE_MOST > left:
        for part in parts:
            left -= inflate(part, left)


def mat_streams(content: bytes) -> Iterable[bytes]:
    """Yield the compressed elements of a MATLAB file of version 5 to 7."""
    if 0 in content[:4]:  # version 4, by which SciPy tells it, compresses nothing
        return
    order = "<" if content[126:128] == b"IM" else ">"
    position = 128
    while position + 8 <= len(content):
        kind, size = struct.unpack_from(f"{order}II", content, position)
        if kind == 15:  # miCOMPRESSED; other elements are not of interest here
            yield content[position + 8 : position + 8 + size]
        elif kind >> 16:  # a small element, within its own tag
            size = 0
        position += 8 + size


def check_member(path: object, member: zipfile.ZipInfo) -> None:
    """Refuse a zip member that would leave its folder, fill the memory or stand for another file.

    Raises:
        DataError: It does; the line names the archive and the member.
    """
    printed = shown(member.filename)
    name = PurePosixPath(member.filename.replace("\\", "/"))
    inside = not (name.is_absolute() or ".." in name.parts or ":" in str(name))
    if not inside or not member.filename.isprintable() or len(member.filename) > 1000:
        raise DataError(
            f"{path}: expected files within the archive's own folder, got {printed}; "
            f"do not trust this archive, fetch the dataset from its home"
        )
    if stat.S_ISLNK(member.external_attr >> 16):
        raise DataError(
            f"{path}: expected files, {printed} is a link; pack what it points to instead"
        )
    check_packing(path, member)


def check_packing(path: object, member: zipfile.ZipInfo) -> None:
    """Refuse a zip member that Python unpacks without an upper bound.

    Raises:
        DataError: It is neither stored nor deflated.
    """
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DataError(
            f"{path}: expected members that are stored or deflated, {shown(member.filename)} is "
            f"packed in another way; unpack the archive into a folder"
        )


def read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """Read as much of a member as its archive declares, and no more."""
    with archive.open(member) as stream:
        content = stream.read(member.file_size)
    if len(content) != member.file_size:
        raise ValueError(f"{len(content)} of {member.file_size} bytes")
    return content
