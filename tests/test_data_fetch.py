"""Downloads against a local server, and archives that try to escape."""

import hashlib
import http.server
import io
import threading
import zipfile

import numpy as np
import pytest

from madcluster.data import ArchiveError, MissingDataError, benchmarks, fetch, load
from madcluster.data import fetch as fetch_function

fetch_module = __import__("sys").modules[fetch_function.__module__]

TABLE = b"""chan_id,spacecraft,anomaly_sequences,class,num_values
P-1,SMAP,"[[10, 12]]",[point],50
M-1,MSL,"[[1, 3]]",[point],40
"""
ROW = ",".join(["0.5"] * 38) + "\n"
SMD = {
    "SMD/train/machine-1-1.txt": ROW.encode() * 30,
    "SMD/test/machine-1-1.txt": ROW.encode() * 20,
    "SMD/test_label/machine-1-1.txt": b"0\n" * 10 + b"1\n" * 10,
    "SMD/interpretation_label/machine-1-1.txt": b"10-20:1\n",
}


def array(n, width):
    buffer = io.BytesIO()
    np.save(buffer, np.random.default_rng(n).random((n, width)))
    return buffer.getvalue()


NASA = {
    "MSL_SMAP/labeled_anomalies.csv": TABLE,
    "MSL_SMAP/train/P-1.npy": array(60, 25),
    "MSL_SMAP/test/P-1.npy": array(50, 25),
    "MSL_SMAP/train/M-1.npy": array(45, 55),
    "MSL_SMAP/test/M-1.npy": array(40, 55),
}


@pytest.fixture
def server(monkeypatch):
    """A server of `server.files`; it counts requests, and these files are the official ones."""
    official = {
        name: (len(content), hashlib.sha256(content).hexdigest())
        for name, content in {**SMD, **NASA}.items()
    }
    for module in (benchmarks, fetch_module):
        monkeypatch.setattr(module, "official_files", lambda: official)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            name = self.path.lstrip("/")
            self.server.asked.append(name)
            content = self.server.files.get(name)
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *arguments):
            pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.files = {name.partition("/")[2]: content for name, content in SMD.items()}
    httpd.files["labeled_anomalies.csv"] = TABLE
    httpd.asked = []
    httpd.url = f"http://127.0.0.1:{httpd.server_address[1]}/"
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield httpd
    httpd.shutdown()
    httpd.server_close()


def files(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_fetch_brings_every_file_and_asks_only_once(server, tmp_path):
    assert fetch("SMD", tmp_path, base_url=server.url) == tmp_path / "SMD"
    assert files(tmp_path) == sorted(SMD)
    assert load("SMD", "machine-1-1", tmp_path).labels.sum() == 10
    assert len(server.asked) == 4
    fetch("SMD", tmp_path, base_url=server.url)
    assert len(server.asked) == 4


def test_a_file_that_is_not_the_official_one_is_not_kept(server, tmp_path):
    server.files["test/machine-1-1.txt"] += b"0"
    with pytest.raises(ValueError, match="hash"):
        fetch("SMD", tmp_path, base_url=server.url)
    assert "SMD/test/machine-1-1.txt" not in files(tmp_path)
    assert all(name in SMD for name in files(tmp_path))  # no temporary file either


def test_an_interrupted_fetch_goes_on_with_what_is_missing(server, tmp_path):
    whole = server.files.pop("test/machine-1-1.txt")
    with pytest.raises(Exception, match="404"):
        fetch("SMD", tmp_path, base_url=server.url)
    before = set(files(tmp_path))
    assert before < set(SMD)
    server.files["test/machine-1-1.txt"] = whole
    server.asked.clear()
    fetch("SMD", tmp_path, base_url=server.url)
    assert files(tmp_path) == sorted(SMD)
    assert len(server.asked) == 4 - len(before)


def test_a_file_damaged_later_is_fetched_again(server, tmp_path):
    fetch("SMD", tmp_path, base_url=server.url)
    (tmp_path / "SMD" / "train" / "machine-1-1.txt").write_bytes(b"0,0")
    fetch("SMD", tmp_path, base_url=server.url)
    assert (tmp_path / "SMD/train/machine-1-1.txt").read_bytes() == SMD["SMD/train/machine-1-1.txt"]


def archive(path, members):
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def kaggle(**changes):
    members = {
        name.replace("MSL_SMAP", "data/data"): content
        for name, content in NASA.items()
        if name.endswith(".npy")
    }
    return members | changes


def test_the_archive_is_sorted_by_spacecraft(server, tmp_path):
    path = archive(tmp_path / "nasa.zip", kaggle())
    root = tmp_path / "root"
    fetch("SMAP", root, archive=path, base_url=server.url)
    assert files(root) == ["SMAP/labeled_anomalies.csv", "SMAP/test/P-1.npy", "SMAP/train/P-1.npy"]
    assert load("SMAP", "P-1", root).labels.sum() == 3
    fetch("SMAP", root, base_url=server.url)  # complete: no archive is needed any more
    fetch("MSL", root, archive=path, base_url=server.url)
    assert load("MSL", "M-1", root).n_channels == 55


LINK = zipfile.ZipInfo("data/data/train/P-9.npy")
LINK.external_attr = 0o120777 << 16
UNSAFE = {
    "parent": {"../evil.npy": b"x"},
    "deep parent": {"data/../../evil.npy": b"x"},
    "absolute": {"/evil.npy": b"x"},
    "backslashes": {"..\\evil.npy": b"x"},
    "drive": {"C:/evil.npy": b"x"},
    "link": {LINK: b"/etc/passwd"},
}


@pytest.mark.parametrize("case", UNSAFE)
def test_an_archive_that_leads_outside_is_refused(server, tmp_path, case):
    path = archive(tmp_path / "nasa.zip", {**kaggle(), **UNSAFE[case]})
    root = tmp_path / "root"
    with pytest.raises(ArchiveError, match=r"unsafe path|holds a link"):
        fetch("SMAP", root, archive=path, base_url=server.url)
    assert files(tmp_path) == ["nasa.zip", "root/SMAP/labeled_anomalies.csv"]


def broken(path, content):
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: archive(p, {"data/data/train/P-1.npy": b"x"}), "lacks 1 arrays"),
        (lambda p: archive(p, kaggle(**{"data/data/test/P-1.npy": b"x"})), "has 1 bytes"),
        (
            lambda p: archive(
                p, kaggle(**{"data/data/test/P-1.npy": b"x" * len(NASA["MSL_SMAP/test/P-1.npy"])})
            ),
            "not the official array",
        ),
        (lambda p: broken(p, b"PK not a zip"), "not a whole zip"),
        (lambda p: broken(p, archive(p, kaggle()).read_bytes()[:-50]), "not a whole zip"),
    ],
)
def test_a_wrong_archive_leaves_no_array(server, tmp_path, make, message):
    path = make(tmp_path / "nasa.zip")
    with pytest.raises(ArchiveError, match=message):
        fetch("SMAP", tmp_path / "root", archive=path, base_url=server.url)
    assert files(tmp_path / "root") == ["SMAP/labeled_anomalies.csv"]


