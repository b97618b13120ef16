"""Downloads survive a bad server, and never cost a good copy."""

from __future__ import annotations

import hashlib
import io
import threading
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from myodistill.datasets.fetch import SOURCES, RemoteFile, fetch
from myodistill.errors import DataError

CONTENT = bytes(range(256)) * 2000
SUM = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {"/x.bin": CONTENT}
        self.faults: list[str] = []
        self.ranges: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is what these tests are about."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        content = self.server.files.get(self.path)
        fault = self.server.faults.pop(0) if self.server.faults else ""
        asked = self.headers.get("Range")
        self.server.ranges.append(asked)
        if content is None:
            self.send_error(404)
            return
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        body = content[start:]
        if fault == "corrupt":
            body = bytes(len(body))
        if fault in ("stall", "truncate"):
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            if fault == "stall":
                time.sleep(1.0)
            return
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None: ...


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as one:
        threading.Thread(target=one.serve_forever, args=(0.02,), daemon=True).start()
        yield one
        one.shutdown()


def get(server: Server, folder: Path, sha256: str | None = SUM, **options: object) -> Path:
    source = RemoteFile(f"{server.url}/x.bin", 1, "x.bin", sha256)
    told: list[str] = []
    (path,) = fetch(
        "myo", folder, source=source, tell=told.append, timeout=0.3, **options  # type: ignore[arg-type]
    )  # fmt: skip
    assert "licence: GNU General Public License v3" in told[0]
    assert "please cite: U. Côté-Allard" in told[0]
    return path


def left_over(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_comes_once(server: Server, tmp_path: Path) -> None:
    assert get(server, tmp_path).read_bytes() == CONTENT
    get(server, tmp_path)
    assert len(server.ranges) == 1
    assert left_over(tmp_path) == ["x.bin"]


@pytest.mark.parametrize("fault", ["stall", "truncate"])
def test_a_broken_connection_goes_on_where_it_broke(
    server: Server, tmp_path: Path, fault: str
) -> None:
    server.faults = [fault, fault]
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.ranges[0] is None
    assert all(asked and asked != "bytes=0-" for asked in server.ranges[1:])
    assert left_over(tmp_path) == ["x.bin"]


def test_a_later_run_goes_on_too(server: Server, tmp_path: Path) -> None:
    server.faults = ["truncate"]
    with pytest.raises(DataError, match=r"x\.bin: could not fetch .*put it there as"):
        get(server, tmp_path, retries=0)
    assert left_over(tmp_path) == [".x.bin.part"]
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.ranges[1] is not None
    assert 200000 < int(server.ranges[1][6:-1]) <= 256000


def test_corruption_keeps_the_good_copy(server: Server, tmp_path: Path) -> None:
    good = b"an older release"
    (tmp_path / "x.bin").write_bytes(good)
    server.faults = ["corrupt"]
    with pytest.raises(DataError, match="sent something else; what was there before is untouched"):
        get(server, tmp_path)
    assert (tmp_path / "x.bin").read_bytes() == good
    assert left_over(tmp_path) == ["x.bin"]
    assert get(server, tmp_path).read_bytes() == CONTENT


def test_first_sum_holds_where_none_is_published(server: Server, tmp_path: Path) -> None:
    path = get(server, tmp_path, None)
    assert (tmp_path / "x.bin.sha256").read_text().split() == [SUM, "x.bin"]
    path.unlink()
    server.files["/x.bin"] = b"swapped"
    with pytest.raises(DataError, match="expected SHA-256"):
        get(server, tmp_path, None)


def test_archive_that_would_escape_never_arrives(server: Server, tmp_path: Path) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("../evil", "x")
    server.files["/x.zip"] = content.getvalue()
    source = RemoteFile(f"{server.url}/x.zip", 1, "x.zip")
    with pytest.raises(DataError, match="expected files within the archive's own folder"):
        fetch("myo", tmp_path, source=source, tell=lambda _: None)
    assert left_over(tmp_path) == []


def test_folder_with_published_sums(server: Server, tmp_path: Path) -> None:
    names = ["pr/subject01_a.dat", "pr/subject02_a.dat", "other/b.dat"]
    server.files |= {f"/d/{name}": name.encode() for name in names}
    lines = [f"{hashlib.sha256(name.encode()).hexdigest()} {name}" for name in names]
    server.files["/d/SHA256SUMS.txt"] = "\n".join(lines).encode()
    source = RemoteFile(f"{server.url}/d/", 1, only="^pr/", folder="hyser")
    paths = fetch("hyser", tmp_path, source=source, tell=lambda _: None)
    assert [path.relative_to(tmp_path / "hyser").as_posix() for path in paths] == names[:2]
    paths = fetch("hyser", tmp_path, source=source, tell=lambda _: None, only="subject02")
    assert [path.name for path in paths] == ["subject02_a.dat"]
    server.files["/d/SHA256SUMS.txt"] = f"{'0' * 64} ../../evil\n".encode()
    with pytest.raises(DataError, match="expected lines of a SHA-256 and a path"):
        fetch("hyser", tmp_path, source=source, tell=lambda _: None)


def test_offline_and_missing(server: Server, tmp_path: Path) -> None:
    nowhere = RemoteFile("http://127.0.0.1:9/x.bin", 1, "x.bin", SUM)
    with pytest.raises(DataError, match=r"\(no connection\).*by hand and put it there") as caught:
        fetch("myo", tmp_path, source=nowhere, tell=lambda _: None, retries=0)
    assert "\n" not in str(caught.value)
    gone = RemoteFile(f"{server.url}/gone", 1, "x.bin", SUM)
    with pytest.raises(DataError, match="HTTP 404"):
        fetch("myo", tmp_path, source=gone, tell=lambda _: None)
    with pytest.raises(DataError, match="did you mean myo"):
        fetch("mio", tmp_path)
    with pytest.raises(DataError, match=r"no program may fetch it: register at .*ninapro-db5"):
        fetch("ninapro-db5", tmp_path)


def test_every_dataset_has_a_source() -> None:
    from myodistill.datasets.registry import DATASETS, FACTS

    assert set(SOURCES) == set(FACTS) == set(DATASETS) - {"synthetic"}
