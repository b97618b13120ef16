"""Reads the containers that recordings come in: MATLAB, HDF5, WFDB, EDF and BDF.

Every reader turns whatever its library raises on a damaged file into one line that names the file.
"""

from __future__ import annotations

import importlib
import io
import math
import struct
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import PurePosixPath
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from myodistill.datasets.limits import check_deflated, mat_streams, unpacked_limit
from myodistill.datasets.recording import Signal
from myodistill.datasets.trees import File, on_disk
from myodistill.errors import DataError, shown

Array = NDArray[Any]
T = TypeVar("T")

_HDF5 = b"\x89HDF\r\n\x1a\n"


def needs(module: str) -> Any:
    """Import a reader that a plain installation leaves out.

    Raises:
        DataError: It is not installed; the line says how to get it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise DataError(
            f"reading this dataset needs '{module}': install myodistill[formats] for this"
        ) from error


def guarded(file: File, expected: str, parse: Callable[[], T]) -> T:
    """Run a parser on a file that may be damaged.

    Raises:
        DataError: The parser failed in whatever way; the line names the file.
    """
    try:
        return parse()
    except DataError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:80] or type(error).__name__
        raise DataError(
            f"{file.location}: expected {expected}, got: {reason}; "
            f"the file is truncated or damaged, fetch it again"
        ) from error


def read_mat(file: File, *names: str) -> dict[str, Array]:
    """Read variables of a MATLAB file, of version 4 to 7.3.

    Args:
        file: The file.
        names: Variables that must be there; none for all that are arrays.

    Returns:
        Array by name, axes in MATLAB's order.

    Raises:
        DataError: The file is damaged or lacks a variable.
    """
    content = file.read()
    if content[:8] == _HDF5 or content[512:520] == _HDF5:
        arrays = {name: array.T for name, array in _arrays_of_hdf5(file, content).items()}
    else:
        guarded(file, "a MATLAB file", lambda: check_deflated(mat_streams(content), len(content)))
        _try_apart(file, content)
        io_module = importlib.import_module("scipy.io")
        values = guarded(
            file,
            "a MATLAB file",
            lambda: io_module.loadmat(io.BytesIO(content), variable_names=names or None),
        )
        if any(name not in values for name in names):
            values = guarded(file, "a MATLAB file", lambda: io_module.loadmat(io.BytesIO(content)))
        arrays = {
            name: np.asarray(value) for name, value in values.items() if not name.startswith("__")
        }
    for name in names:
        if name not in arrays:
            held = ", ".join(sorted(arrays)) or "nothing of that kind"
            raise DataError(
                f"{file.location}: expected a variable '{name}', it holds {held}; "
                f"this is not a file of that dataset, or it is truncated"
            )
    return arrays


_TRIAL = """
import io, struct, sys, scipy.io
while head := sys.stdin.buffer.read(8):
    content = io.BytesIO(sys.stdin.buffer.read(struct.unpack("<Q", head)[0]))
    try:
        scipy.io.loadmat(content)
    except Exception:
        pass
    sys.stdout.buffer.write(b"1")
    sys.stdout.buffer.flush()
