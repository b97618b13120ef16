"""An exported student as a shared library of C: neither PyTorch nor ONNX Runtime is loaded.

Loading a library runs its code. Only the one is loaded that the user names and whose SHA-256
stands in the metadata beside it, as ``export`` wrote it; this finds damage and mix-ups. It is no
signature: who can change both files can run code here, so load what you trust.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from myodistill.adaptation import Adaptation
from myodistill.datasets.recording import SignalSpec
from myodistill.decision_rule import DecisionRule
from myodistill.errors import BundleError, Wanted
from myodistill.realtime.stored import read_metadata
from myodistill.signals.preprocessing import Preprocessing
from myodistill.signals.samples import finite_windows

LIBRARY = "md" + {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so")
METADATA = "md.json"

_WANTED = Wanted("a student that was exported with --shared", BundleError, "export it again")


@dataclass(frozen=True)
class CModel:
    """A student that ``export --to c --shared`` wrote, ready to decode.

    Attributes:
        spec: The signal that it reads.
        preprocessing: The person's own, less the map of channels, which C applies.
        origin: Provenance for people, as in the bundle.
        unit: Physical unit of the samples that it expects.
        step: Samples from one decision to the next.
        rule: How predictions become decisions.
        adaptation: By which a decoder can follow its wearer, if there is any.
    """

    spec: SignalSpec
    preprocessing: Preprocessing
    origin: dict[str, Any]
    unit: str
    step: int
    rule: DecisionRule
    adaptation: Adaptation | None
    _library: ctypes.CDLL = field(repr=False)
    _memory: ctypes.Array[ctypes.c_float] = field(repr=False)

    @staticmethod
    def is_one(path: Path) -> bool:
        """Whether a path is the library, or a folder with its metadata."""
        return path.name == LIBRARY or (path / METADATA).is_file()

    @classmethod
    def load(cls, path: Path) -> CModel:
        """Load the library, or that of an exported folder.

        Raises:
            BundleError: It is missing, damaged, or not the one that the metadata name.
        """
        folder = path.parent if path.name == LIBRARY else path
        where = folder / LIBRARY
        with _WANTED.reading(folder / METADATA):
            stored = json.loads((folder / METADATA).read_text(encoding="utf-8"))
            if not isinstance(stored, dict):
                raise ValueError("no table of metadata")
        with _WANTED.reading(where):
            found = hashlib.sha256(where.read_bytes()).hexdigest()
        if found != stored.get("sha256"):
            raise BundleError(
                f"{where}: expected the library whose SHA-256 stands in {METADATA}, got another; "
                f"it is not loaded; export the bundle again"
            )
        known = read_metadata(stored, folder / METADATA)
        try:
            library = ctypes.CDLL(str(where.resolve()))
            library.md_bytes.restype = ctypes.c_int32
            library.md_logits.restype = None
            library.md_logits.argtypes = [ctypes.c_void_p] * 3
            memory = (ctypes.c_float * (library.md_bytes() // 4 + 1))()
        except (OSError, AttributeError) as error:
            reason = " ".join(str(error).split())[:120]
            raise BundleError(
                f"{where}: expected a library for this computer, got: {reason}; export it here"
            ) from error
        return cls(**known, _library=library, _memory=memory)

    def _infer(self, windows: ArrayLike) -> NDArray[np.float32]:
        """Return the calibrated logits of pre-processed windows ``(window, channel, time)``.

        Raises:
            DataError: The windows have another shape, or are not finite real numbers.
        """
        read = np.ascontiguousarray(finite_windows(windows, self.spec, what="exported student"))
        logits = np.empty((len(read), self.spec.classes), np.float32)
        for window, out in zip(read, logits, strict=True):
            self._library.md_logits(self._memory, window.ctypes.data, out.ctypes.data)
        return logits
