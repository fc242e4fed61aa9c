"""A file is whole or not there, and keeps what it was."""

import os
import signal
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from madcluster.files import locked, whole_file


def test_a_new_file_follows_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        with whole_file(tmp_path / "new") as part:
            part.write_text("1")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640


def test_a_block_that_puts_a_file_of_its_own_there_gives_it_no_other_mode(tmp_path):
    before = os.umask(0o022)
    try:
        with whole_file(tmp_path / "new") as part:
            (tmp_path / "own").write_text("1")
            (tmp_path / "own").chmod(0o600)  # as tempfile does, and safetensors
            (tmp_path / "own").replace(part)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o644


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
    path = tmp_path / "nowhere" / "x"
    with pytest.raises(FileNotFoundError, match="there is no folder for it") as error:
        whole_file(path).__enter__()
    assert error.value.filename == str(path)
    assert ".part" not in str(error.value)


@pytest.mark.parametrize("linked", [False, True])
def test_a_folder_is_no_file_to_write(tmp_path, linked):
    path = tmp_path / "folder"
    path.mkdir()
    if linked:
        path = tmp_path / "link"
        path.symlink_to(tmp_path / "folder")
    with pytest.raises(IsADirectoryError, match="give another name") as error:
        whole_file(path).__enter__()
    assert error.value.filename == str(path)
    assert list((tmp_path / "folder").iterdir()) == []
    assert not list(tmp_path.glob(".*"))


def test_whatever_hinders_a_file_is_said_of_the_file(tmp_path):
    (tmp_path / "file").write_text("1")
    with pytest.raises(NotADirectoryError) as error:
        whole_file(tmp_path / "file" / "x").__enter__()
    assert error.value.filename == str(tmp_path / "file" / "x")


KILLED = """
import os, signal, sys
from madcluster.files import whole_file
with whole_file(sys.argv[1]) as part:
    part.write_text("half of")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_has_left_is_swept(tmp_path):
    for name in ("a[1]", "b"):
        process = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / name)])
        assert process.returncode == -signal.SIGKILL
    with whole_file(tmp_path / "a[1]") as part:
        part.write_text("whole")
    (orphan,) = tmp_path.glob(".*.part")  # until b is written
    assert orphan.name.startswith(".b.")


def test_what_another_is_writing_is_not_swept(tmp_path):
    def write(number):
        with whole_file(tmp_path / "file") as part:
            part.write_text(f"{number}")

    with whole_file(tmp_path / "file") as part:
        with ThreadPoolExecutor(4) as pool:
            assert len(list(pool.map(write, range(100)))) == 100
        part.write_text("last")
    assert (tmp_path / "file").read_text() == "last"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_nobody_comes_between_what_is_read_and_what_is_written(tmp_path):
    (tmp_path / "count").write_text("0")

    def count_on(_):
        with locked(tmp_path / "lock"):
            found = int((tmp_path / "count").read_text())
            time.sleep(1e-4)
            (tmp_path / "count").write_text(f"{found + 1}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(count_on, range(100)))
    assert (tmp_path / "count").read_text() == "100"


def test_a_lock_ends_with_its_block_and_leaves_what_is_in_its_file(tmp_path):
    (tmp_path / "lock").write_text("kept")
    with pytest.raises(OSError, match="disk full"), locked(tmp_path / "lock"):
        raise OSError("disk full")
    with locked(tmp_path / "lock"):
        assert (tmp_path / "lock").read_text() == "kept"


LOCKED = """
import sys, time
from madcluster.files import locked
with locked(sys.argv[1]):
    print("in", flush=True)
    time.sleep(60)
"""


def test_a_lock_ends_with_its_process(tmp_path):
    code = [sys.executable, "-c", LOCKED, str(tmp_path / "lock")]
    with subprocess.Popen(code, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "in\n"
        with ThreadPoolExecutor(1) as pool:

            def wait():
                with locked(tmp_path / "lock"):
                    return process.poll() is not None or time.monotonic()

            waiting = pool.submit(wait)
            time.sleep(0.1)
            assert not waiting.done()
            killed = time.monotonic()
            process.kill()
            found = waiting.result(timeout=30)
            assert found is True or found >= killed
