"""Reads every array of a .csv, .npy, .npz, .mat or HDF5 file."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import csv

from myodistill.datasets.foreign import Array, guarded, read_hdf5, read_mat
from myodistill.datasets.limits import check_packing, require_sane
from myodistill.datasets.recording import Signal
from myodistill.datasets.trees import File
from myodistill.errors import DataError, shown


def read_arrays(file: File) -> dict[str, Array]:
    """Read every array of a file, by name; the only one of a .csv or .npy has the name ``""``.

    Raises:
        DataError: The file is damaged or of a kind that is not read.
    """
    kind = Path(file.name).suffix.lower()
    if kind in (".csv", ".txt", ".tsv"):
        return {"": _read_table(file, "\t" if kind == ".tsv" else ",")}
    if kind in (".npy", ".npz"):

        def parse() -> dict[str, Array]:
            content = file.read()
            loaded = np.load(io.BytesIO(content), allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return {"": loaded}
            members = loaded.zip.infolist()
            for member in members:
                check_packing(file.location, member)
            require_sane(file.location, "it", len(content), sum(one.file_size for one in members))
            return {name: loaded[name] for name in loaded.files}

        return guarded(file, "NumPy arrays without pickles", parse)
    if kind == ".mat":
        arrays = read_mat(file)
        return {name: array for name, array in arrays.items() if array.dtype.kind in "iufbUS"}
    if kind in (".h5", ".hdf5"):
        return read_hdf5(file)
    raise DataError(f"{file.location}: expected .csv, .npy, .npz, .mat or .h5, got '{kind}'")


def read_array(file: File, name: str) -> Array:
    """Read one array of a file; errors as :func:`read_arrays`, or there is none of that name."""
    arrays = read_arrays(file)
    if name in arrays:
        return arrays[name]
    if not name and len(arrays) == 1:
        return next(iter(arrays.values()))
    held = ", ".join(sorted(arrays)) or "nothing"
    raise DataError(f"{file.location}: expected an array {shown(name)}, it holds {_cut(held)}")


def comma_separated(file: File, channels: int) -> Signal:
    """Read a file of bare comma-separated numbers, one row a sample, as ``(time, channel)``.

    Args:
        file: Without a heading.
        channels: How many it should have, for the message.

    Raises:
        DataError: It is empty, or a row is damaged.
    """
    content = file.read()
    if not content.strip():
        raise DataError(f"{file.location}: expected samples, got an empty file; fetch it again")
    try:
        table = csv.read_csv(
            pa.BufferReader(content),
            read_options=csv.ReadOptions(autogenerate_column_names=True, use_threads=False),
        )
        signal = np.empty((table.num_rows, table.num_columns), dtype=np.float32)
        for channel, column in enumerate(table.columns):
            signal[:, channel] = column.to_numpy()
    except (pa.ArrowInvalid, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0][:120]
        raise DataError(
            f"{file.location}: expected rows of {channels} "
            f"comma-separated numbers, got: {reason}; the file is truncated or damaged, "
            f"fetch it again"
        ) from error
    return signal


def _cut(text: str) -> str:
    return text if len(text) <= 80 and text.isprintable() else shown(text)


def _read_table(file: File, separator: str) -> Array:
    """Numbers in rows; a first row of names is skipped."""

    def parse() -> Array:
        content = file.read()
        first = content.split(b"\n", 1)[0].decode("utf-8").strip().split(separator)
        header = 0 if any(not _is_number(word) for word in first) else None
        table = pd.read_csv(io.BytesIO(content), sep=separator, header=header)
        values = table.to_numpy()
        if values.dtype.kind not in "iufb" or values.size == 0:
            raise ValueError("something that is no number" if values.size else "no rows")
        return np.asarray(values)

    return guarded(file, "rows of separated numbers", parse)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
