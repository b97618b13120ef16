"""No parser throws anything but one line, whatever it is given; see fuzz.py for longer runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

DRIVER = Path(__file__).with_name("fuzz.py")


def fuzz(inputs: int, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(DRIVER), "--inputs", str(inputs), *words]
    return subprocess.run(command, capture_output=True, text=True)


def test_two_thousand_inputs() -> None:
    done = fuzz(2000)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_a_hundred_thousand_inputs() -> None:
    done = fuzz(100_000, "--seed", "1")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_a_failure_is_printed_with_what_repeats_it(tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(DRIVER.parent)!r})\n"
        "import fuzz\n"
        "from myodistill.splits import Split\n"
        "Split.load = lambda path: 1 / (path.read_bytes()[0] == 123)\n"
        "print(fuzz.fuzz(300, 0, 'split'))\n"
    )
    done = subprocess.run([sys.executable, str(broken)], capture_output=True, text=True)
    assert "split JSON: ZeroDivisionError at broken.py:5" in done.stdout, done.stderr
    assert "python tests/fuzz.py --only 'split JSON' --seed 0 --input " in done.stdout
