"""Building a student's C here and running it: on this computer, or on an emulated Cortex-M4F."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from myodistill.datasets.recording import Signal
from myodistill.errors import ToolError
from myodistill.files import writing

_WARNINGS = ("-std=c99", "-Wall", "-Wextra", "-Werror")
_WRONG = re.compile("rror|FAIL")
_STRICT = ("-pedantic", "-Wshadow", "-Wconversion")


@dataclass(frozen=True)
class DecodedRecording:
    """What a program decided over a whole recording.

    Attributes:
        samples: Samples that had come at each decision, ``(decision,)``.
        gestures: What was decided, ``(decision,)``.
        predictions: The network's own predictions, before the rule, ``(decision,)``.
        logits: ``(decision, gesture)``; of no meaning where it abstained.
        seconds: From the first sample after a decision to the next decision, waiting for samples
            aside; empty where not measured.
        abstained: Windows without a decision.
    """

    samples: NDArray[np.int64]
    gestures: NDArray[np.int64]
    predictions: NDArray[np.int64]
    logits: NDArray[np.float32]
    seconds: NDArray[np.float64]
    abstained: int


@contextmanager
def workshop() -> Iterator[Path]:
    """A temporary folder to build in.

    Raises:
        OutputError: Temporary files cannot be written.
    """
    with writing(Path("temporary folder")), tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def run(command: list[str], *, folder: Path, timeout: float = 120) -> str:
    """Run a program and return what it printed.

    Raises:
        ToolError: It is not on this machine, fails, or takes too long.
    """
    if shutil.which(command[0]) is None:
        raise ToolError(f"{command[0]}: expected it on this machine, it is not; install it")
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ToolError(
            f"{command[0]}: expected an end within {timeout:g} s, there was none"
        ) from error
    if done.returncode:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        reason = next(
            (line for line in lines if _WRONG.search(line)), lines[0] if lines else "nothing"
        )
        raise ToolError(
            f"{Path(command[0]).name}: expected it to succeed, got status {done.returncode}: "
            f"{reason[:200]}"
        )
    return done.stdout


def sources(folder: Path) -> list[str]:
    """The files of the decoder itself."""
    return [name for name in ("md.c", "md_network.c") if (folder / name).exists()]


def warnings(folder: Path) -> tuple[str, ...]:
    """Options of the compiler; stricter where all of the code is ours."""
    return _WARNINGS if (folder / "md_network.c").exists() else (*_WARNINGS, *_STRICT)


def build_host(
    folder: Path,
    *,
    compiler: str = "gcc",
    optimise: str = "-O3",
    sanitise: bool = False,
    adapt: bool = False,
) -> Path:
    """Compile the decoder for this computer.

    Args:
        folder: With the files of :class:`~myodistill.deploy.plain_c.CCode`.
        compiler: Any that takes GCC's options.
        optimise: As for GCC.
        sanitise: Stop at the first undefined behaviour or access outside of memory.
        adapt: Follow the wearer.

    Returns:
        The program.

    Raises:
        ToolError: There is no compiler, or it refuses.
    """
    program = folder / "md_host"
    checks = ["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"] if sanitise else []
    checks += ["-DMD_ADAPTING"] if adapt else []
    files = [*sources(folder), "md_host.c", "-lm"]
    run([compiler, *warnings(folder), optimise, *checks, "-o", str(program), *files], folder=folder)
    return program


def decode_on_host(
    program: Path, signals: Sequence[Signal], folder: Path
) -> list[DecodedRecording]:
    """Decode recordings, ``(time, channel)``, each from the beginning, by the host's program.

    Args:
        program: From :func:`build_host`.
        signals: The recordings.
        folder: For files on the way.

    Raises:
        ToolError: It fails.
    """
    names = []
    for index, signal in enumerate(signals):
        names.append(f"samples-{index}.f32")
        content = np.ascontiguousarray(signal, dtype="<f4").tobytes()
        (folder / names[-1]).write_bytes(content)
    lines = run([str(program), *names], folder=folder).splitlines()
    decoded: list[DecodedRecording] = []
    rows: list[list[str]] = []
    for line in lines:
        words = line.split()
        if len(words) > 1:
            rows.append(words)
        else:
            decoded.append(_decoded(rows, abstained=int(words[0])))
            rows = []
    for name in names:
        (folder / name).unlink()
    return decoded


def _decoded(rows: list[list[str]], *, abstained: int) -> DecodedRecording:
    table = np.array(rows, dtype=np.float64) if rows else np.zeros((0, 5))
    whole = table[:, :3].astype(np.int64)
    return DecodedRecording(
        samples=whole[:, 0],
        gestures=whole[:, 1],
        predictions=whole[:, 2],
        logits=table[:, 5:].astype(np.float32),
        seconds=table[:, 4] / 1e9,
        abstained=abstained,
    )
