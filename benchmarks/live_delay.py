"""From the last sample of a window leaving its source to the decision at a page, and the cost.

    python benchmarks/live_delay.py [--seconds 30] [--only tcp lsl brainflow 256]

Three processes on one machine: a device that stamps when it lets samples go, `myodistill live`
with a student in C, and a page's WebSocket, beside which none or twenty others watch. All clocks
are the machine's monotonic one. Samples go in chunks of 10 ms; the clock is read before the chunk
with the last sample of a window is handed to the system, and when the decision has been read.

TCP and LSL: this script is the device, and its first channel counts samples, so that a page's
signals tell which one is which. BrainFlow: the synthetic board (250 Hz) in another process, handed
on by BrainFlow's streamer to its streaming board; measured from the board's own stamp of the
sample, as the board sets it, since nothing tells when its streamer sends.

256 channels x 2048 Hz: what the server takes of a core while one page watches.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from common import machine
from endurance import student

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "live"))

from page_socket import page_socket

from myodistill.datasets.recording import SignalSpec, ring
from myodistill.deploy.export import export
from myodistill.live.server.buckets import decode

SIGNALS = ((8, 200.0), (10, 1000.0))
WATCHERS = (0, 20)
SETTLE = 4.0  # seconds that are not measured
CHUNK = 0.01  # seconds
GROUP, GROUP_PORT = "225.1.1.1", 6677  # of BrainFlow's streamer

Stamps = list[tuple[float, float]]
"""What identifies the last sample of a chunk, and when it left."""


# The device.


def send(kind: str, address: str, channels: int, rate: float, seconds: float) -> Stamps:
    """Send samples whose first channel counts them; return the count and the time of chunks."""
    length = max(round(CHUNK * rate), 1)
    rng = np.random.default_rng(0)
    noise = rng.integers(-200, 200, (500, channels)).astype(np.float32)
    push = _tcp(address) if kind == "tcp" else _lsl(address, channels, rate)
    begin, count, stamps = time.monotonic(), 0, []
    while count < seconds * rate:
        samples = noise[(count + np.arange(length)) % len(noise)].copy()
        samples[:, 0] = count + np.arange(length)
        time.sleep(max(begin + (count + length) / rate - time.monotonic(), 0))
        try:
            stamps.append((float(count + length - 1), push(samples, count)))
        except OSError:  # the server has ended
            break
        count += length
    return stamps


def _tcp(address: str) -> Callable[[np.ndarray[Any, Any], int], float]:
    import socket

    port = int(address)
    for _ in range(300):
        try:
            device = socket.create_connection(("127.0.0.1", port))
            break
        except OSError:
            time.sleep(0.1)
    device.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def push(samples: np.ndarray[Any, Any], count: int) -> float:
        line = json.dumps({"samples": samples.astype(int).tolist(), "seq": count}).encode() + b"\n"
        now = time.monotonic()
        device.sendall(line)
        return now

    return push


def _lsl(name: str, channels: int, rate: float) -> Callable[[np.ndarray[Any, Any], int], float]:
    import pylsl

    info = pylsl.StreamInfo(name, "EMG", channels, rate, "float32", f"delay {name}")
    outlet = pylsl.StreamOutlet(info)
    while not outlet.wait_for_consumers(1):
        pass

    def push(samples: np.ndarray[Any, Any], count: int) -> float:
        rows = samples.tolist()
        now = time.monotonic()
        outlet.push_chunk(rows)
        return now

    return push


def stream_board(seconds: float) -> Stamps:
    """Run BrainFlow's synthetic board; return the first channel and the time of each sample."""
    from brainflow import board_shim as shim

    shim.files = lambda name: resources.files(name.partition(".")[0])  # as in live.boards
    shim.BoardShim.disable_board_logger()
    board = shim.BoardShim(shim.BoardIds.SYNTHETIC_BOARD.value, shim.BrainFlowInputParams())
    board.prepare_session()
    board.add_streamer(f"streaming_board://{GROUP}:{GROUP_PORT}")
    board.start_stream(1 << 18)
    ahead = time.time() - time.monotonic()
    time.sleep(seconds)
    data = board.get_board_data()
    board.release_session()
    first = shim.BoardShim.get_emg_channels(board.board_id)[0]
    clock = shim.BoardShim.get_timestamp_channel(board.board_id)
    values = data[first].astype(np.float32).astype(float)
    return list(zip(values.tolist(), (data[clock] - ahead).tolist(), strict=True))


# The page.


async def watch(address: str, others: int, seconds: float) -> dict[str, Any]:
    """Return decisions with the time they came, and the first channel of each sample's bucket."""
    from websockets.asyncio.client import connect

    url, settings = page_socket(address)
    settings["max_queue"] = None
    decisions: list[tuple[int, float]] = []
    buckets: list[tuple[int, float, float]] = []
    counters: dict[str, Any] = {}

    async def idle() -> None:
        async with connect(url, **settings) as one:
            async for _ in one:
                pass

    beside = [asyncio.create_task(idle()) for _ in range(others)]
    async with connect(url, **settings) as one:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                message = await asyncio.wait_for(one.recv(), 1)
            except TimeoutError:
                continue
            now = time.monotonic()
            if isinstance(message, bytes):
                first, spans = decode(message)
                buckets += [(first + i, *map(float, span[0])) for i, span in enumerate(spans)]
                continue
            found = json.loads(message)
            if found["type"] == "decision" and not found["abstained"]:
                decisions.append((found["sample"], now))
            elif found["type"] == "counters":
                counters = found
    for task in beside:
        task.cancel()
    return {"decisions": decisions, "buckets": buckets, "counters": counters}


