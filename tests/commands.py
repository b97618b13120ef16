"""Commands run in this process, as a user types them."""

from __future__ import annotations

import sys

import pytest

from myodistill.cli import main as cli


def call(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str
) -> tuple[int, str, str]:
    """Run a command; return its exit code and what it printed."""
    monkeypatch.setattr(sys, "argv", ["myodistill", *words])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    shown = capsys.readouterr()
    return int(stop.value.code or 0), shown.out, shown.err


def refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str
) -> str:
    """Run a command that must be refused in one line; return the line."""
    code, _, err = call(capsys, monkeypatch, *words)
    assert code == 2
    lines = err.strip().splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith("myodistill: ")
    return lines[0]
