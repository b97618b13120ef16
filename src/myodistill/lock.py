"""A lock that lets one process at a time work in a folder."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from myodistill.errors import OutputError
from myodistill.files import LEAKING, write_text, writing

_LOCK, _HOLDER = "run.lock", "running.json"


@contextmanager
def locked_folder(
    folder: Path,
    *,
    advice: str = "wait for it or choose another folder with --out",
    leaking: bool = False,
) -> Iterator[None]:
    """Lock a folder against other processes; the lock ends with this process, however it ends.

    ``run.lock`` is the locked file and stays; ``running.json`` describes the holder.

    Args:
        folder: It is made if it is not there.
        advice: What to do where another process is at work there, for the message.
        leaking: Whether scores of splits that leak go there, which share no folder with others.

    Raises:
        OutputError: Another process is at work there, the folder cannot be written, or scores of
            splits that leak would lie beside others.
    """
    _require_unmixed(folder, leaking)
    holder = folder / _HOLDER
    lock = FileLock(folder / _LOCK, timeout=0)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except Timeout:
            raise OutputError(
                f"{folder}: expected to be alone in this folder, {_who(holder)} is at work there; "
                f"{advice}"
            ) from None
    try:
        about = {
            "process": os.getpid(),
            "host": socket.gethostname(),
            "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
            "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        }
        write_text(holder, json.dumps(about))
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _require_unmixed(folder: Path, leaking: bool) -> None:
    if not folder.is_dir():
        return
    names = {path.name for path in folder.iterdir()} - {_LOCK, _HOLDER}
    stamped = {name for name in names if name.startswith(LEAKING)}
    if odd := names - stamped if leaking else stamped:
        wanted = "alone" if leaking else "absent"
        raise OutputError(
            f"{folder}: expected scores of {LEAKING} splits to be {wanted} in their folder, it "
            f"holds {min(odd):.80}; choose another folder with --out"
        )


def _who(holder: Path) -> str:
    try:
        about = json.loads(holder.read_text(encoding="utf-8"))
        process, host, command, since = (
            " ".join(str(about[name]).split())[:80]
            for name in ("process", "host", "command", "since")
        )
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
    return f"process {process} on {host} ({command}, since {since})"
