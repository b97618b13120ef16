"""Downloads public datasets: resumable, checked, and never at the cost of a good copy.

An archive is kept as it came; the loaders read zips. What is checked: the SHA-256 where it is known
beforehand (PhysioNet publishes one for every file), the length that the server promised, and that
no archive would write outside its folder. Where no checksum is published, that of the first
download is written beside the file and required from then on.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pooch
import requests
from tqdm import tqdm

from myodistill.datasets.registry import FACTS
from myodistill.datasets.trees import DATA_VARIABLE, data_folders, list_files
from myodistill.errors import DataError, shown, unknown_name
from myodistill.files import write_text, writing


@dataclass(frozen=True)
class RemoteFile:
    """Where a dataset is downloaded from.

    Attributes:
        url: Of one file, or of a folder whose ``SHA256SUMS.txt`` lists its files.
        megabytes: Size of everything, roughly.
        file: Name to keep one file under; empty for a folder.
        sha256: Of the one file, where it is known beforehand.
        only: Regular expression of the files of a folder that are fetched.
        folder: Name of the folder that a folder's files go into.
        by_hand: What to do where no program may fetch.
    """

    url: str
    megabytes: int
    file: str = ""
    sha256: str | None = None
    only: str = ""
    folder: str = ""
    by_hand: str = ""


def _register(name: str, files: str, folder: str) -> RemoteFile:
    home = FACTS[name].home
    return RemoteFile(home, 0, by_hand=f"register at {home}, download {files}", folder=folder)


_HUB = "https://github.com"
_GRABMYO = RemoteFile(
    "https://physionet.org/files/grabmyo/1.1.0/",
    9400,
    only=r"gesture\d+_trial\d+",
    folder="grabmyo",
)

SOURCES: dict[str, RemoteFile] = {
    "3dc": RemoteFile(
        f"{_HUB}/LibEMG/3DCDataset/archive/1af9058c.zip", 150, "3DCDataset-1af9058c.zip"
    ),
    "myo": RemoteFile(
        f"{_HUB}/UlysseCoteAllard/MyoArmbandDataset/archive/4de3efef.zip",
        20,
        "MyoArmbandDataset-4de3efef.zip",
    ),
    "flexemg": RemoteFile(
        f"{_HUB}/a-moin/flexemg/archive/8ce40c53.zip", 250, "flexemg-8ce40c53.zip"
    ),
    "long-term": RemoteFile(
        f"{_HUB}/Suguru55/Wearable_Sensor_Long-term_sEMG_Dataset/archive/005b70c.zip",
        70,
        "Wearable_Sensor_Long-term_sEMG_Dataset-005b70c.zip",
    ),
    "hyser": RemoteFile(
        "https://physionet.org/files/hd-semg/2.0.0/",
        15000,
        only=r"^pr_dataset/.*(preprocess_sample|label_)",
        folder="hyser",
    ),
    "grabmyo": _GRABMYO,
    "grabmyo-wrist": _GRABMYO,
    "hyser-bids": _register("hyser-bids", "the recordings of nm000108", "hyser-bids"),
    "ninapro-db1": _register("ninapro-db1", "S1_A1_E1.mat and the others", "ninapro-db1"),
    "ninapro-db2": _register("ninapro-db2", "DB2_s1.zip to DB2_s40.zip", "ninapro-db2"),
    "ninapro-db5": _register("ninapro-db5", "s1.zip to s10.zip", "ninapro-db5"),
    "ninapro-db6": _register("ninapro-db6", "DB6_s1_a.zip to DB6_s10_b.zip", "ninapro-db6"),
    "capgmyo-dba": _register("capgmyo-dba", "dba-s1.zip to dba-s18.zip", "capgmyo-dba"),
    "capgmyo-dbb": _register("capgmyo-dbb", "the zips of DB-b", "capgmyo-dbb"),
    "capgmyo-dbc": _register("capgmyo-dbc", "the zips of DB-c", "capgmyo-dbc"),
}


def fetch(
    name: str,
    folder: Path | None = None,
    *,
    only: str = "",
    tell: Callable[[str], None] = print,
    source: RemoteFile | None = None,
    timeout: float = 30.0,
    retries: int = 4,
) -> list[Path]:
    """Download a dataset, or the rest of it.

    Args:
        name: Of the dataset.
        folder: Where it goes; the first folder of ``MYODISTILL_DATA``, or ``./data``.
        only: Regular expression; fetch only those files of a folder, for example
            ``subject01_``.
        tell: Called with the licence and citation before the first byte.
        source: Another source than the catalogue's.
        timeout: Seconds without a byte after which a connection counts as lost.
        retries: How often a lost connection is taken up again where it broke.

    Returns:
        The files.

    Raises:
        DataError: The dataset is unknown, must be fetched by hand, cannot be reached, or what
            came is not what was published; a good older copy is untouched.
    """
    facts = FACTS.get(name)
    source = source or SOURCES.get(name)
    if facts is None or source is None:
        raise DataError(unknown_name("dataset", name, SOURCES))
    try:
        wanted = re.compile(only)
    except re.error as error:
        raise DataError(
            f"only: expected a regular expression, got {shown(only)}: {error.msg}"
        ) from error
    folder = folder or next(iter(data_folders()), Path("data"))
    if source.by_hand:
        raise DataError(
            f"{facts.title}: no program may fetch it: {source.by_hand}, "
            f"and put it into {folder / source.folder} (or set {DATA_VARIABLE})"
        )
    size = f"{source.megabytes / 1000:.1f} GB" if source.megabytes >= 1000 else None
    tell(
        f"{facts.title}, about {size or f'{source.megabytes} MB'} from {source.url}\n"
        f"licence: {facts.licence}\nplease cite: {facts.citation}\nhome: {facts.home}"
    )
    get = _Getter(timeout, retries)
    if source.file:
        return [get(source.url, folder / source.file, source.sha256)]
    target = folder / source.folder
    base = source.url.rstrip("/")
    sums = get(f"{base}/SHA256SUMS.txt", target / "SHA256SUMS.txt", None, fresh=True)
    return [
        get(f"{base}/{path}", target / path, digest)
        for digest, path in _listed(sums)
        if re.search(source.only, path) and wanted.search(path)
    ]


def _listed(sums: Path) -> list[tuple[str, str]]:
    """The sums and paths of a ``SHA256SUMS.txt``.

    Raises:
        DataError: It is not such a list, or names a path outside the folder.
    """
    listed = []
    for line in sums.read_text(encoding="utf-8", errors="replace").splitlines():
        match = re.fullmatch(r"([0-9a-f]{64})[ *]+(.+)", line.strip())
        if match is None or match[2].startswith("/") or ".." in Path(match[2]).parts:
            raise DataError(
                f"{sums}: expected lines of a SHA-256 and a path, got '{line[:60]}'; remove it "
                f"and fetch again"
            )
        listed.append((match[1], match[2]))
    return listed


class _Getter:
    """Gets one file after another over one connection."""

    def __init__(self, timeout: float, retries: int) -> None:
        self._timeout, self._retries = timeout, retries
        self._session = requests.Session()
        pooch.get_logger().setLevel("WARNING")

    def __call__(self, url: str, path: Path, sha256: str | None, *, fresh: bool = False) -> Path:
        """Return ``path``, downloaded if it is not there or not right."""
        first_sum = path.with_name(f"{path.name}.sha256")
        if sha256 is None and not fresh and first_sum.is_file():
            sha256 = first_sum.read_text(encoding="utf-8").split()[0]
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        if fresh and path.is_file():
            # Asked for anew each time; the old copy serves where the server cannot be reached.
            part = path.with_name(f".{path.name}.new")
            try:
                self._download(url, str(part))
                part.replace(path)
            except DataError:
                part.unlink(missing_ok=True)
            return path
        try:
            pooch.retrieve(
                url,
                known_hash=f"sha256:{sha256}" if sha256 else None,
                fname=path.name,
                path=path.parent,
                downloader=lambda url, out, _pooch: self._download(url, out, path),
            )
        except ValueError as error:
            _part(path).unlink(missing_ok=True)
            raise DataError(
                f"{path}: expected SHA-256 {sha256}, {url} sent something else; what was there "
                f"before is untouched, fetch again or get it by hand from the dataset's home"
            ) from error
        if not sha256 and not fresh:
            write_text(first_sum, f"{pooch.file_hash(str(path))}  {path.name}\n")
        return path

    def _download(self, url: str, out: str, path: Path | None = None) -> None:
        """Fill ``out``; after a broken connection it continues where that ended."""
        part = _part(path or Path(out))
        for attempt in range(self._retries + 1):
            try:
                self._append(url, part)
                break
            except (*_LOST, _CutShortError) as error:
                if attempt == self._retries:
                    raise DataError(_offline(url, path or Path(out), error)) from error
                time.sleep(min(0.1 * 4**attempt, 5.0))
            except (requests.HTTPError, requests.RequestException) as error:
                raise DataError(_offline(url, path or Path(out), error)) from error
        if path is not None and path.suffix == ".zip":
            try:
                list_files(part.rename(part.with_suffix(".zip")))
            except DataError:
                part.with_suffix(".zip").unlink()
                raise
            part = part.with_suffix(".zip")
        part.replace(out)

    def _append(self, url: str, part: Path) -> None:
        have = part.stat().st_size if part.is_file() else 0
        # As stored, not compressed on the way: a range counts the bytes of the file.
        headers = {"Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
        with self._session.get(
            url, headers=headers, stream=True, timeout=self._timeout
        ) as response:
            if response.status_code == requests.codes.requested_range_not_satisfiable:
                part.unlink()
                raise _CutShortError("a part that is longer than the file")
            response.raise_for_status()
            resumed = response.status_code == requests.codes.partial_content
            have = have if resumed else 0
            length = response.headers.get("Content-Length")
            total = have + int(length) if length else None
            with (
                part.open("ab" if resumed else "wb") as file,
                tqdm(
                    total=total, initial=have, unit="B", unit_scale=True, desc=part.name.strip("."),
                    leave=False, disable=None,
                ) as bar,
            ):  # fmt: skip
                for chunk in response.iter_content(2**15):
                    with writing(part):
                        file.write(chunk)
                    bar.update(len(chunk))
            if total is not None and part.stat().st_size != total:
                raise _CutShortError(f"{part.stat().st_size} of {total} bytes")


class _CutShortError(Exception):
    """The connection ended before the file did."""


_LOST = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)


def _part(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")


def _offline(url: str, path: Path, error: Any) -> str:
    reason = "no connection"
    if isinstance(error, requests.Timeout):
        reason = "no answer in time"
    elif isinstance(error, requests.HTTPError):
        reason = f"HTTP {error.response.status_code}"
    elif isinstance(error, _CutShortError):
        reason = str(error)
    return (
        f"{path.name}: could not fetch {url} ({reason}); try again (it goes on where it "
        f"stopped), or fetch it by hand and put it there as {path}"
    )
