"""What happens to a stream, for people and for machines that read logs."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any


@dataclass(frozen=True)
class Event:
    """Something that happened.

    Attributes:
        name: One word for machines: ``"gap"``.
        text: One line for people.
        level: ``"info"``, ``"warning"`` or ``"error"``.
        fields: Numbers and names that belong to it.
    """

    name: str
    text: str
    level: str = "warning"
    fields: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return one line of JSON with the time, in UTC."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        told = {"time": now, "level": self.level, "event": self.name, "message": self.text}
        return json.dumps(self.fields | told)
