"""A student's C for a Cortex-M4F: its flash and RAM as linked, its decisions in QEMU."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from myodistill.datasets.recording import Signal
from myodistill.deploy.programs import DecodedRecording, run, sources, warnings
from myodistill.errors import ToolError

COMPILER, EMULATOR = "arm-none-eabi-gcc", "qemu-system-arm"

_LIBRARY = "nano.specs"
_CHIP = ("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16")
_LINK = ("-ffunction-sections", "-fdata-sections", "-Wl,--gc-sections", "-nostartfiles")
_SPEED = ("-O2", "-ffp-contract=fast")
"""With the processor's multiply-add, which rounds once where C would twice."""

_PER_TICK = 40
"""Instructions in a tick of the emulated timer: 25 MHz, an instruction a nanosecond."""


@dataclass(frozen=True)
class Footprint:
    """Memory of the linked program, start-up code and C library included.

    Attributes:
        flash: Bytes of code, constants and initial values.
        ram: Bytes of variables, the stack not included.
    """

    flash: int
    ram: int


@dataclass(frozen=True)
class Emulated:
    """What an emulated Cortex-M4F decided over a recording.

    Attributes:
        decoded: The decisions.
        instructions: Median number of instructions from a window's last sample to its decision:
            a proxy, not cycles.
        stack: Most bytes of stack used.
    """

    decoded: DecodedRecording
    instructions: float
    stack: int


def lacking() -> str | None:
    """Return what is missing on this machine, compiler, C library or emulator; None if nothing."""
    for name in (COMPILER, EMULATOR):
        if shutil.which(name) is None:
            return name
    path = run([COMPILER, f"-print-file-name={_LIBRARY}"], folder=Path()).strip()
    return "libnewlib-arm-none-eabi" if path == _LIBRARY else None


def build_cortex(folder: Path, *, golden: bool = False, adapt: bool = False) -> Path:
    """Link the decoder for a bare Cortex-M4F.

    Args:
        folder: With the files of :class:`~myodistill.deploy.plain_c.CCode`.
        golden: Build for :func:`emulate`; otherwise as it would be flashed.
        adapt: Follow the wearer.

    Returns:
        The program; its linker map lies beside it.

    Raises:
        ToolError: There is no compiler, or it refuses.
    """
    program = folder / ("md_golden.elf" if golden else "md_cortex.elf")
    options = ["-DMD_GOLDEN"] if golden else []
    options += ["-DMD_ADAPTING"] if adapt else []
    linking = [*_LINK, "-T", "md_cortex.ld", f"-Wl,-Map={program.with_suffix('.map').name}"]
    command = [
        COMPILER,
        f"--specs={_LIBRARY}",
        *_CHIP,
        *warnings(folder),
        *_SPEED,
        *options,
        *linking,
    ]
    run([*command, "-o", program.name, *sources(folder), "md_cortex.c", "-lm"], folder=folder)
    return program


def footprint(program: Path) -> Footprint:
    """Read flash and RAM from a linked program.

    Raises:
        ToolError: The compiler's ``size`` is missing or fails.
    """
    sizes = run(["arm-none-eabi-size", program.name], folder=program.parent)
    text, data, bss = (int(word) for word in sizes.splitlines()[1].split()[:3])
    return Footprint(flash=text + data, ram=data + bss)


def emulate(folder: Path, signal: Signal, *, adapt: bool = False, timeout: float = 300) -> Emulated:
    """Decode a whole recording, ``(time, channel)``, on an emulated Cortex-M4F.

    Raises:
        ToolError: The compiler or the emulator is missing or fails.
    """
    program = build_cortex(folder, golden=True, adapt=adapt)
    samples = np.ascontiguousarray(signal, dtype="<f4")
    (folder / "samples.f32").write_bytes(samples.tobytes())
    output = folder / "decisions.bin"
    output.unlink(missing_ok=True)
    machine = [EMULATOR, "-M", "mps2-an386", "-nographic", "-icount", "shift=0"]
    semihosting = ["-semihosting-config", "enable=on,target=native", "-kernel", program.name]
    run([*machine, *semihosting], folder=folder, timeout=timeout)
    content = output.read_bytes() if output.exists() else b""
    classes = _classes(folder)
    row = np.dtype([("whole", "<i4", 4), ("logits", "<f4", classes)])
    if len(content) % row.itemsize != 8:
        raise ToolError(f"{EMULATOR}: expected whole decisions, got {len(content)} bytes")
    rows = np.frombuffer(content[:-8], row)
    abstained, stack = np.frombuffer(content[-8:], "<u4")
    whole = rows["whole"].astype(np.int64)
    decoded = DecodedRecording(
        samples=whole[:, 0],
        gestures=whole[:, 1],
        predictions=whole[:, 2],
        logits=rows["logits"],
        seconds=np.zeros(0),
        abstained=int(abstained),
    )
    instructions = float(np.median(whole[:, 3]) * _PER_TICK) if len(whole) else 0.0
    return Emulated(decoded, instructions, int(stack))


def _classes(folder: Path) -> int:
    header = (folder / "md.h").read_text(encoding="utf-8")
    return int(header.partition("#define MD_CLASSES ")[2].split()[0])
