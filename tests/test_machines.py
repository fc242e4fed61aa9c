"""The table of other processors: what is run for it, and how its outcome is read."""

import sys

import machines
import pytest


@pytest.fixture
def recorded(monkeypatch, tmp_path):
    """Commands in place of a book: a script prints what `execute.py` and pytest would."""

    def script(text, code):
        path = tmp_path / "script.py"
        path.write_text(f"import sys\nprint({text!r})\nsys.exit({code})\n")
        (tmp_path / "book").mkdir(exist_ok=True)
        (tmp_path / "book" / "execute.py").write_text(path.read_text())
        monkeypatch.setattr(machines, "ROOT", tmp_path)
        return path

    return script


def test_a_machine_is_its_variables_and_nothing_of_another(monkeypatch):
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx512")
    monkeypatch.setenv("MADCLUSTER_DATA", "somewhere")
    own, plain = machines.environment("own"), machines.environment("default, 2 threads")
    assert "ATEN_CPU_CAPABILITY" not in own
    assert (own["OMP_NUM_THREADS"], plain["OMP_NUM_THREADS"]) == ("1", "2")
    assert plain["ATEN_CPU_CAPABILITY"] == "default"
    assert own["MADCLUSTER_DATA"] == plain["MADCLUSTER_DATA"] == "somewhere"


def test_torch_obeys():
    assert machines.capability("default") == "DEFAULT"


def test_notebooks_are_read_from_what_the_execution_prints(recorded, capsys):
    recorded(
        "[1/2 after    9 s]    8.6 s  01_a.ipynb\n[2/2 after   19 s]    9.6 s  FAILED 02_b.ipynb", 1
    )
    assert machines.notebooks("own", [""], 2) == {"01_a.ipynb": "9 s", "02_b.ipynb": "failed"}
    assert "own: [1/2" in capsys.readouterr().out


def test_an_execution_that_never_began_is_a_failure(recorded):
    recorded("nothing", 1)
    assert machines.notebooks("own", [""], 2) == {"notebooks": "failed"}


@pytest.mark.parametrize(
    ("argv", "message"),
    [(["--machine", "pentium"], "invalid choice"), (["--jobs", "many"], "invalid int")],
)
def test_arguments_are_checked(argv, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["machines.py", *argv])
    with pytest.raises(SystemExit):
        machines.main()
    assert message in capsys.readouterr().err


def test_a_failure_ends_the_command_and_stands_in_the_table(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(machines, "OUT", tmp_path / "machines")
    monkeypatch.setattr(machines, "capability", lambda machine: "AVX2")
    monkeypatch.setattr(machines, "notebooks", lambda machine, only, jobs: {"01": "3 s"})
    monkeypatch.setattr(machines, "tests", lambda machine, jobs: f"{jobs} passed")
    monkeypatch.setattr(sys, "argv", ["machines.py", "--machine", "own", "own, 2 threads"])
    machines.main()
    assert "own, 2 threads" in capsys.readouterr().out
    # threads take the place of processes
    assert "tests,2 passed,1 passed" in (tmp_path / "machines.csv").read_text()
    monkeypatch.setattr(machines, "notebooks", lambda machine, only, jobs: {"01": "failed"})
    with pytest.raises(SystemExit, match="2 failed"):
        machines.main()
