"""How notebooks are executed for the book: all are tried, failures named, the unchanged kept."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import execute
import nbformat
import pytest
from execute import Kept, execute_all, finish, in_words, prepare, safe_stage

ROOT = Path(__file__).parents[1]


def notebook(path, *sources):
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), path)
    return path


@pytest.fixture
def stage(tmp_path, monkeypatch):
    monkeypatch.setenv("MADCLUSTER_CLAIMS", "strict")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("IPYTHONDIR", "")
    folder = tmp_path / "_build" / "stage"
    prepare(folder)
    return folder


@pytest.mark.parametrize("place", ["book", ".", "_build", "madcluster", "/"])
def test_a_folder_of_sources_is_never_emptied(place, capsys):
    """`python book/execute.py book` would have deleted the book."""
    with pytest.raises(SystemExit, match="a stage lies under a folder named _build"):
        safe_stage(ROOT / place)


def test_the_command_refuses_it_too():
    command = [sys.executable, str(ROOT / "book" / "execute.py"), str(ROOT / "book")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "would be emptied" in done.stderr
    assert (ROOT / "book" / "01_anomalies.ipynb").exists()


def test_all_are_tried_and_a_failure_names_its_cell(stage, tmp_path, capsys):
    sources = [
        notebook(tmp_path / "a.ipynb", "x = 1", "raise KeyError('lost')"),
        notebook(tmp_path / "b.ipynb", "import os; os._exit(3)"),
        notebook(tmp_path / "c.ipynb", "print('whole')"),
    ]
    a, b, c = execute_all(stage, sources, {}, jobs=2)
    assert a.fault.startswith("cell 1 (raise KeyError('lost') …): KeyError")
    assert "Kernel died" in b.fault
    assert c.fault == ""
    assert capsys.readouterr().out.count("FAILED") == 2


def test_a_claim_that_does_not_hold_is_a_failure(stage, tmp_path):
    said = "from madcluster.study.claims import claim"
    sources = [
        notebook(tmp_path / "a.ipynb", said, "claim('one is less than two', 1 < 2)"),
        notebook(tmp_path / "b.ipynb", said, "claim('two is less than one', 2 < 1)"),
    ]
    a, b = execute_all(stage, sources, {}, jobs=2)
    assert (a.fault, a.claims) == ("", ["one is less than two"])
    assert "ClaimError: the text says: two is less than one" in b.fault


def test_what_is_unchanged_is_kept_and_nothing_else(stage, tmp_path, monkeypatch):
    one = notebook(tmp_path / "one.ipynb", "print(1)")
    two = notebook(tmp_path / "two.ipynb", "raise ValueError")
    assert [e.kept for e in execute_all(stage, [one, two], {}, jobs=1)] == [False, False]
    again = execute_all(stage, [one, two], {}, jobs=1)
    assert [e.kept for e in again] == [True, False]  # what failed is tried again
    prepare(stage)
    assert not (stage / "book" / "one.ipynb").exists()
    assert execute_all(stage, [one], {}, jobs=1)[0].kept
    assert (stage / "book" / "one.ipynb").exists()
    assert not execute_all(stage, [one], {}, jobs=1, again=True)[0].kept
    assert not execute_all(stage, [one], {"FAST": True}, jobs=1)[0].kept
    notebook(one, "print(2)")
    assert not execute_all(stage, [one], {}, jobs=1)[0].kept
    assert execute_all(stage, [one], {}, jobs=1)[0].kept
    other = {"default": "avx2"}.get(os.environ.get("ATEN_CPU_CAPABILITY", ""), "default")
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", other)
    assert not execute_all(stage, [one], {}, jobs=1)[0].kept
    monkeypatch.setattr(execute, "read_by_notebooks", lambda: [("madcluster/loss.py", "changed")])
    assert not execute_all(stage, [one], {}, jobs=1)[0].kept


@pytest.mark.parametrize("content", ["", "{", "[]", '{"key": "k"}'])
def test_a_damaged_record_is_not_read(stage, content):
    kept = Kept(stage)
    kept.folder.mkdir()
    (kept.folder / "a.ipynb.json").write_text(content)
    assert kept.load("a.ipynb", "k", stage / "book" / "a.ipynb") is None


def test_all_that_a_notebook_may_read_counts(monkeypatch, tmp_path):
    (tmp_path / "x.npy").write_text("1")
    monkeypatch.setenv("MADCLUSTER_DATA", str(tmp_path))
    read = dict(execute.read_by_notebooks())
    for name in (
        "madcluster/loss.py",
        "madcluster/metrics/ranges.py",
        "madcluster/study/book.mplstyle",
    ):
        assert name in read
    for name in ("book/results/collapse.csv", "book/plant.py", "book/_static/plant.csv", "torch"):
        assert name in read
    before = read[str(tmp_path / "x.npy")]
    os.utime(tmp_path / "x.npy", (1, 1))
    assert dict(execute.read_by_notebooks())[str(tmp_path / "x.npy")] != before


def test_no_folder_of_a_kernel_stays(stage, tmp_path, monkeypatch):
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    for source in ("print(1)", "raise ValueError"):
        execute.execute(notebook(tmp_path / "a.ipynb", source), stage / "a.ipynb", {})
    assert list(place.glob("kernel-*")) == []


def test_claims_and_times_leave_the_page_as_they_should():
    cell = nbformat.v4.new_code_cell("glue(a=1)")
    cell.outputs = [execute.glued("a", "1"), execute.glued("claim", "so it is")]
    text = nbformat.v4.new_markdown_cell("word " * 1500)
    made = nbformat.v4.new_notebook(cells=[text, cell])
    assert finish(made, 130.0) == ["'so it is'"]
    records = {o.metadata.scrapbook.name: json.dumps(o.data) for o in cell.outputs}
    assert set(records) == {"a", "time_to_read", "time_to_run"}
    assert "10 minutes" in records["time_to_read"]
    assert "about 2 minutes" in records["time_to_run"]


def test_every_parameter_is_in_a_table_with_what_it_is(tmp_path):
    cell = nbformat.v4.new_code_cell(
        'A = [1]  # of | one\nA += ["two"]\nB = "x|y"  # what', metadata={"tags": ["parameters"]}
    )
    title = nbformat.v4.new_markdown_cell("# A title\n\nMore.")
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    for name, second in {"a": cell, "b": nbformat.v4.new_code_cell("A = 1")}.items():
        made = nbformat.v4.new_notebook(cells=[title, second], metadata=kernel)
        nbformat.write(made, tmp_path / f"{name}.ipynb")
    written = execute.parameter_tables([tmp_path / "a.ipynb", tmp_path / "b.ipynb"])
    assert written.count("## A title") == 1
    assert "| `A` | list | `[1, 'two']` | of \\| one |" in written
    assert "| `B` | str | `'x\\|y'` | what |" in written


def test_every_parameter_of_the_book_says_what_it_is():
    sources = sorted((execute.ROOT / "book").glob("*.ipynb"))
    rows = [
        line for line in execute.parameter_tables(sources).splitlines() if line.startswith("| `")
    ]
    assert len(rows) > 60
    assert [row for row in rows if row.endswith("|  |")] == []


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (1, "under a minute"),
        (61, "about a minute"),
        (100, "about 2 minutes"),
        (600, "about 10 minutes"),
    ],
)
def test_times_in_words(seconds, words):
    assert in_words(seconds) == words
