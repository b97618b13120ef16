"""Which store for prepared signals: .npy memory maps, Zarr v3, HDF5 or Arrow.

python benchmarks/stores.py        (needs zarr, h5py and pyarrow)

The job: write a float32 signal of 64 channels once; then, from a store just opened, gather
shuffled batches of 128 windows of 200 samples at 90 % overlap.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import zarr
from common import machine

SAMPLES, STEP, BATCH = 200, 20, 128
Read = Callable[[int], np.ndarray]


def npy(folder: Path, signal: np.ndarray) -> tuple[float, Read]:
    begin = time.perf_counter()
    np.save(folder / "x.npy", signal)
    wrote = time.perf_counter() - begin
    mapped = np.load(folder / "x.npy", mmap_mode="r")
    return wrote, lambda start: mapped[start : start + SAMPLES]


def hdf5(folder: Path, signal: np.ndarray) -> tuple[float, Read]:
    begin = time.perf_counter()
    with h5py.File(folder / "x.h5", "w") as file:
        file.create_dataset("x", data=signal, chunks=(2048, signal.shape[1]))
    wrote = time.perf_counter() - begin
    data = h5py.File(folder / "x.h5")["x"]
    return wrote, lambda start: data[start : start + SAMPLES]


def zarr3(folder: Path, signal: np.ndarray) -> tuple[float, Read]:
    begin = time.perf_counter()
    array = zarr.create_array(
        folder / "x.zarr",
        shape=signal.shape,
        dtype=signal.dtype,
        chunks=(2048, signal.shape[1]),
        compressors=None,
    )
    array[:] = signal
    wrote = time.perf_counter() - begin
    opened = zarr.open_array(folder / "x.zarr", mode="r")
    return wrote, lambda start: opened[start : start + SAMPLES]


def arrow(folder: Path, signal: np.ndarray) -> tuple[float, Read]:
    begin = time.perf_counter()
    schema = pa.schema([("x", pa.list_(pa.float32(), signal.shape[1]))])
    column = pa.FixedSizeListArray.from_arrays(pa.array(signal.ravel()), signal.shape[1])
    with pa.OSFile(str(folder / "x.arrow"), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(pa.record_batch([column], schema=schema))
    wrote = time.perf_counter() - begin
    batch = pa.ipc.open_file(pa.memory_map(str(folder / "x.arrow"))).get_batch(0)
    flat = batch.column(0).flatten().to_numpy(zero_copy_only=True).reshape(signal.shape)
    return wrote, lambda start: flat[start : start + SAMPLES]


def main() -> None:
    signal = np.random.default_rng(0).standard_normal((200_000, 64)).astype(np.float32)
    places = np.arange(0, len(signal) - SAMPLES, STEP)
    places = np.random.default_rng(1).permutation(places)
    print(machine())
    print(f"signal {signal.nbytes / 2**20:.0f} MiB, windows {SAMPLES} × {signal.shape[1]}")
    for make in (npy, zarr3, hdf5, arrow):
        with tempfile.TemporaryDirectory() as name:
            wrote, read = make(Path(name), signal)
            size = sum(p.stat().st_size for p in Path(name).rglob("*") if p.is_file())
            begin, done = time.perf_counter(), 0
            while time.perf_counter() - begin < 3:
                at = done % (len(places) - BATCH)
                np.stack([read(int(start)) for start in places[at : at + BATCH]])
                done += BATCH
            pace = done / (time.perf_counter() - begin)
        print(
            f"{make.__name__}: write {signal.nbytes / wrote / 2**20:.0f} MiB/s, "
            f"gather {pace:,.0f} windows/s, {size / signal.nbytes:.3f} of the signal on disk"
        )


if __name__ == "__main__":
    main()
