"""Preparing one 3DC participant against the same steps with LibEMG 2.0.3.

python benchmarks/prepare.py LIBEMG_PYTHON LIBEMG_SOURCE

Both read the 88 text files of Participant1 unpacked on disk, filter to 20-495 Hz with order 4 and
make windows of 151 samples every 51. Ours writes the store to disk and reads it back; LibEMG's
holds everything in memory. LibEMG filters forwards and backwards, ours causally.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
import zipfile
from pathlib import Path

from common import copy_rate, libemg, machine

from myodistill.signals.preparation import Preparation
from myodistill.signals.prepared import open_prepared, prepare

HERE = "Participant1/"


def main(python: str, source: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        archive = next(Path(os.environ["MYODISTILL_DATA"]).glob("3DCDataset*.zip"))
        with zipfile.ZipFile(archive) as files:
            files.extractall(folder, [name for name in files.namelist() if HERE in name])
        os.environ["MYODISTILL_DATA"] = folder
        best = processor = float("inf")
        for turn in range(4):
            out = Path(folder) / f"out{turn}"
            begin, used = time.perf_counter(), time.process_time()
            store = prepare("3dc", out, Preparation((20.0, 495.0)))
            windows = store.windows(151, 51)
            best = min(best, time.perf_counter() - begin)
            processor = min(processor, time.process_time() - used)
            size = sum(path.stat().st_size for path in store.folder.iterdir())
            ninety = store.windows(150, 15)
            places = ninety.starts.nbytes + ninety.labels.nbytes + ninety.repetition_index.nbytes
            if turn < 3:
                shutil.rmtree(out)
        theirs = json.loads(libemg(python, source, "prepare", folder))
        raw, rate = store.signal.nbytes, copy_rate()
        begin = time.perf_counter()
        open_prepared(store.folder).windows(151, 51)
        again = time.perf_counter() - begin
    print(machine())
    print(
        f"ours    {best:.3f} s, {raw / best / 2**20:.0f} MiB/s of float32 signal, "
        f"{raw / best / rate:.1%} of the copy rate {rate / 2**30:.1f} GiB/s"
    )
    print(
        f"LibEMG  {theirs['seconds']:.3f} s (read {theirs['read']:.2f}, filter "
        f"{theirs['filter']:.2f}, windows {theirs['windows']:.2f}), {theirs['files']} files"
    )
    print(
        f"ratio   {theirs['seconds'] / best:.2f}; of processor time alone "
        f"{theirs['processor'] / processor:.2f} ({processor:.3f} s and {theirs['processor']:.3f} s)"
    )
    print(f"again   {again:.3f} s, as the store is there; ratio {theirs['seconds'] / again:.0f}")
    print(
        f"held for {len(windows)} windows: ours {size / raw:.2f} of the raw float32 signal, "
        f"LibEMG {theirs['bytes'] / theirs['signal']:.1f}"
    )
    print(
        f"held at 90 % overlap ({len(ninety)} windows): {(size + places) / raw:.2f} of the signal"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