def flagged(path, central, local, value):
    """The archive with a byte of every member's two headers set: 8, 6 flags; 10, 8 method."""
    content = bytearray(archive(path, kaggle()).read_bytes())
    for mark, offset in ((b"PK\x01\x02", central), (b"PK\x03\x04", local)):
        at = content.find(mark)
        while at >= 0:
            content[at + offset] = value
            at = content.find(mark, at + 4)
    return broken(path, bytes(content))


def garbled(path):
    """The archive with members whose deflate stream begins with an impossible block type."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in kaggle().items():
            file.writestr(name, content)
        starts = [info.header_offset + 30 + len(info.filename) for info in file.infolist()]
    content = bytearray(path.read_bytes())
    for start in starts:
        content[start] = 0xFF
    return broken(path, bytes(content))


@pytest.mark.parametrize(
    ("fault", "make"),
    [
        ("garbled stream", garbled),
        ("password", lambda p: flagged(p, 8, 6, 1)),
        ("unknown method", lambda p: flagged(p, 10, 8, 99)),
    ],
)
def test_a_member_that_cannot_be_unpacked_is_an_archive_error(server, tmp_path, fault, make):
    path = make(tmp_path / "nasa.zip")
    with pytest.raises(ArchiveError):
        fetch("SMAP", tmp_path / "root", archive=path, base_url=server.url)
    assert files(tmp_path / "root") == ["SMAP/labeled_anomalies.csv"]


def test_a_folder_is_no_archive(server, tmp_path):
    with pytest.raises(ArchiveError, match="is a folder"):
        fetch("SMAP", tmp_path / "root", archive=tmp_path, base_url=server.url)


def test_what_fetch_needs(server, tmp_path):
    with pytest.raises(MissingDataError, match="2 of 2 arrays are missing"):
        fetch("SMAP", tmp_path, base_url=server.url)
    with pytest.raises(MissingDataError, match="no archive at"):
        fetch("SMAP", tmp_path, archive=tmp_path / "none.zip", base_url=server.url)
    with pytest.raises(ValueError, match="dataset must be one of"):
        fetch("SWaT", tmp_path)
    with pytest.raises(ValueError, match="archive is for MSL and SMAP"):
        fetch("SMD", tmp_path, archive="x.zip")


def test_an_older_label_table_is_refused_by_fetch(server, tmp_path):
    server.files["labeled_anomalies.csv"] = TABLE.replace(b"[10, 12]", b"[3, 5]")
    with pytest.raises(ValueError, match="hash"):
        fetch("SMAP", tmp_path, base_url=server.url)
    assert files(tmp_path) == []


def test_the_real_files_pass_their_hashes(data_root, tmp_path):
    """The list of hashes is the real one here: MSL from an archive of the real arrays."""
    labels = (data_root / "MSL" / "labeled_anomalies.csv").read_bytes()
    target = tmp_path / "MSL" / "labeled_anomalies.csv"
    target.parent.mkdir()
    target.write_bytes(labels)
    members = {
        f"data/data/{path.parent.name}/{path.name}": path.read_bytes()
        for path in (data_root / "MSL").glob("t*/*.npy")
    }
    fetch(
        "MSL",
        tmp_path,
        archive=archive(tmp_path / "nasa.zip", members),
        base_url="http://127.0.0.1:9",
    )
    assert len(load("MSL", "M-6", tmp_path).test) == 2049
