"""A file is whole or not there, and keeps what it was."""

import os
import stat

import pytest

from madcluster.files import whole_file


def test_a_new_file_follows_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        with whole_file(tmp_path / "new") as part:
            part.write_text("1")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640


def test_a_file_that_is_replaced_keeps_its_mode_and_its_link(tmp_path):
    (tmp_path / "real").write_text("old")
    (tmp_path / "real").chmod(0o604)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with whole_file(tmp_path / "link") as part:
        part.write_text("new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"
    assert stat.S_IMODE((tmp_path / "real").stat().st_mode) == 0o604
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "real"]


def test_an_error_leaves_what_was_there(tmp_path):
    (tmp_path / "file").write_text("old")

    def write_half():
        with whole_file(tmp_path / "file") as part:
            part.write_text("half of")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_half()
    assert (tmp_path / "file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"), whole_file(tmp_path / "nowhere" / "x"):
        pass
