"""Writes files in the layouts of public datasets, each with its format's own library."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyedflib
import wfdb
from scipy.io import savemat


def noise(samples: int, channels: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((samples, channels))


def write_flexemg(folder: Path, trials: int = 2) -> Path:
    root = folder / "flexemg-test" / "data"
    for session in ("Session1Train", "Session1Test", "Session3Test"):
        where = root / f"001-{session}"
        where.mkdir(parents=True)
        for trial in range(1, trials + 1):
            raw = (9000 + 50 * noise(28000, 96, trial)).astype("u2")
            raw[:, 64:] = 0
            settings = {"lsbmV": 0.003, "sequence": np.array([[3, 4, 2, 1]], dtype="u1")}
            path = where / f"001-{trial:03}.mat"
            savemat(path, {"raw": raw, "p": settings}, do_compression=True)
    return root.parent


def write_ninapro(
    folder: Path, number: int, subjects: int = 1, *, rest: int = 300, hold: int = 400
) -> Path:
    root = folder / f"ninapro-db{number}"
    root.mkdir(parents=True)
    channels, turns, sizes, restart = {
        1: (10, 10, (12, 17, 23), True),
        2: (12, 6, (17, 23, 9), False),
        5: (16, 6, (12, 17, 23), True),
        6: (16, 12, (7,), True),
    }[number]
    before = 0
    for subject in range(1, subjects + 1):
        for exercise, count in enumerate(sizes, start=1):
            labels: Sequence[int] = range(1, count + 1)
            if not restart:
                labels = range(before + 1, before + count + 1)
                before += count
            if number == 6:
                labels = (1, 3, 4, 6, 9, 10, 11)
            holds, turns_of = [np.zeros(rest)], [np.zeros(rest)]
            for label in list(labels)[:2] if number != 6 else labels:
                for repetition in range(1, turns + 1):
                    holds += [np.full(hold, label), np.zeros(rest)]
                    turns_of += [np.full(hold, repetition), np.zeros(rest)]
            movement, turn = np.concatenate(holds), np.concatenate(turns_of)
            emg = noise(len(movement), channels, exercise).astype("f4")
            variables = {
                "emg": emg,
                "restimulus": movement[:, None].astype("i1"),
                "rerepetition": turn[:, None].astype("i1"),
                "subject": subject,
                "exercise": exercise,
            }
            names = [f"S{subject}_E{exercise}_A1.mat"]
            if number == 1:
                names = [f"S{subject}_A1_E{exercise}.mat"]
            if number == 6:
                emg[:, 8:10] = 0
                names = [f"S{subject}_D{day}_T{time}.mat" for day in (1, 2) for time in (1, 2)]
            for name in names:
                savemat(root / name, variables)
    return root


def write_capgmyo(folder: Path, letter: str, subjects: int = 2) -> Path:
    root = folder / f"capgmyo-db{letter}"
    gestures = 12 if letter == "c" else 8
    for subject in range(1, subjects + 1):
        where = root / f"db{letter}-preprocessed-{subject:03}"
        where.mkdir(parents=True)
        for gesture in [*range(1, gestures + 1), 100]:
            for trial in range(1, 11):
                data = noise(160, 128, 100 * gesture + trial).astype("f4")
                variables = {"data": data, "subject": subject, "gesture": gesture, "trial": trial}
                savemat(where / f"{subject:03}-{gesture:03}-{trial:03}.mat", variables)
    return root


def write_wfdb(paths: list[Path], signal: np.ndarray, names: list[str]) -> None:
    """Write one WFDB record, and copies of it under other names."""
    first, count = paths[0], len(names)
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
    wfdb.wrsamp(
        first.name, 2048, ["mV"] * count, names, p_signal=signal, fmt=["16"] * count,
        write_dir=str(first.parent),
    )  # fmt: skip
    header, data = (first.with_suffix(end) for end in (".hea", ".dat"))
    for path in paths[1:]:
        path.with_suffix(".hea").write_text(header.read_text().replace(first.name, path.name))
        path.with_suffix(".dat").write_bytes(data.read_bytes())


def write_grabmyo(folder: Path, sessions: int = 3) -> Path:
    root = folder / "grabmyo-test"
    names = [f"F{i}" for i in range(1, 17)] + ["U1"] + [f"W{i}" for i in range(1, 7)]
    names += ["U2", "U3"] + [f"W{i}" for i in range(7, 13)] + ["U4"]
    paths = [
        root / f"Session{session}" / f"session{session}_participant1"
        / f"session{session}_participant1_gesture{gesture}_trial1"
        for session in range(1, sessions + 1)
        for gesture in range(1, 18)
    ]  # fmt: skip
    write_wfdb(paths, noise(500, 32), names)
    return root


def write_hyser(folder: Path, gestures: tuple[int, ...] = (1, 17), samples: int = 64) -> Path:
    root = folder / "hyser-test" / "pr_dataset"
    paths = []
    for session in (1, 2):
        where = root / f"subject01_session{session}"
        where.mkdir(parents=True)
        for task, each in (("dynamic", 6), ("maintenance", 2)):
            labels = [gesture for gesture in gestures for _ in range(each)]
            (where / f"label_{task}.txt").write_text(",".join(map(str, labels)))
            paths += [where / f"{task}_preprocess_sample{i + 1}" for i in range(len(labels))]
    write_wfdb(paths, noise(samples, 256), [f"channel{i}" for i in range(256)])
    return root.parent


def write_bdf(path: Path, signal: np.ndarray, names: list[str], rate: float = 2048) -> None:
    """Write a BDF or, by its suffix, an EDF file; signal in microvolts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind, most = (
        (pyedflib.FILETYPE_BDF, 2**23 - 1)
        if path.suffix == ".bdf"
        else (pyedflib.FILETYPE_EDF, 32767)
    )
    with pyedflib.EdfWriter(str(path), len(names), file_type=kind) as writer:
        writer.setSignalHeaders(
            [
                {
                    "label": name, "dimension": "uV", "sample_frequency": rate,
                    "physical_max": 3000.0, "physical_min": -3000.0, "digital_max": most,
                    "digital_min": -most - 1, "transducer": "", "prefilter": "",
                }
                for name in names
            ]
        )  # fmt: skip
        writer.writeSamples([np.ascontiguousarray(column) for column in signal.T])


