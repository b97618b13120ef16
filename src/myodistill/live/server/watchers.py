"""Who watches, and what each of them is still to be sent; a slow one holds up nobody."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable
from typing import Any

Message = dict[str, Any]

MOST = 24
"""Watchers at once."""

_LINES = 256  # decisions and events that a slow watcher may be behind
_SIGNALS = 4  # messages of signals that it may be behind
_STATES = ("hello", "guide", "record", "counters", "channels")
"""Messages that replace an older one of the same type; the first is sent before anything else."""


class Watcher:
    """What one page is still to be sent.

    Attributes:
        skipped: Messages that it was too slow for.
    """

    def __init__(self) -> None:
        self.skipped = 0
        self._states: dict[str, str | Message] = {}
        self._lines: deque[str] = deque()
        self._signals: deque[bytes] = deque()
        self._news = asyncio.Event()

    def put(self, kind: str, payload: str | bytes | Message) -> None:
        """Take a message; where it is behind, an older one is left out for it.

        Args:
            kind: Of the message.
            payload: As it is sent. A message that is not text yet is told what was skipped.
        """
        if isinstance(payload, bytes):
            if len(self._signals) >= _SIGNALS:
                self._signals.popleft()
                self.skipped += 1
            self._signals.append(payload)
        elif kind in _STATES:
            self.skipped += kind in self._states
            self._states[kind] = payload
        elif isinstance(payload, str):
            if len(self._lines) >= _LINES:
                self._lines.popleft()
                self.skipped += 1
            self._lines.append(payload)
        self._news.set()

    def refuse(self, line: str) -> None:
        """Tell this one why its request was not taken."""
        self.put("refused", json.dumps({"type": "refused", "line": line}))

    async def next(self) -> str | bytes:
        """Wait for what is to be sent next: decisions before states, and those before signals."""
        while True:
            if "hello" in self._states:
                return self._state("hello")
            if self._lines:
                return self._lines.popleft()
            if self._states:
                return self._state(next(iter(self._states)))
            if self._signals:
                return self._signals.popleft()
            self._news.clear()
            await self._news.wait()

    def _state(self, kind: str) -> str:
        payload = self._states.pop(kind)
        if isinstance(payload, str):
            return payload
        return json.dumps(payload | {"skipped": self.skipped})


class Hub:
    """Hands every message to all who watch; safe to be posted to from another thread.

    Attributes:
        watchers: Who watches now.
    """

    def __init__(self) -> None:
        self.watchers: set[Watcher] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._latest: dict[str, str | Message] = {}

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Serve from this loop on."""
        self._loop = loop

    def call(self, work: Callable[..., None], *values: Any) -> None:
        """Do something in the loop, or at once where there is none yet; from any thread."""
        if self._loop is None:
            work(*values)
            return
        try:
            self._loop.call_soon_threadsafe(work, *values)
        except RuntimeError:  # it was closed: nobody watches any more
            return

    def post(self, message: Message) -> None:
        """Send a message to everybody, from any thread."""
        self.call(self.publish, message)

    def publish(self, message: Message) -> None:
        """Send a message to everybody, from the loop."""
        kind = str(message["type"])
        payload = message if kind == "counters" else json.dumps(message)
        if kind in _STATES:
            self._latest[kind] = payload
        for one in self.watchers:
            one.put(kind, payload)

    def draw(self, message: bytes) -> None:
        """Send signals to everybody, from the loop."""
        for one in self.watchers:
            one.put("signals", message)

    def join(self) -> Watcher:
        """Return a new watcher, who is sent how things stand."""
        watcher = Watcher()
        for kind in _STATES:
            if kind in self._latest:
                watcher.put(kind, self._latest[kind])
        self.watchers.add(watcher)
        return watcher

    def leave(self, watcher: Watcher) -> None:
        """Forget a watcher."""
        self.watchers.discard(watcher)
