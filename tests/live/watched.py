"""Commands with a live stream in a process of their own, and what they decode with."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from streams import SIGNAL

from myodistill.bundle import Bundle
from myodistill.deploy.onnx import to_onnx

_WATCHED = """
import sys
import urllib.request
from myodistill.cli.main import main
try:
    main()
finally:
    print({told}, file=sys.stderr)
"""


def decoder_files(student: Bundle, folder: Path) -> Path:
    """Write a bundle, its exported form, and a take into a folder; return it."""
    student.save(folder / "anna")
    (folder / "anna.onnx").write_bytes(to_onnx(student).SerializeToString())
    np.save(folder / "take.npy", SIGNAL)
    return folder


def start(folder: Path, told: str, *words: str) -> subprocess.Popen[str]:
    """Start a command in a folder; in the end it tells on stderr what ``told`` computes."""
    return subprocess.Popen(
        [sys.executable, "-c", _WATCHED.format(told=told), *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
