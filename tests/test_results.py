"""Tables of the book: written whole or not at all, read by name."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from madcluster.study.results import (
    FOLDER,
    MissingResultError,
    commit,
    once,
    peak_memory,
    provenance,
    read_result,
    renew_result,
    write_result,
)


def test_round_trip(tmp_path):
    frame = pd.DataFrame({"a": [1, 2], "b": ["x, y", "z"]}).assign(**provenance(["torch"]))
    path = write_result(frame, "some", folder=tmp_path / "new")
    assert path.name == "some.csv"
    pd.testing.assert_frame_equal(read_result("some", folder=tmp_path / "new"), frame)
    assert [p.name for p in path.parent.iterdir()] == ["some.csv"]
    assert re.match(r"Python 3\.\d+\.\d+, madcluster .*, torch .*, seed 0$", frame["versions"][0])


def test_a_failed_write_leaves_the_old_table(tmp_path, monkeypatch):
    write_result(pd.DataFrame({"a": [1]}), "some", folder=tmp_path)

    def full(path, content):
        with path.open("wb") as file:
            file.write(content[:1])
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match="disk full"):
            write_result(pd.DataFrame({"a": [2]}), "some", folder=tmp_path)
    assert read_result("some", folder=tmp_path)["a"].tolist() == [1]
    assert [p.name for p in tmp_path.iterdir()] == ["some.csv"]


def test_rows_that_are_renewed_take_the_place_of_the_old_ones(tmp_path):
    old = pd.DataFrame({"kind": ["a", "a", "b"], "value": [1, 2, 3], "machine": "one"})
    renew_result(old, "some", by="kind", folder=tmp_path)
    new = pd.DataFrame({"kind": ["c", "a"], "value": [5, 4], "machine": "two"})
    renew_result(new, "some", by="kind", folder=tmp_path)
    found = read_result("some", folder=tmp_path)
    assert found["kind"].tolist() == ["a", "b", "c"]
    assert found["value"].tolist() == [4, 3, 5]
    assert found["machine"].tolist() == ["two", "one", "two"]


def test_a_compressed_table_is_read_by_the_same_name_and_has_the_same_bytes(tmp_path):
    frame = pd.DataFrame({"a": [1.5, 2.5]})
    first = write_result(frame, "some", compress=True, folder=tmp_path).read_bytes()
    second = write_result(frame, "some", compress=True, folder=tmp_path)
    assert second.name == "some.csv.gz"
    assert second.read_bytes() == first
    pd.testing.assert_frame_equal(read_result("some", folder=tmp_path), frame)


def test_missing_table_names_those_that_are_there(tmp_path):
    write_result(pd.DataFrame({"a": [1]}), "some", folder=tmp_path)
    with pytest.raises(MissingResultError, match=r"no table 'other'.*there are: some"):
        read_result("other", folder=tmp_path)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.csv*")), ids=lambda path: path.name)
def test_every_committed_table_says_where_its_numbers_come_from(path):
    frame = read_result(path.name.split(".")[0])
    if "status" in frame:  # a benchmark also keeps runs that failed
        frame = frame[frame["status"] == "done"]
    assert len(frame)
    assert frame["machine"].notna().all()
    assert "seed" in frame or frame["versions"].str.contains("seed").all()


@pytest.fixture
def package(tmp_path):
    """A package in a repository."""
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "__init__.py").write_text("")

    def git(*arguments):
        author = ("-c", "user.name=a", "-c", "user.email=a@b")
        subprocess.run(["git", *author, *arguments], cwd=tmp_path, check=True, capture_output=True)

    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    return folder


def test_no_two_states_of_the_code_share_a_name(package):
    names = [commit(package)]
    assert re.fullmatch("[0-9a-f]{12}", names[0])
    for text in ("a = 1", "a = 2"):
        (package / "new.py").write_text(text)
        names.append(commit(package))
        assert re.fullmatch(f"{names[0]}[+][0-9a-f]{{12}}", names[-1])
    assert len(set(names)) == 3


def test_a_repository_around_an_installed_package_does_not_name_it(package):
    inner = package / "site-packages" / "inner"
    inner.mkdir(parents=True)
    (inner / "__init__.py").write_text("a = 1")
    first = commit(inner)
    assert re.fullmatch(r"[\d.]+[+][0-9a-f]{12}", first)
    (inner / "__pycache__").mkdir()
    (inner / "__pycache__" / "a.pyc").write_text("")
    assert commit(inner) == first
    (inner / "__init__.py").write_text("a = 2")
    assert commit(inner) != first


def test_what_was_made_once_is_read(tmp_path):
    made = []

    def make():
        made.append(1)
        return [{"a": 1, "b": None}]

    path = tmp_path / "runs" / "one.json"
    assert once(path, make) == once(path, make) == [{"a": 1, "b": None}]
    assert made == [1]
    with pytest.raises(TypeError):
        once(tmp_path / "two.json", lambda: {1, 2})
    assert not (tmp_path / "two.json").exists()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc")
def test_the_peak_is_that_of_the_process_and_not_of_its_parent():
    ballast = np.ones(300 * 2**20, dtype=np.uint8)  # bytes
    code = "from madcluster.study.results import peak_memory; print(peak_memory())"
    child = int(
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    )
    assert child < peak_memory() - 200 * 2**20
    assert peak_memory() > ballast.nbytes
