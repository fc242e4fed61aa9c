"""Tables of the book: written whole or not at all, read by name."""

import re
from pathlib import Path

import pandas as pd
import pytest

from madcluster.study.results import (
    FOLDER,
    MissingResultError,
    provenance,
    read_result,
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
