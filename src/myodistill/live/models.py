"""The state that a live decoder goes on from."""

from __future__ import annotations

import time
from pathlib import Path

from myodistill.errors import BundleError, SettingsError, Wanted
from myodistill.files import write_text
from myodistill.realtime.decoder import Decoder

SAVE_EVERY = 60.0
"""Seconds from one saving of a state to the next."""

_LARGEST = 1 << 24  # bytes of a state
_WANTED = Wanted("a state that a decoder saved", BundleError, "choose another file with --state")


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