def write_bids(folder: Path, subjects: int = 1, sessions: int = 2) -> Path:
    """An EMG-BIDS folder with a 2x3 grid, one trigger channel and two gestures twice."""
    root = folder / "study"
    root.mkdir(parents=True)
    (root / "dataset_description.json").write_text('{"Name": "study", "BIDSVersion": "1.11.0"}')
    names = [f"c{i}" for i in range(6)]
    for subject in range(1, subjects + 1):
        for session in range(1, sessions + 1):
            where = root / f"sub-{subject:02}" / f"ses-{session}" / "emg"
            stem = f"sub-{subject:02}_ses-{session}"
            signal = np.hstack([50 * noise(4000, 6, session), np.zeros((4000, 1))])
            write_bdf(where / f"{stem}_task-hold_emg.bdf", signal, [*names, "trigger"], 1000)
            rows = ["name\ttype\tunits\tsignal_electrode"]
            rows += [f"{name}\tEMG\tuV\tE{i}" for i, name in enumerate(names)] + [
                "trigger\tTRIG\tV\tn/a"
            ]
            (where / f"{stem}_task-hold_channels.tsv").write_text("\n".join(rows))
            rows = ["name\tx\ty"] + [f"E{i}\t{10 * (i // 2)}\t{10 * (i % 2)}" for i in range(6)]
            (where / f"{stem}_electrodes.tsv").write_text("\n".join([*rows, "REF\tn/a\tn/a"]))
            rows = ["onset\tduration\ttrial_type"]
            rows += [f"{k}\t0.9\t{name}" for k, name in enumerate(("fist", "open", "fist", "open"))]
            (where / f"{stem}_task-hold_events.tsv").write_text("\n".join(rows))
    return root


def write_long_term(
    folder: Path, subjects: int = 1, days: int = 3, motions: int = 22, samples: int = 120
) -> Path:
    """Write noise whose loud channels depend on the motion, turned a little every day."""
    root = folder / "Wearable_Sensor_Long-term_sEMG_Dataset-test"
    for subject in range(1, subjects + 1):
        for day in range(1, days + 1):
            where = root / "data" / f"sub{subject}" / f"day{day}"
            where.mkdir(parents=True)
            for motion in range(1, motions + 1):
                loud = 0.02 + 0.1 * np.random.default_rng(motion).random(8)
                for trial in range(1, 5):
                    seed = ((subject * 40 + day) * 40 + motion) * 40 + trial
                    signal = noise(samples, 8, seed) * loud
                    path = where / f"D{day}M{motion}T{trial}.csv"
                    np.savetxt(path, signal, fmt="%.6g", delimiter=",")
    return root
