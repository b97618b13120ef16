"""Signals and what is computed of them on disk, so that memory does not grow with the people.

Nothing here outlives a run. What every process of a run reads lies in its :func:`scratch` folder;
what one process reads alone is :class:`DiskRows` in a file without a name. The page cache keeps
both as fast as memory allows, and none of its pages counts as the process's own.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from myodistill.datasets.recording import Repetition
from myodistill.errors import CacheError
from myodistill.files import write_bytes, writing
from myodistill.signals.windows import Windows


@contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """Hold a folder for as long as a run takes; what a killed run left in it is removed first."""
    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def give_back_memory() -> None:
    """Have freed blocks of 4 MiB or more go back to the system at once, in this process.

    The GNU C library would raise that size to 32 MiB as it meets such blocks, and keep what lies
    between others: a hundred megabytes in a run. Other libraries are left as they are.
    """
    if set_option := getattr(ctypes.CDLL(None), "mallopt", None):
        set_option(_MMAP_THRESHOLD, 2**22)


_MMAP_THRESHOLD = -3  # M_MMAP_THRESHOLD of malloc.h


class DiskRows:
    """Rows of float32 in a file that disappears with the process, however that ends.

    They are read on demand, each with one call to the system. A memory map would do without the
    calls, but every page that was ever touched would be resident.

    Args:
        folder: Where there is room on the disk; made if it is not there.
        blocks: The rows, some at a time, shape ``(row, ...)`` each; at least one block.

    Attributes:
        shape: Of all rows together.

    Raises:
        OutputError: They cannot be written.
    """

    device = torch.device("cpu")

    def __init__(self, folder: Path, blocks: Iterable[Tensor]) -> None:
        self._folder = folder
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115
        self._begin, count = 0, 0
        for block in blocks:
            content = _bytes(block.contiguous())
            with writing(folder):
                while len(content):
                    content = content[self._file.write(content) :]
            count += len(block)
        self.shape = (count, *block.shape[1:])

    @classmethod
    def open(cls, path: Path) -> DiskRows:
        """Read the rows of an ``.npy`` file of float32 when they are asked for.

        Raises:
            CacheError: It is no such file, or not as long as it says.
        """
        rows = cls.__new__(cls)
        rows._folder = path
        try:
            rows._file = file = path.open("rb", buffering=0)
            if np.lib.format.read_magic(file) != (1, 0):
                raise ValueError("a version of the format other than 1.0")
            rows.shape, by_column, kind = np.lib.format.read_array_header_1_0(file)
            rows._begin = file.tell()
            size = rows._begin + 4 * int(np.prod(rows.shape))
            if by_column or kind != np.float32 or not rows.shape or size != path.stat().st_size:
                raise ValueError(f"{kind} of shape {rows.shape} in {path.stat().st_size} bytes")
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:120]
            raise CacheError(f"{path}: expected rows of float32, got: {reason}") from error
        return rows

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, indices: Tensor) -> Tensor:
        """Return some rows by number."""
        return self._read(indices.tolist(), 1).view(-1, *self.shape[1:])

    def gather(self, starts: Tensor, samples: int) -> Tensor:
        """As :func:`~myodistill.signals.gather.gather`, of rows that are samples."""
        return self._read(starts.tolist(), samples).view(-1, samples, self.shape[1]).transpose(1, 2)

    def _read(self, begins: Sequence[int], rows: int) -> Tensor:
        """Read ``rows`` rows from each of some starts on, ``(start, number)``."""
        size = int(np.prod(self.shape[1:]))
        batch = torch.empty(len(begins), rows * size)
        content, length = _bytes(batch), 4 * rows * size
        file, read = self._file.fileno(), os.preadv
        for index, begin in enumerate(begins):
            part = content[index * length : (index + 1) * length]
            if read(file, (part,), self._begin + 4 * size * begin) != length:
                raise CacheError(
                    f"{self._folder}: expected {rows} rows from row {begin} of {len(self)}, the "
                    f"file is shorter; run again"
                )
        return batch


def write_rows(path: Path, shape: Sequence[int], blocks: Iterable[NDArray[np.float32]]) -> None:
    """Write rows as one ``.npy`` file of float32, some at a time, down to the disk.

    Not through a memory map: on a full disk that ends the process instead of raising an error.

    Args:
        path: Of the file.
        shape: Of all rows together.
        blocks: The rows, in order.

    Raises:
        OSError: It cannot be written.
    """
    about = {"descr": "<f4", "fortran_order": False, "shape": tuple(shape)}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, about)
        for block in blocks:
            file.write(np.ascontiguousarray(block, dtype="<f4").data)
        file.flush()
        os.fsync(file.fileno())


def _bytes(rows: Tensor) -> memoryview:
    """The memory of contiguous rows."""
    return memoryview(rows.view(-1).numpy().data).cast("B")


def kept(path: Path, make: Callable[[], Windows]) -> Windows:
    """Return windows from a file, with a memory-mapped signal; write the file first if necessary.

    The file appears whole or not at all, so that several processes may come here at once.

    Raises:
        CacheError: The file is damaged.
        OutputError: It cannot be written.
    """
    if not path.is_file():
        windows = make()
        tensors = {name: torch.from_numpy(getattr(windows, name)) for name in _ARRAYS}
        names = [[r.subject, r.session, r.index] for r in windows.repetitions]
        header = {
            "repetitions": json.dumps(names),
            "samples": str(windows.samples),
            "filtered": windows.filtered,
        }
        write_bytes(path, save(tensors, header))
        del windows, tensors
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata()
            arrays = {name: file.get_tensor(name).numpy() for name in _ARRAYS}
    except (SafetensorError, OSError) as error:
        reason = " ".join(str(error).split())[:80]
        raise CacheError(
            f"{path}: expected filtered recordings, got: {reason}; remove it and run again"
        ) from error
    return Windows(
        samples=int(header["samples"]),
        repetitions=tuple(Repetition(*entry) for entry in json.loads(header["repetitions"])),
        filtered=header["filtered"],
        **arrays,
    )


_ARRAYS = ("signal", "starts", "labels", "repetition_index")
