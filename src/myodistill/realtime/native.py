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
from myodistill.datasets.recording import Signal, SignalSpec
from myodistill.decision_rule import DecisionRule
from myodistill.errors import BundleError, Wanted
from myodistill.realtime.stored import read_metadata
from myodistill.signals.filters import Sections, steady_state
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
            for name, arguments in _ARGUMENTS.items():
                getattr(library, name).argtypes = arguments
            library.md_start.restype = library.md_logits.restype = None
            sizes = (ctypes.c_int32 * 4)()
            library.md_sizes(sizes)
        except (OSError, AttributeError) as error:
            reason = " ".join(str(error).split())[:120]
            raise BundleError(
                f"{where}: expected a library for this computer, got: {reason}; export it here"
            ) from error
        spec, sections = known["spec"], known["preprocessing"].sections()
        if list(sizes) != [spec.channels, spec.samples, spec.classes, len(sections)]:
            raise BundleError(
                f"{folder / METADATA}: expected channels, samples, gestures and filter sections as "
                f"in its library, {list(sizes)}, got others; export the bundle again"
            )
        return cls(**known, _library=library)

    def stream(self, step: int) -> CStream:
        """Begin a stream that is decided every ``step`` samples."""
        return CStream(self._library, self.preprocessing.sections(), self.spec.classes, step)

    def _infer(self, windows: ArrayLike) -> NDArray[np.float32]:
        """Return the calibrated logits of pre-processed windows ``(window, channel, time)``.

        Raises:
            DataError: The windows have another shape, or are not finite real numbers.
        """
        read = np.ascontiguousarray(finite_windows(windows, self.spec, what="exported student"))
        return self.stream(self.step).logits(read)


class CStream:
    """A stream in C: filter, windows and network.

    Args:
        library: That :meth:`CModel.load` loaded.
        sections: Of the filter, ``(section, 6)``.
        classes: Gestures.
        step: Samples from one window to the next.
    """

    def __init__(
        self,
        library: ctypes.CDLL,
        sections: Sections,
        classes: int,
        step: int,
    ) -> None:
        self._library, self._classes, self._step = library, classes, step
        self._memory = (ctypes.c_double * (library.md_bytes() // 8 + 1))()
        sections, steady = np.ascontiguousarray(sections), steady_state(sections)
        library.md_start(self._memory, sections.ctypes.data, steady.ctypes.data, step)

    def push(self, chunk: Signal) -> list[NDArray[np.float32] | None]:
        """As in :class:`~myodistill.realtime.windows.LogitStream`."""
        count = len(chunk)
        chunk = np.ascontiguousarray(chunk, np.float32)
        logits = np.empty((count // self._step + 1, self._classes), np.float32)
        sound = bytearray(len(logits))
        windows = self._library.md_take(
            self._memory,
            chunk.ctypes.data,
            count,
            logits.ctypes.data,
            (ctypes.c_uint8 * len(sound)).from_buffer(sound),
        )
        return [logits[i] if sound[i] else None for i in range(windows)]

    def logits(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map filtered windows ``(window, channel, time)`` to their logits; for nothing else."""
        found = np.empty((len(windows), self._classes), np.float32)
        for window, out in zip(windows, found, strict=True):
            self._library.md_logits(self._memory, window.ctypes.data, out.ctypes.data)
        return found


_POINTER = ctypes.c_void_p
_ARGUMENTS = {
    "md_bytes": [],
    "md_sizes": [_POINTER],
    "md_start": [_POINTER, _POINTER, _POINTER, ctypes.c_int32],
    "md_take": [_POINTER, _POINTER, ctypes.c_int32, _POINTER, _POINTER],
    "md_logits": [_POINTER, _POINTER, _POINTER],
}
