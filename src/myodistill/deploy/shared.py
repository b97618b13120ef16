"""A student's C as a shared library, for Python on this computer."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from myodistill.bundle import Bundle
from myodistill.deploy.onnx import metadata
from myodistill.deploy.plain_c import CCode
from myodistill.deploy.programs import run, sources, warnings
from myodistill.files import new_folder, write_text
from myodistill.realtime.native import LIBRARY, METADATA

_OPTIONS = ("-O3", "-shared", "-fPIC", "-fno-math-errno", "-ffp-contract=fast", "-Wno-psabi")
"""Roots and multiply-adds in vectors, passed within one file alone."""


def write_shared(bundle: Bundle, code: CCode, out: Path, *, compiler: str = "cc") -> None:
    """Write C sources with the shared library that they compile to; all or nothing.

    Args:
        bundle: What ``code`` was made of, with its step and rule.
        code: Its C.
        out: The folder.
        compiler: Any that takes GCC's options.

    Raises:
        OutputError: It cannot be written.
        ToolError: There is no compiler, or it refuses.
    """
    stored = metadata(_unmapped(bundle))
    with new_folder(out) as part:
        for name, content in code.files.items():
            write_text(part / name, content)
        files = ["md_library.c", *(name for name in sources(part) if name != "md.c"), "-lm"]
        options = [*warnings(part), *_OPTIONS]
        run([compiler, *options, "-o", LIBRARY, *files], folder=part)
        stored["sha256"] = hashlib.sha256((part / LIBRARY).read_bytes()).hexdigest()
        write_text(part / METADATA, json.dumps(stored, ensure_ascii=False, indent=1))


def _unmapped(bundle: Bundle) -> Bundle:
    """The bundle as its reader has to pre-process: the map of channels is in C."""
    assert bundle.preprocessing is not None
    identity = np.eye(bundle.spec.channels, dtype=np.float32)
    return replace(bundle, preprocessing=replace(bundle.preprocessing, matrix=identity))
