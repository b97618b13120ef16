"""Long streams at full speed with injected faults: memory, counts, and every decision.

    python benchmarks/endurance.py [--minutes 60 10] [--live-seconds 20] [--seed 0]

A device in another process sends 8 channels x 200 Hz and then 256 channels x 2048 Hz over TCP, in
the line protocol, as fast as they are decoded; every eight seconds of the stream it injects a
fault: samples that are lost, come twice or come late, a value that is not finite, a channel that
goes flat, a line of garbage, a connection that ends and comes back with counts from zero. It
decodes the same samples offline, with the lost ones not finite. Fails where a count is not exactly
what was injected, a decision is another one than offline or missing, the memory grows by more than
16 MB after the first fifth, or decoding at live speed takes more than half a core.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from array import array
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from common import machine

from myodistill import live
from myodistill.bundle import Bundle
from myodistill.datasets.recording import SignalSpec, grid, ring
from myodistill.deploy.onnx import to_onnx
from myodistill.live.events import Event
from myodistill.live.session import Session
from myodistill.models.registry import build
from myodistill.realtime.decoder import Decoder
from myodistill.realtime.runtime import OnnxModel
from myodistill.realtime.sources import open_chunks
from myodistill.signals.preprocessing import Preprocessing

FAULTS = ("gap", "duplicate", "late", "nan", "flat", "garbage", "vanish")
EVERY, FLAT = 8.0, 3.0  # seconds from fault to fault; that a channel is flat
GROWTH = 16e6  # bytes
SHARE = 0.5  # of a core


def student(channels: int, rate: float) -> Bundle:
    """An untrained student: windows of 200 ms, a decision each 50 ms."""
    electrodes = ring(channels) if channels < 64 else grid(16, channels // 16)
    gestures = tuple("abcdefg")
    spec = SignalSpec(electrodes, round(0.2 * rate), rate, gestures)
    passband = (20.0, min(450.0, 0.45 * rate))
    fitted = Preprocessing(rate, passband, 0.0, np.eye(channels, dtype=np.float32), frozenset())
    origin = {"dataset": "noise", "licence": "-", "split": "0" * 16, "stage": "supervised"}
    network = build("log-power-10k", spec, seed=0).eval()
    return Bundle(
        "log-power-10k", spec, network, fitted, frozenset(), origin, unit="mV",
        step=round(0.05 * rate),
    )  # fmt: skip


class Device:
    """Sends a stream with faults, and decodes offline what should come of it.

    Args:
        model: The exported student.
        minutes: Of the stream.
        seed: Of the noise.
    """

    def __init__(self, model: OnnxModel, minutes: float, seed: int) -> None:
        spec = model.spec
        self.length = 20 if spec.sampling_rate < 1000 else 32
        self.chunks = round(60 * minutes * spec.sampling_rate / self.length)
        self.period = round(EVERY * spec.sampling_rate / self.length)
        self.span = round(FLAT * spec.sampling_rate / self.length)
        self.counts: Counter[str] = Counter()
        self.decisions: list[tuple[int, float]] = []
        self._rng = np.random.default_rng(seed)
        self._spec, self._offline, self._lost = spec, Decoder(model), max(spec.samples, model.step)

    def faults(self) -> list[str]:
        """The faults in order; the last period has none."""
        return [FAULTS[i % len(FAULTS)] for i in range(self.chunks // self.period - 1)]

    def send(self, port: int, speed: float) -> None:
        """Connect, and send all; ``speed`` 0 for as fast as it is taken."""
        begin, sent = time.monotonic(), 0
        connection = socket.create_connection(("127.0.0.1", port))
        for line in self._lines():
            if line is None:
                connection.close()
                connection = socket.create_connection(("127.0.0.1", port))
                continue
            connection.sendall(line)
            sent += self.length
            if speed:
                due = begin + sent / self._spec.sampling_rate / speed
                time.sleep(max(due - time.monotonic(), 0))
        connection.close()

    def _lines(self) -> Iterator[bytes | None]:
        """Yield lines; None for a connection that ends."""
        faults, number, flat, channels = self.faults(), 0, 0, self._spec.channels
        held: bytes | None = None
        for index in range(self.chunks):
            due = index % self.period == 0 and 0 < index // self.period <= len(faults)
            fault = faults[index // self.period - 1] if due else ""
            self.counts[fault] += bool(fault)
            samples = self._rng.integers(-200, 200, (self.length, channels)).astype(np.float32)
            flat = self.span if fault == "flat" else max(flat - 1, 0)
            if flat:
                samples[:, 1] = 7
            if fault == "nan":
                samples[3, 0] = np.nan
            if fault == "vanish":
                yield None
                number = 0
                self._decode(np.full((self._lost, channels), np.nan, np.float32))
            if fault == "garbage":
                yield b"\x00\xff;garbage\n"
            rows = [[round(v) if v == v else v for v in row] for row in samples.tolist()]
            line = json.dumps({"samples": rows, "seq": number}, separators=(",", ":")).encode()
            line += b"\n"
            number += self.length
            self._decode(samples if fault not in ("gap", "late") else np.full_like(samples, np.nan))
            if fault == "late":
                held = line
            elif fault != "gap":
                yield line
            if fault == "duplicate":
                yield line
            if fault != "late" and held is not None:
                yield held
                held = None

    def _decode(self, samples: np.ndarray) -> None:
        self.decisions += [(one.sample, one.confidence) for one in self._offline.push(samples)]

    def expected(self) -> dict[str, int]:
        """What the session should count."""
        of, length = self.counts, self.length
        return {
            "samples": (self.chunks - of["gap"] - of["late"]) * length,
            "gaps": of["gap"] + of["late"] + of["vanish"],
            "lost": (of["gap"] + of["late"]) * length,
            "duplicated": of["duplicate"] * length,
            "late": of["late"] * length,
            "broken": of["nan"],
            "refused": of["garbage"],
            "connections": of["vanish"] + 1,
            "vanished": of["vanish"] + 1,
            "restarts": of["vanish"],
            "flat": of["flat"],
        }


def memory() -> int:
    """Return the resident bytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def endure(channels: int, rate: float, minutes: float, seed: int, speed: float = 0.0) -> bool:
    """Decode one stream; print what it was like and return whether all is well."""
    with tempfile.TemporaryDirectory() as folder:
        path, result = Path(folder) / "student.onnx", Path(folder) / "offline.json"
        path.write_bytes(to_onnx(student(channels, rate)).SerializeToString())
        model = OnnxModel.load(path)
        connections = 1 + Device(model, minutes, seed).faults().count("vanish")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        flat: list[Event] = []
        session = Session(
            Decoder(model), log=lambda one: flat.append(one) if one.name == "flat" else None,
            enough=0,
        )  # fmt: skip
        chunks = open_chunks(f"tcp-listen:{port}", model.spec)
        next(chunks)
        words = [str(path), str(minutes), str(seed), str(port), str(speed), str(result)]
        device = subprocess.Popen([sys.executable, __file__, "--device", *words])
        ends, confidences = array("q"), array("d")  # small, so that the decoder's memory is seen
        sizes, total = [], 60 * minutes * rate
        begin, spent = time.monotonic(), time.process_time()
        for chunk in chunks:
            for one in session.take(chunk):
                if session.decisions > len(ends):  # else it says that the device is silent
                    ends.append(one["sample"])
                    confidences.append(one["confidence"])
            if session.health.samples >= len(sizes) * total / 20:
                sizes.append(memory())
            if session.health.vanished == connections:
                break
            if device.poll():
                raise SystemExit("the device ended early")
        seconds, spent = time.monotonic() - begin, time.process_time() - spent
        sizes.append(memory())
        if device.wait(timeout=60):
            raise SystemExit("the device failed")
        offline = json.loads(result.read_text())
    got = {name: getattr(session.health, name) for name in offline["expected"]}
    got["flat"] = len(flat)
    expected = [tuple(one) for one in offline["decisions"]]
    same = list(zip(ends, confidences, strict=True)) == expected
    growth, share = sizes[-1] - sizes[len(sizes) // 5], spent / (60 * minutes)
    print(
        f"{channels} channels x {rate:g} Hz, {minutes:g} minutes in {seconds:.0f} s; "
        f"{sum(offline['faults'].values())} faults; {len(ends)} decisions, "
        f"{session.abstained} abstained, {'all as offline' if same else 'NOT AS OFFLINE'}"
    )
    print(f"  injected {offline['faults']}")
    print(f"  {'counted exactly' if got == offline['expected'] else 'COUNTED WRONGLY'}: {got}")
    print(f"  MB resident over time: {', '.join(f'{one / 1e6:.0f}' for one in sizes)}")
    print(f"  grown by {growth / 1e6:.1f} MB; {100 * share:.1f} % of a core of the stream's time")
    live_enough = not speed or share <= SHARE
    well = same and got == offline["expected"] and growth <= GROWTH and live_enough
    print(f"  {'pass' if well else 'FAIL'}", flush=True)
    return well


def be_device(words: list[str]) -> None:
    """Be the other process; leave what was injected and the offline decisions in a file."""
    path, minutes, seed, port, speed, result = words
    device = Device(OnnxModel.load(Path(path)), float(minutes), int(seed))
    device.send(int(port), float(speed))
    faults = {name: device.counts[name] for name in FAULTS}
    told = {"faults": faults, "expected": device.expected(), "decisions": device.decisions}
    Path(result).write_text(json.dumps(told))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, nargs=2, default=[60, 10])
    parser.add_argument("--live-seconds", type=float, default=20, help="at live speed; 0 for none")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", nargs=6, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.device:
        be_device(asked.device)
        return 0
    live.register_sources()
    print(machine())
    well = [endure(8, 200.0, asked.minutes[0], asked.seed)]
    well += [endure(256, 2048.0, asked.minutes[1], asked.seed)]
    if asked.live_seconds:
        print("at live speed:")
        well += [endure(256, 2048.0, asked.live_seconds / 60, asked.seed, speed=1.0)]
    return 0 if all(well) else 1


if __name__ == "__main__":
    sys.exit(main())
