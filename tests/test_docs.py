"""What the documentation names exists: paths, modules, their attributes, and commands."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
from click import Group

from myodistill.cli.main import app

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")], key=str)
_PATH = re.compile(r"(?<![\w./-])(?:src|benchmarks|studies|examples|docs)/[\w./-]*\w")
_MODULE = re.compile(r"\bmyodistill(?:\.\w+)+")
_IMPORT = re.compile(r"^from (myodistill[\w.]*) import ([\w, ]+)$", re.MULTILINE)
_COMMAND = re.compile(
    r"(?<!import)(?:^|`|\s|/)myodistill ([a-z][\w-]*)(?: ([a-z][\w-]*))?", re.MULTILINE
)


def page(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", PAGES, ids=page)
def test_paths_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    absent = {name for name in _PATH.findall(text) if not (ROOT / name).exists()}
    assert not absent


@pytest.mark.parametrize("path", PAGES, ids=page)
def test_links_lead_somewhere(path: Path) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text(encoding="utf-8"))
    assert not {target for target in targets if not (path.parent / target).exists()}


@pytest.mark.parametrize("path", PAGES, ids=page)
def test_modules_and_what_is_imported_from_them_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for name in _MODULE.findall(text):
        importlib.import_module(name)
    for name, attributes in _IMPORT.findall(text):
        module = importlib.import_module(name)
        for attribute in attributes.split(", "):
            assert hasattr(module, attribute) or importlib.import_module(f"{name}.{attribute}")


@pytest.mark.parametrize("path", PAGES, ids=page)
def test_commands_exist(path: Path) -> None:
    commands = app.commands
    for name, below in _COMMAND.findall(path.read_text(encoding="utf-8")):
        assert name in commands, f"myodistill {name}"
        group = commands[name]
        if below and isinstance(group, Group):
            assert below in group.commands, f"myodistill {name} {below}"
