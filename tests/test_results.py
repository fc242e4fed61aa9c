"""Tables of the book: written whole or not at all, read by name."""

import re

import pandas as pd
import pytest

from madcluster.results import FOLDER, MissingResultError, provenance, read_result, write_result


def test_round_trip(tmp_path):
    frame = pd.DataFrame({"a": [1, 2], "b": ["x, y", "z"]}).assign(**provenance(["torch"]))
    path = write_result(frame, "some", folder=tmp_path / "new")
    assert path.name == "some.csv"
    pd.testing.assert_frame_equal(read_result("some", folder=tmp_path / "new"), frame)
    assert [p.name for p in path.parent.iterdir()] == ["some.csv"]
    assert re.match(r"Python 3\.\d+\.\d+, madcluster .*, torch .*, seed 0$", frame["versions"][0])


def test_a_failed_write_leaves_the_old_table(tmp_path):
    write_result(pd.DataFrame({"a": [1]}), "some", folder=tmp_path)

    class Broken(pd.DataFrame):
        def to_csv(self, file, **options):
            file.write("a\n")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_result(Broken({"a": [2]}), "some", folder=tmp_path)
    assert read_result("some", folder=tmp_path)["a"].tolist() == [1]
    assert [p.name for p in tmp_path.iterdir()] == ["some.csv"]


def test_missing_table_names_those_that_are_there(tmp_path):
    write_result(pd.DataFrame({"a": [1]}), "some", folder=tmp_path)
    with pytest.raises(MissingResultError, match=r"no table 'other'.*there are: some"):
        read_result("other", folder=tmp_path)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.csv")), ids=lambda path: path.stem)
def test_every_committed_table_says_where_its_numbers_come_from(path):
    frame = read_result(path.stem)
    assert len(frame)
    assert frame["machine"].notna().all()
    assert frame["versions"].str.contains("seed").all()
