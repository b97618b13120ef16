"""Kills commands and fills their disk, and says whether they end as if nothing had happened.

python tests/chaos.py kill --times 100 --seed 0
python tests/chaos.py disk --levels 20

Every command works in a folder of its own on five people who do not exist. What it leaves in the
end is compared with what an undisturbed run leaves: file by file, byte by byte but for times. The
table says how often; the exit code is 1 where anything differs. `disk` needs the right to mount a
tmpfs, as root or in a user namespace.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import people
import yaml
from remains import differences, hidden, snapshot, unreadable

PYTHON = [sys.executable, "-c", "from myodistill.cli.main import main; main()"]
SOURCE = str(Path(__file__).parents[1] / "src")
LIMIT = 600.0
"""Seconds after which a command counts as hanging."""
PATIENCE = 10.0
"""Seconds in which children must end when their parent is killed."""

QUICK = {
    "dataset": "data/people.yaml",
    "k": [1],
    "student_model": ["log-power-10k"],
    "pretrain": {"num_epochs": 40},
    "pretrain_student": {"num_epochs": 20},
    "finetune": {"num_epochs": 5},
    "distill": {"num_epochs": 5},
}
BRIEF = {stage: {"num_epochs": 2} for stage in ("pretrain", "pretrain_student", "finetune")}
BUNDLE = "run/fold-1/seed-0/P1/k-1/pretrained_distilled-log-power-10k"


@dataclass(frozen=True)
class Command:
    """A command line; its paths are relative to the folder that it works in."""

    line: str
    on_disk: bool = False

    @property
    def words(self) -> list[str]:
        return self.line.format(bundle=BUNDLE).split()


COMMANDS = {
    "run": Command("run --config quick.yaml --fold 1 --out out", on_disk=True),
    "run --processes 2": Command("run --config quick.yaml --fold 1,2 --processes 2 --out out"),
    "tune": Command("tune --config brief.yaml --fold 1 --trials 3 --out out", on_disk=True),
    "data prepare": Command("data prepare data/people.yaml --out out", on_disk=True),
    "data prepare --processes 2": Command(
        "data prepare data/people.yaml --out out --raw --processes 2"
    ),
    "export": Command("export {bundle} --to c-int8 --dataset data/people.yaml", on_disk=True),
    "deploy-report": Command("deploy-report {bundle} --dataset data/people.yaml"),
    "report": Command("report run", on_disk=True),
    "study": Command("study study.yaml"),
}


def lay_out(folder: Path) -> None:
    """Write what the commands need: recordings, settings, and a finished run."""
    people.write(folder / "data", people.record())
    brief = QUICK | BRIEF
    study = {"out": "out", "defaults": {**brief, "fold": [1]}, "each": {"temp": [2, 5]}}
    for name, content in (("quick", QUICK), ("brief", brief), ("study", study)):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))
    done = finish(["run", "--config", "brief.yaml", "--fold", "1", "--out", "run"], folder)
    if done.code:
        raise SystemExit(f"the first run fails:\n{done.err}")


# A command as a process


@dataclass(frozen=True)
class Done:
    """How a command ended; ``code`` is None where it was killed."""

    code: int | None
    err: str = ""
    seconds: float = 0.0
    orphans: int = 0


def finish(
    words: list[str], folder: Path, *, after: float | None = None, locked_folder: bool = False
) -> Done:
    """Run a command; kill it after so many seconds, with its whole group or the parent alone."""
    begin = time.monotonic()
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            [*PYTHON, *words],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=said,
            start_new_session=True,  # a group of its own, which its children belong to
            env=os.environ | {"OMP_NUM_THREADS": "1", "MYODISTILL_DATA": "", "PYTHONPATH": SOURCE},
        )
        code: int | None = None
        try:
            code = process.wait(LIMIT if after is None else after)
        except subprocess.TimeoutExpired:
            (os.kill if locked_folder else os.killpg)(process.pid, signal.SIGKILL)
            process.wait()
        left = _outlived(process.pid)
        said.seek(0)
        return Done(code, said.read(), time.monotonic() - begin, left)


def _outlived(group: int) -> int:
    """Wait for the processes of a group to end; kill and count those that do not."""
    until = time.monotonic() + PATIENCE
    while (left := _members(group)) and time.monotonic() < until:
        time.sleep(0.1)
    if left:
        os.killpg(group, signal.SIGKILL)
    return len(left)


def _members(group: int) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, its_group = entry.read_text().rpartition(")")[2].split()[:3]
            if int(its_group) == group and state != "Z":
                found.append(int(entry.parent.name))
    return found


# The two drivers


@dataclass
class Row:
    """What happened to one command."""

    kills: int = 0
    restarts: int = 0
    ends: int = 0
    equal: int = 0
    orphans: int = 0
    hidden: int = 0
    wrong: list[str] = field(default_factory=list)

    def end(self, name: str, done: Done, reference: dict[str, str], folder: Path) -> None:
        """Compare what is left in the end with what an undisturbed run leaves."""
        self.ends += 1
        self.orphans += done.orphans
        self.hidden += hidden(folder)
        off = differences(reference, snapshot(folder))
        if done.code == 0 and not off:
            self.equal += 1
            return
        last = (done.err.strip().splitlines() or [""])[-1]
        say = f"exit code {done.code}, {last[:200]}" if done.code else f"differs: {off[:5]}"
        self.wrong.append(f"{name}: {say}")


def kill(template: Path, chosen: list[str], times: int, seed: int) -> dict[str, Row]:
    """Kill each command at random moments, start it again until it ends, compare."""
    rng = np.random.default_rng(seed)
    work = template.with_name("work")
    begins = finish(["--help"], template).seconds
    rows = {name: Row() for name in chosen}
    for place, (name, row) in enumerate(rows.items()):
        wanted = times // len(chosen) + (place < times % len(chosen))
        words = COMMANDS[name].words
        with fresh(template, work):
            first = finish(words, work)
            reference = snapshot(work)
            if first.code:
                row.wrong.append(f"{name}, undisturbed: {first.err[-300:]}")
        while row.kills < wanted and not row.wrong:
            with fresh(template, work):
                done = Done(None)
                for _ in range(rng.integers(1, 5)):
                    if row.kills == wanted or done.code is not None:
                        break
                    low = 0.0 if rng.random() < 0.1 else min(0.9 * begins, 0.9 * first.seconds)
                    after, locked_folder = rng.uniform(low, first.seconds), rng.random() < 0.5
                    done = finish(words, work, after=after, locked_folder=locked_folder)
                    row.kills += done.code is None
                    row.restarts += done.code is None
                    row.orphans += done.orphans
                done = finish(words, work) if done.code is None else done
                row.end(name, done, reference, work)
        print(f"{name}: {row.kills} kills", file=sys.stderr)
    return rows


@contextlib.contextmanager
def fresh(template: Path, work: Path) -> Iterator[None]:
    """Lay a copy of the template out for the time of the block."""
    shutil.copytree(template, work, dirs_exist_ok=True)
    try:
        yield
    finally:
        for path in work.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()


_PROGRESS = re.compile(r"^(fold \d|distilled, trial|undistilled, trial|prepare:)")


def one_line(done: Done) -> str:
    """Return what is wrong with how a command says that the disk is full; empty if nothing is."""
    lines = [line for line in done.err.splitlines() if line and not _PROGRESS.match(line)]
    if done.code == 2 and len(lines) == 1 and "pretrained_distilled" in lines[0]:
        return ""
    last = lines[-1][:160] if lines else "no line"
    return f"exit code {done.code}, {len(lines)} lines, the last: {last}"


def disk(template: Path, chosen: list[str], levels: int) -> dict[str, Row]:
    """Let each command run into a full disk at several places, then free it; compare."""
    work = template.with_name("work")
    rows = {name: Row() for name in chosen}
    with mounted(work):
        for name, row in rows.items():
            words = COMMANDS[name].words
            with fresh(template, work):
                with most_used(work) as used:
                    first = finish(words, work)
                need, reference = max(used), snapshot(work)
                if first.code:
                    row.wrong.append(f"{name}, undisturbed: {first.err[-300:]}")
                    continue
            for level in range(levels):
                share = (level + 0.5) / levels
                with fresh(template, work):
                    filler = work / ".filler"
                    with filler.open("wb") as file:
                        os.posix_fallocate(file.fileno(), 0, free(work) - int(share * need))
                    done = finish(words, work)
                    where = f"{name}, {share:.0%} of {need / 1024:.0f} KiB free"
                    row.kills += done.code != 0
                    if done.code != 0 and (bad := one_line(done)):
                        row.wrong.append(f"{where}: {bad}")
                    row.wrong += [f"{where}: {one} is not whole" for one in unreadable(work)]
                    filler.unlink()
                    row.restarts += 1
                    row.end(f"{where}, then freed", finish(words, work), reference, work)
            print(f"{name}: {row.kills} times full", file=sys.stderr)
    return rows


def free(folder: Path) -> int:
    """Bytes that can still be written below a folder."""
    state = os.statvfs(folder)
    return state.f_bavail * state.f_frsize


@contextlib.contextmanager
def most_used(folder: Path) -> Iterator[list[int]]:
    """Note all through the block how many bytes more than before it are used."""
    before, used, ended = free(folder), [0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.002):
            used.append(before - free(folder))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield used
    finally:
        ended.set()
        watcher.join()


@contextlib.contextmanager
def mounted(folder: Path, size: str = "64m") -> Iterator[None]:
    """Mount a small file system for the time of the block."""
    folder.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False).returncode:
        raise SystemExit("disk: expected the right to mount a tmpfs; try: unshare -rm python ...")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def main(words: list[str] | None = None) -> int:
    """Run a driver and print its table; 1 where something is not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("driver", choices=["kill", "disk"])
    parser.add_argument("--times", type=int, default=100, help="kills in all")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--levels", type=int, default=20, help="of free space, for each command")
    parser.add_argument("--only", action="append", choices=list(COMMANDS), help="these commands")
    asked = parser.parse_args(words)
    killing = asked.driver == "kill"
    known = [name for name, one in COMMANDS.items() if killing or one.on_disk]
    chosen = [name for name in known if name in (asked.only or known)]
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        template = Path(folder) / "template"
        template.mkdir()
        lay_out(template)
        if killing:
            rows = kill(template, chosen, asked.times, asked.seed)
        else:
            rows = disk(template, chosen, asked.levels)
    print(f"command | {'kills' if killing else 'full'} | restarts | equal | orphans | hidden left")
    for name, row in rows.items():
        print(
            f"{name} | {row.kills} | {row.restarts} | {row.equal} of {row.ends} | {row.orphans} | "
            f"{row.hidden}"
        )
    wrong = [line for row in rows.values() for line in row.wrong]
    print(*wrong, sep="\n", end="\n" if wrong else "")
    return int(bool(wrong) or any(row.orphans for row in rows.values()))


if __name__ == "__main__":
    raise SystemExit(main())
