"""One training step of every teacher at the reference geometry.

    python benchmarks/training_step.py --batch 300 --write
    python benchmarks/training_step.py --device cuda --bf16 --compiled

Forward, cross-entropy, backward, Adam, each teacher in a process of its own. One that does not fit
into memory is measured with a fifth of the batch. ``--write`` replaces the table of docs/models.md.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from common import processor
from torch.nn import functional

from myodistill import models as package
from myodistill.config import Settings
from myodistill.distillation.data import placed
from myodistill.models.registry import build, models
from myodistill.models.verification import GEOMETRIES, REFERENCE

PAGE = Path(package.__file__).with_name("training_step.md")


def wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def seconds_to_build(name: str) -> float:
    start = time.perf_counter()
    with torch.device("meta"):
        build(name, GEOMETRIES[REFERENCE])
    return time.perf_counter() - start


def seconds_a_step(name: str, options: argparse.Namespace) -> float:
    spec, device = GEOMETRIES[REFERENCE], options.device
    model = placed(build(name, spec, seed=0), Settings(device=device)).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    forward = torch.compile(model) if options.compiled else model
    windows = torch.randn(options.batch, spec.channels, spec.samples, device=device)
    labels = torch.arange(options.batch, device=device) % spec.classes

    def step(count: int = options.batch) -> None:
        optimizer.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=options.bf16):
            loss = functional.cross_entropy(forward(windows[:count]), labels[:count])
        loss.backward()
        optimizer.step()

    # Compiles, chooses kernels, makes the optimiser's state; on a CPU few windows do that.
    step(options.batch if device == "cuda" else max(options.batch // 10, 2))
    wait(device)
    start = time.perf_counter()
    for _ in range(options.steps):
        step()
    wait(device)
    return (time.perf_counter() - start) / options.steps


def measured(name: str, options: argparse.Namespace) -> tuple[int, float]:
    """Batch and seconds a step, in a child that cannot take more memory than there is."""
    for batch in (options.batch, options.batch // 5):
        given = [*sys.argv[1:], "--models", name, "--batch", str(batch), "--child"]
        child = subprocess.run(
            [sys.executable, __file__, *given], capture_output=True, text=True, check=False
        )
        if child.returncode == 0:
            return batch, float(child.stdout.split()[-1])
    raise RuntimeError(child.stderr)


def trained(pattern: str) -> list[str]:
    """Teachers that gradients train; some are solved in closed form."""
    return [n for n in models(pattern, role="teacher") if not n.startswith("population")]


def kept() -> Iterator[tuple[str, str]]:
    """Rows that are on the page already, for models that are not measured this time."""
    for line in PAGE.read_text(encoding="utf-8").splitlines(keepends=True):
        cells = line.split("|")
        if len(cells) == 7 and cells[1].strip() in trained("*"):
            yield cells[1].strip(), line


def limit_memory() -> None:
    free = next(
        int(line.split()[1])
        for line in Path("/proc/meminfo").read_text().splitlines()
        if line.startswith("MemAvailable")
    )
    resource.setrlimit(resource.RLIMIT_DATA, (free * 900, free * 900))  # nine tenths, in bytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--batch", type=int, default=300)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--models", default="*")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--compiled", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.child:
        if options.device == "cpu":
            limit_memory()
        print(seconds_a_step(options.models, options))
        return

    machine = torch.cuda.get_device_name() if options.device == "cuda" else processor()
    how = [machine, f"{options.threads} thread" if options.device == "cpu" else "one GPU"]
    how += ["bfloat16" if options.bf16 else "float32", *(["compiled"] if options.compiled else [])]
    page = f"""## One training step

Forward, loss, backward and Adam at the reference geometry, batch {options.batch} as published
({options.batch // 5} where that does not fit into memory), mean of {options.steps} after
a smaller one that warms up: {", ".join(how)}, channels last, PyTorch {torch.__version__}.
The machine's load was {os.getloadavg()[1]:.1f}, ours included. Written by
`python benchmarks/training_step.py --batch {options.batch} --steps {options.steps} --write`, which
keeps the rows of models that it is not asked for (`--models`).

| teacher | built on meta s | batch | step s | windows/s |
| --- | ---: | ---: | ---: | ---: |
"""
    seconds_to_build("cnn")  # the first use of the meta device costs more than a second
    print(page, end="")
    rows = dict(kept()) if options.write else {}
    for name in trained(options.models):
        built, (batch, step) = seconds_to_build(name), measured(name, options)
        line = f"| {name} | {built:.2f} | {batch} | {step:.2f} | {batch / step:.1f} |\n"
        print(line, end="", flush=True)
        rows[name] = line
    if options.write:
        page += "".join(rows[name] for name in trained("*") if name in rows)
        PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
