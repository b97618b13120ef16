"""The log of a stream on standard error; a slow reader of it holds nothing up."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields

from myodistill.errors import MyoDistillError
from myodistill.live.events import Event
from myodistill.live.session import Session
from myodistill.live.sinks import LineWriter


class StreamLog:
    """Writes what happens to a stream.

    Args:
        form: ``"text"``, a line for people; or ``"json"``, an object a line.
    """

    def __init__(self, form: str) -> None:
        self._json = form == "json"
        self._lines = LineWriter(sys.stderr)

    def tell(self, line: str) -> None:
        """Write a line for people."""
        if not self._json:
            self._lines.write(f"{line}\n".encode())

    def log(self, event: Event) -> None:
        """Write an event for machines."""
        if self._json:
            self._lines.write(f"{event.to_json()}\n".encode())

    def summary(self, line: str, session: Session) -> None:
        """Write the last line."""
        health = session.health
        counts = {one.name: getattr(health, one.name) for one in fields(health)}
        counts = {name: value for name, value in counts.items() if isinstance(value, int)}
        self.tell(line)
        self.log(Event("summary", line, "info", counts | {"decisions": session.decisions}))

    @contextmanager
    def closing(self) -> Iterator[None]:
        """Write what is left at the end, for two seconds at most; errors as events, if in JSON.

        Raises:
            SystemExit: There was an error, and it is written.
        """
        try:
            yield
        except MyoDistillError as error:
            if not self._json:
                raise
            self.log(Event("error", str(error), "error"))
            raise SystemExit(2) from None
        finally:
            self._lines.close()