# Both together.


def measured(
    source: str, channels: int, rate: float, others: int, seconds: float, folder: Path
) -> tuple[list[float], dict[str, Any], float]:
    """Return delays in ms, the server's counters, and the share of a core that it took."""
    model = folder / f"{channels}"
    if not model.exists():
        export(_student(channels, rate), "c", model, shared=True)
    address, device = _source(source, channels, rate, seconds + 3 * SETTLE)
    sender = _process(*device)
    if source == "lsl":  # a stream is looked for once
        import pylsl

        pylsl.resolve_byprop("name", device[2], timeout=60)
    server = subprocess.Popen(
        [sys.executable, "-m", "myodistill", "live", str(model), "--source", address,
         "--port", "0", "--rate-after", "0"],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert server.stdout is not None
    page = server.stdout.readline().strip()
    watcher = _process("watch", page, str(others), str(seconds + SETTLE))
    time.sleep(SETTLE)
    before, begin = _cpu(server.pid), time.monotonic()
    time.sleep(max(seconds - SETTLE, 1))
    share = (_cpu(server.pid) - before) / (time.monotonic() - begin)
    seen = json.loads(watcher.communicate(timeout=120)[0])
    server.terminate()
    stamps = json.loads(sender.communicate(timeout=120)[0])
    server.wait(timeout=30)
    return _delays(seen, stamps, source, rate), seen["counters"], share


def _delays(seen: dict[str, Any], stamps: Stamps, source: str, rate: float) -> list[float]:
    """Match decisions to the samples that left: by the first channel in the page's signals."""
    width = max(rate / 125, 1.0)
    marks = np.array([mark for mark, _ in stamps])
    times = np.array([moment for _, moment in stamps])
    whole = [(index, low) for index, low, high in seen["buckets"] if np.isfinite(low)]
    if source == "brainflow":  # the value of a sample that is alone the least of its bucket
        place = {mark: number for number, mark in enumerate(marks.tolist())}
        offsets = [
            place[low] - round(np.ceil(index * width - 1e-6))
            for index, low in whole if low in place
        ]  # fmt: skip
        values, counts = np.unique(offsets, return_counts=True)
        offset = int(values[counts.argmax()])
        left = times
    else:
        offsets = [low - np.ceil(index * width - 1e-6) for index, low in whole]
        offset = round(float(np.median(offsets)))
        left = times[np.searchsorted(marks, np.arange(marks[-1] + 1))]
    begin = seen["decisions"][0][1] + SETTLE
    return [
        1e3 * (came - left[sample - 1 + offset])
        for sample, came in seen["decisions"]
        if came > begin and sample - 1 + offset < len(left)
    ]


def _source(source: str, channels: int, rate: float, seconds: float) -> tuple[str, list[str]]:
    words = [str(channels), str(rate), str(seconds)]
    if source == "tcp":
        port = _free_port()
        return f"tcp-listen:{port}", ["send", "tcp", str(port), *words]
    if source == "lsl":
        name = f"delay{os.getpid()}-{time.monotonic_ns()}"
        return f"lsl:{name}", ["send", "lsl", name, *words]
    address = f"brainflow:streaming,ip_address={GROUP},ip_port={GROUP_PORT},master_board=synthetic"
    return address, ["board", str(seconds)]


def _student(channels: int, rate: float) -> Any:
    if channels >= 64:
        return student(channels, rate)
    from dataclasses import replace

    from myodistill.models.registry import build

    made = student(channels, rate)
    spec = SignalSpec(ring(channels), made.spec.samples, rate, made.spec.gestures)
    return replace(made, model="log-covariance-30k", spec=spec,
                   network=build("log-covariance-30k", spec, seed=0).eval())  # fmt: skip


def _process(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, __file__, "--role", *words], stdout=subprocess.PIPE, text=True
    )


def _cpu(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _free_port() -> int:
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--only", nargs="*", default=["tcp", "lsl", "brainflow", "256"])
    parser.add_argument("--role", nargs="+")
    given = parser.parse_args()
    if given.role:
        kind, *words = given.role
        if kind == "send":
            done: Any = send(words[0], words[1], int(words[2]), float(words[3]), float(words[4]))
        elif kind == "board":
            done = stream_board(float(words[0]))
        else:
            done = asyncio.run(watch(words[0], int(words[1]), float(words[2])))
        print(json.dumps(done))
        return
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        for source in given.only:
            if source == "256":
                delays, counts, share = measured("tcp", 256, 2048.0, 0, given.seconds, Path(folder))
                _tell("tcp", 256, 2048.0, 0, delays, counts, share)
                continue
            for channels, rate in SIGNALS if source != "brainflow" else ((8, 250.0),):
                for others in WATCHERS:
                    place = Path(folder) / f"{source}-{rate:g}"
                    place.mkdir(exist_ok=True)
                    found = measured(source, channels, rate, others, given.seconds, place)
                    _tell(source, channels, rate, others, *found)
    print(machine())


def _tell(
    source: str, channels: int, rate: float, others: int,
    delays: list[float], counts: dict[str, Any], share: float,
) -> None:  # fmt: skip
    median, late = np.percentile(delays, (50, 99))
    inside = counts["delay_ms"]
    print(
        f"{source:9} {channels:3} x {rate:4g} Hz, {others:2} others: {len(delays)} decisions, "
        f"median {median:.2f} ms, p99 {late:.2f} ms, worst {max(delays):.1f} ms (in the server "
        f"{inside['median']:.2f} and {inside['p99']:.2f}); lost {counts['lost']}, "
        f"{100 * share:.1f} % of a core",
        flush=True,
    )


if __name__ == "__main__":
    main()
