"""From a push of samples to its decision, on one thread: PyTorch, ONNX Runtime and C.

Usage: ``OMP_NUM_THREADS=1 python benchmarks/push_to_decision.py BUNDLE ONNX_FILE C_FOLDER``, where
the last two are what ``myodistill export`` wrote of the bundle (``--to c --shared``). Forms take
turns, so that what else the machine does strikes all alike.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from myodistill.realtime.decoder import Decoder
from myodistill.realtime.models import load_model

PUSHES = 2000
FORMS = ("bundle (PyTorch)", "ONNX Runtime", "C library")


def main() -> None:
    decoders = [Decoder(load_model(Path(path))) for path in sys.argv[1:4]]
    spec, step = decoders[0].model.spec, decoders[0].step
    rng = np.random.default_rng(0)
    seconds: list[list[float]] = [[] for _ in decoders]
    for decoder in decoders:
        decoder.push(rng.normal(size=(spec.samples, spec.channels)).astype(np.float32))
    for _ in range(PUSHES):
        chunk = rng.normal(size=(step, spec.channels)).astype(np.float32)
        for decoder, times in zip(decoders, seconds, strict=True):
            begin = time.perf_counter()
            decisions = decoder.push(chunk)
            times.append(time.perf_counter() - begin)
            assert len(decisions) == 1
    for form, times in zip(FORMS, seconds, strict=True):
        median, late = 1e3 * np.quantile(times[100:], [0.5, 0.99])
        print(f"{form:18} median {median:.3f} ms, p99 {late:.3f} ms")


if __name__ == "__main__":
    main()
