"""What a live decoder is made of: a bundle or an exported file, and a state to go on from."""

from __future__ import annotations

import time
from pathlib import Path

from myodistill.errors import BundleError, SettingsError, Wanted
from myodistill.files import write_text
from myodistill.realtime.decoder import Decoder
from myodistill.realtime.windows import Model

SAVE_EVERY = 60.0
"""Seconds from one saving of a state to the next."""

_LARGEST = 1 << 24  # bytes of a state
_WANTED = Wanted("a state that a decoder saved", BundleError, "choose another file with --state")


def load_model(path: Path) -> Model:
    """Load the folder of a bundle, or what was exported, which needs no PyTorch.

    Exported is a ``.onnx`` file, or a folder of C with its shared library, or that library.

    Raises:
        BundleError: It is neither, or damaged.
    """
    if path.suffix.lower() == ".onnx":
        from myodistill.realtime.runtime import OnnxModel

        return OnnxModel.load(path)
    from myodistill.realtime.native import CModel

    if CModel.is_one(path):
        return CModel.load(path)
    from myodistill.bundle import Bundle

    return Bundle.load(path)


class StateFile:
    """Keeps what a decoder has learned in a file.

    Args:
        path: The file; it need not be there.
        decoder: One that adapts; it goes on from the file if that is there.

    Raises:
        BundleError: The file belongs to another bundle, or is none.
        SettingsError: The decoder does not adapt.
    """

    def __init__(self, path: Path, decoder: Decoder) -> None:
        if decoder.adapter is None:
            raise SettingsError("state: expected --adapt beside --state, got none")
        self._path, self._adapter = path, decoder.adapter
        self._saved = time.monotonic()
        if path.exists():
            with _WANTED.reading(path):
                if path.stat().st_size > _LARGEST:
                    raise ValueError(f"more than {_LARGEST} bytes")
                text = path.read_text(encoding="utf-8")
            self._adapter.restore(text)

    def save(self) -> None:
        """Write the file, whole or not at all.

        Raises:
            OutputError: It cannot be written.
        """
        write_text(self._path, self._adapter.state())
        self._saved = time.monotonic()

    def save_if_due(self) -> None:
        """Save once a minute."""
        if time.monotonic() - self._saved >= SAVE_EVERY:
            self.save()
