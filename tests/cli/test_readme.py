"""The README's block for a new person runs as it stands, on fewer people."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from commands import call

from myodistill.bundle import Bundle
from myodistill.datasets import registry
from myodistill.datasets.synthetic import Synthetic

ROOT = Path(__file__).parents[2]
SECTION = re.compile(r"^## A new person\n(.*?)^## ", re.MULTILINE | re.DOTALL)


def commands() -> list[list[str]]:
    """Return the commands of the section, without comments."""
    (section,) = SECTION.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    lines = "\n".join(re.findall(r"```sh\n(.*?)```", section, re.DOTALL)).splitlines()
    return [line.partition("#")[0].split() for line in lines if line.strip()]


def test_a_new_person_from_the_readme(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(
        registry.DATASETS, "synthetic", lambda: Synthetic(subjects=5, seconds=0.6, repetitions=2)
    )
    said = []
    for name, *words in commands():
        assert name == "myodistill"
        code, out, err = call(capsys, monkeypatch, *words)
        assert code == 0, (words, err)
        said.append(out)
    assert "expected accuracy" in "".join(said)
    assert (tmp_path / "bundles" / "anna" / "c-int8" / "md_model.h").is_file()
    today = Bundle.load(tmp_path / "bundles" / "anna-today")
    assert today.origin["subject"] == "Anna"
    assert today.origin["recentred"] == "test"
