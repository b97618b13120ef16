"""Feeds damaged files to every parser; each must return data or raise one line.

    python tests/fuzz.py --inputs 100000 --seed 0 [--only NAME [--input NUMBER]]

The same seed gives the same inputs on every machine. A failure is another exception than a
MyoDistillError, a message of several lines or more than 400 characters, or a file that was written
where none should be. Each is printed with the command that repeats it, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import random
import resource
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from fuzz_parsers import Target, targets
from rich.console import Console
from rich.table import Table

from myodistill.errors import MyoDistillError, shown

LONGEST = 400
MEMORY = 12 * 2**30
SHOWN = 3
"""Failures of one kind that are printed."""


def outcome(target: Target, content: bytes) -> str:
    """Return ``accepted``, ``refused``, or what went wrong."""
    target.path.write_bytes(content)
    try:
        target.read()
    except MyoDistillError as error:
        line = str(error)
        if not line.isprintable():
            return f"a message that is not one line: {shown(line, 200)}"
        if len(line) > LONGEST:
            return f"a message of {len(line)} characters: {shown(line, 200)}"
        return "refused"
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)
        ours = [frame for frame in where if "myodistill" in frame.filename]
        last = ours[-1] if ours else where[-1]
        place = f"{Path(last.filename).name}:{last.lineno}"
        return f"{type(error).__name__} at {place}: {shown(str(error), 160)}"
    return "accepted"


def make(target: Target, seed: int, number: int) -> bytes:
    """Return one input; it depends on its parser, seed and number alone."""
    rng = random.Random(f"{target.name}/{seed}/{number}")
    while True:
        with contextlib.suppress(RecursionError):  # deeper than Python itself can write
            return rng.choice(target.makes)(rng)


def fuzz(inputs: int, seed: int, only: str = "", number: int | None = None) -> list[str]:
    """Run; print a table and return the failures, a line each."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder, contextlib.chdir(folder):
        root = Path(folder) / "samples"
        root.mkdir()
        every = targets(root)
        chosen = [one for one in every if only in one.name]
        if not chosen:
            raise SystemExit(f"--only: expected one of {', '.join(t.name for t in every)}")
        total = sum(one.share for one in chosen)
        table = Table("parser", "inputs", "refused", "accepted", "failures")
        failures: list[str] = []
        for target in chosen:
            if (said := outcome(target, target.valid)) != "accepted":
                raise SystemExit(f"{target.name}: expected its sample to be read, got: {said}")
            before = _files(Path(folder))
            count = max(1, round(inputs * target.share / total))
            numbers = range(count) if number is None else [number]
            counts: Counter[str] = Counter()
            kinds: Counter[str] = Counter()
            for one in numbers:
                said = outcome(target, make(target, seed, one))
                if said in ("accepted", "refused"):
                    counts[said] += 1
                    continue
                counts["failures"] += 1
                kinds[said.split(": ")[0]] += 1
                if kinds[said.split(": ")[0]] <= SHOWN:
                    repeat = f"--only '{target.name}' --seed {seed} --input {one}"
                    failures.append(f"{target.name}: {said}\n    python tests/fuzz.py {repeat}")
            target.path.write_bytes(target.valid)
            if extra := _files(Path(folder)) - before:
                failures.append(f"{target.name}: wrote {shown(sorted(extra))}")
                counts["failures"] += 1
            row = (counts["refused"], counts["accepted"], counts["failures"])
            table.add_row(target.name, str(sum(row)), *map(str, row))
    for line in failures:
        print(line)
    Console(width=100).print(table)
    return failures


def _files(folder: Path) -> set[str]:
    return {os.path.join(place, name) for place, _, names in os.walk(folder) for name in names}  # noqa: PTH118


def quiet() -> None:
    """Bound the memory, so that a file that asks for all of it is an error; say nothing else."""
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, hard))
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    np.seterr(all="ignore")
    torch.set_num_threads(1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=100_000, help="how many, over all parsers")
    parser.add_argument("--seed", type=int, default=0, help="other inputs for another number")
    parser.add_argument("--only", default="", help="parsers whose name holds this")
    parser.add_argument("--input", type=int, default=None, help="this one alone, to repeat it")
    given = parser.parse_args()
    quiet()
    sys.exit(bool(fuzz(given.inputs, given.seed, given.only, given.input)))