"""


@cache
def _trial(attempt: int) -> subprocess.Popen[bytes]:
    """Start the process that reads MATLAB files on trial; another for every crash."""
    command = [sys.executable, "-c", _TRIAL]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def _try_apart(file: File, content: bytes) -> None:
    """Read a MATLAB file in another process first: a damaged one can crash SciPy's reader.

    Raises:
        DataError: That process crashed.
    """
    process = _trial(_crashes[0])
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(struct.pack("<Q", len(content)) + content)
        process.stdin.flush()
        survived = process.stdout.read(1) == b"1"
    except BrokenPipeError:
        survived = False
    if not survived:
        _crashes[0] += 1
        raise DataError(
            f"{file.location}: expected a MATLAB file, its reader crashed on it; "
            f"the file is truncated or damaged, fetch it again"
        )


_crashes = [0]


def read_hdf5(file: File) -> dict[str, Array]:
    """Read all arrays of an HDF5 file, by their path within it."""
    return _arrays_of_hdf5(file, file.read())


def _arrays_of_hdf5(file: File, content: bytes) -> dict[str, Array]:
    h5py = needs("h5py")
    arrays: dict[str, Array] = {}
    left = unpacked_limit(len(content))

    def visit(name: str, item: Any) -> None:
        nonlocal left
        if not isinstance(item, h5py.Dataset) or item.dtype.kind not in "iufb":
            return
        if item.external or item.is_virtual:
            raise ValueError(f"{shown(name)} whose numbers lie in another file")
        # A damaged header can claim any size, and a chunk can inflate to more than its own.
        left -= item.nbytes
        if left < 0:
            raise ValueError(f"{shown(name)} that claims {item.nbytes} bytes")
        if item.chunks and item.compression == "gzip":
            count = item.id.get_num_chunks()
            offsets = (item.id.get_chunk_info(i).chunk_offset for i in range(count))
            check_deflated((item.id.read_direct_chunk(at)[1] for at in offsets), len(content))
        arrays[name] = np.asarray(item)

    def parse() -> dict[str, Array]:
        with h5py.File(io.BytesIO(content), "r") as archive:
            archive.visititems(visit)
        return arrays

    return guarded(file, "an HDF5 file", parse)


def read_wfdb(header: File, data: File | None) -> tuple[Signal, float, list[str], list[str]]:
    """Read a WFDB record: a ``.hea`` header and the one ``.dat`` file that it names.

    Returns:
        Signal ``(time, channel)`` in physical units, rate in hertz, channel names, units.

    Raises:
        DataError: The record is damaged, has no data file, or its header names other files.
    """
    if data is None:
        raise DataError(
            f"{header.location}: expected its .dat file beside it, there is none; fetch it again"
        )
    wfdb = needs("wfdb")
    plain = PurePosixPath(data.name).name

    def parse() -> tuple[Signal, float, list[str], list[str]]:
        with on_disk(header, data) as (path, data_path):
            _check_wfdb(header.read().decode("utf-8"), plain, data_path.stat().st_size)
            record = wfdb.rdrecord(str(path.with_suffix("")))
        signal = np.asarray(record.p_signal, dtype=np.float32)
        return signal, float(record.fs), list(record.sig_name), list(record.units)

    return guarded(header, f"a WFDB header and {plain}", parse)


def _check_wfdb(text: str, data: str, size: int) -> None:
    """Check a WFDB header against its data file before a library opens what it names."""
    lines = [line.split() for line in text.splitlines() if line.strip() and line[0] != "#"]
    record, signals = lines[0], lines[1:]
    if len(record) < 4 or "/" in record[0] or len(signals) != int(record[1]):
        raise ValueError(f"a header of {len(signals)} signals that begins {record[:2]}")
    named = sorted({line[0] for line in signals})
    if named != [data]:
        raise ValueError(f"a header that names {named}")
    bytes_each = {"16": 2, "24": 3, "32": 4, "80": 1}
    wanted = int(record[3]) * sum(bytes_each.get(line[1], 0) for line in signals)
    if int(record[3]) < 1 or size < wanted:
        raise ValueError(f"{size} of {wanted} bytes of samples")


def read_edf(file: File) -> tuple[dict[str, Array], dict[str, float], dict[str, str]]:
    """Read an EDF or BDF file.

    Returns:
        By channel name: samples in physical units, rate in hertz, unit.

    Raises:
        DataError: The file is damaged or two channels have one name.
    """
    pyedflib = needs("pyedflib")

    def parse() -> tuple[dict[str, Array], dict[str, float], dict[str, str]]:
        with on_disk(file) as (path,):
            _check_edf(path.read_bytes()[:_EDF_HEAD], path.stat().st_size)
            reader = pyedflib.EdfReader(str(path))
            try:
                names = reader.getSignalLabels()
                if len(set(names)) != len(names):
                    raise ValueError("two channels of one name")
                channels = range(len(names))
                signals = {
                    names[i]: reader.readSignal(i).astype(np.float32)
                    for i in channels
                    if "annotation" not in names[i].lower()
                }
                rates = {names[i]: float(reader.getSampleFrequency(i)) for i in channels}
                units = {names[i]: reader.getPhysicalDimension(i).strip() for i in channels}
            finally:
                reader.close()
        return signals, rates, units

    return guarded(file, "an EDF or BDF file", parse)


_EDF_HEAD = 256 * 1025


def _check_edf(head: bytes, size: int) -> None:
    """Check the sizes in an EDF header against the file before a C library trusts them."""
    if len(head) < 256:
        raise ValueError(f"{len(head)} bytes, less than a header")
    records, signals = int(head[236:244]), int(head[252:256])
    if not 1 <= signals <= 1024 or len(head) < 256 * (signals + 1):
        raise ValueError(f"a header of {signals} channels")
    begin = 256 + 216 * signals
    counts = [int(head[begin + 8 * i : begin + 8 * i + 8]) for i in range(signals)]
    if min(counts) < 0:
        raise ValueError("a negative count of samples")
    width = 3 if head[:1] == b"\xff" else 2
    wanted = 256 * (signals + 1) + width * sum(counts) * max(records, 0)
    if size < wanted:
        raise ValueError(f"{size} of the {wanted} bytes that its header promises")


def read_numbers(file: File) -> list[int]:
    """Read whole numbers separated by commas or white space."""

    def parse() -> list[int]:
        words = file.read().decode("ascii").replace(",", " ").split()
        values = [float(word) for word in words]
        if not values or not all(math.isfinite(value) and value == int(value) for value in values):
            raise ValueError("something else" if values else "nothing")
        return [int(value) for value in values]

    return guarded(file, "whole numbers separated by commas", parse)


def as_signal(file: File, array: Array, *, unit_scale: float = 1.0) -> Signal:
    """Return a numeric two-dimensional array as a ``(time, channel)`` signal.

    Raises:
        DataError: It is something else.
    """
    if array.ndim != 2 or array.dtype.kind not in "iuf" or 0 in array.shape:
        raise DataError(
            f"{file.location}: expected a (time, channel) table of numbers, "
            f"got {array.dtype} of shape {array.shape}; check which variable holds the signal"
        )
    with np.errstate(over="ignore", invalid="ignore"):  # a recording refuses what is not finite
        return np.ascontiguousarray(array * unit_scale, dtype=np.float32)
