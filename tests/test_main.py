"""The command line says what the library says, and every refusal is one line and a status."""

import io
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from madcluster import synthetic
from madcluster.__main__ import main
from madcluster.detectors import Detector, MADCluster, Mahalanobis
from madcluster.service.alarms import find_alarms

NAMES = ["inflow", "outflow", "pump", "valve"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A file of normal rows, one with faults, and a detector that the command line fitted."""
    folder = tmp_path_factory.mktemp("plant")
    plant = synthetic(n_train=900, n_test=700, n_channels=4, per_kind=1, seed=0)
    for name, rows, start in (
        ("normal", plant.train, "2026-03-01"),
        ("new", plant.test, "2026-03-02"),
    ):
        frame = pd.DataFrame(rows, columns=NAMES)
        frame.insert(0, "minute", pd.date_range(start, periods=len(frame), freq="min"))
        frame.to_csv(folder / f"{name}.csv", index=False)
    labeled = pd.read_csv(folder / "new.csv").assign(fault=plant.labels.astype(int))
    labeled.to_csv(folder / "labeled.csv", index=False)
    fit = ["fit", folder / "normal.csv", "--time", "minute", "--out", folder / "model"]
    assert run(*fit) == 0
    return folder


def run(*arguments):
    return main([str(argument) for argument in arguments])


def table(path):
    return pd.read_csv(path, index_col="minute", parse_dates=True)


def test_fit_is_fit_and_calibrate(folder):
    expected = Mahalanobis(smooth=20).fit(table(folder / "normal.csv"))
    expected.calibrate("budget", alarms_per_day=0.5, rows_per_day=1440, min_length=2, join=10)
    found = Detector.load(folder / "model")
    assert found.get_params() == expected.get_params()
    assert found.threshold_ == expected.threshold_
    assert found.channels_ == tuple(NAMES)


def test_an_embedder_and_its_arguments(folder, tmp_path, capsys):
    options = [
        "--set",
        "epochs=1",
        "--set",
        "window=20",
        "--set",
        "options={'d': 8}",
        "--seed",
        "3",
    ]
    fit = ["fit", folder / "normal.csv", "--time", "minute", "--out", tmp_path / "model"]
    assert run(*fit, "--detector", "deepsvdd", *options) == 0
    found = MADCluster.load(tmp_path / "model")
    assert (found.embedder, found.window, found.seed, found.options) == (
        "deepsvdd",
        20,
        3,
        {"d": 8},
    )
    assert "MADCluster of 900 rows from 2026-03-01 00:00:00" in capsys.readouterr().err


def test_choose_shows_its_evidence(folder, tmp_path, capsys, monkeypatch):
    few = {"pca": Mahalanobis(window=1), "gaussian": Mahalanobis(smooth=20)}
    monkeypatch.setattr("madcluster.detectors.choice.default_candidates", lambda seed: few)
    fit = ["fit", folder / "normal.csv", "--time", "minute", "--out", tmp_path / "model"]
    assert run(*fit, "--detector", "choose") == 0
    said = capsys.readouterr().err
    assert "other time" in said
    assert "is taken" in said
    assert Detector.load(tmp_path / "model").channels_ == tuple(NAMES)


def test_scores_and_alarms_are_those_of_the_detector(folder, tmp_path, capsys):
    detector = Detector.load(folder / "model")
    frame = table(folder / "new.csv")
    assert run("score", folder / "new.csv", folder / "model", "--time", "minute") == 0
    found = pd.read_csv(io.StringIO(capsys.readouterr().out), index_col="minute", parse_dates=True)
    np.testing.assert_allclose(found["score"], detector.decision_function(frame))
    assert found.index.equals(frame.index)
    options = ["--time", "minute", "--label", "fault", "--out", tmp_path / "alarms.csv"]
    assert run("alarms", folder / "labeled.csv", folder / "model", *options) == 0
    found = pd.read_csv(tmp_path / "alarms.csv", parse_dates=["start", "end", "peak"])
    expected = detector.alarms(frame, reasons=3, min_length=2, join=10)
    assert len(expected)
    pd.testing.assert_frame_equal(found, expected, check_dtype=False)


def test_standard_input_is_a_table_too(folder, capsys, monkeypatch):
    content = (folder / "new.csv").read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    assert run("score", "-", folder / "model", "--time", "minute") == 0
    assert len(capsys.readouterr().out.splitlines()) == 701
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"inflow,pump\n1,x\n")))
    assert run("score", "-", folder / "model") == 2
    assert capsys.readouterr().err.startswith("madcluster: standard input: row 2, column 'pump'")


def stream(folder, content, monkeypatch, *options):
    monkeypatch.setattr(sys, "stdin", io.StringIO(content))
    return run("stream", folder / "model", "--time", "minute", *options)


def test_a_stream_has_the_alarms_of_the_batch(folder, capsys, monkeypatch):
    assert stream(folder, (folder / "labeled.csv").read_text(), monkeypatch) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    detector = Detector.load(folder / "model")
    scores = detector.decision_function(table(folder / "new.csv"))
    expected = find_alarms(scores, detector.threshold_, min_length=2, join=10)
    ended = [event for event in events if event["event"] == "ended"]
    assert [(e["start"], e["stop"]) for e in ended] == [alarm[:2] for alarm in expected]
    assert stream(folder, (folder / "new.csv").read_text(), monkeypatch, "--scores") == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    streamed = [line["score"] for line in told if "event" not in line]
    np.testing.assert_allclose(streamed, scores)
    assert [line["row"] for line in told if "event" not in line] == list(range(700))


def test_a_missing_cell_is_held_and_a_long_gap_has_no_score(folder, capsys, monkeypatch):
    lines = (folder / "new.csv").read_text().splitlines()
    for row in (100, *range(300, 340)):
        stamp, _, rest = lines[row].split(",", 2)
        lines[row] = f"{stamp},,{rest}"
    assert stream(folder, "\n".join(lines), monkeypatch, "--scores") == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    scores = [line["score"] for line in told if "event" not in line]
    assert scores[99] is not None
    assert scores[310:339] == [None] * 29


def test_a_stream_with_a_state_goes_on(folder, tmp_path, monkeypatch):
    content = (folder / "new.csv").read_text()
    lines = content.splitlines(keepends=True)
    state = ["--state", tmp_path / "service"]
    assert stream(folder, "".join(lines[:400]), monkeypatch, *state) == 0
    assert stream(folder, content, monkeypatch, *state) == 0  # all of it again
    whole = ["--state", tmp_path / "at once"]
    assert stream(folder, content, monkeypatch, *whole) == 0
    told = [(tmp_path / name / "alarms.jsonl").read_text() for name in ("service", "at once")]
    assert told[0] == told[1] != ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["score", "{}/none.csv", "{}/model"], "no table at"),
        (["score", "{}/new.csv", "{}/none"], "there is no file"),
        (["score", "{}/new.csv", "{}/new.csv"], "is not a whole file of kind"),
        (["fit", "{}/normal.csv", "--time", "hour", "--out", "x"], "has no column 'hour'"),
        (["fit", "{}/normal.csv", "--detector", "pca", "--out", "x"], "detector must be one of"),
        (
            ["fit", "{}/normal.csv", "--detector", "choose", "--set", "n=1", "--out", "x"],
            "--set needs a --detector",
        ),
        (
            ["fit", "{}/normal.csv", "--detector", "kmeans", "--set", "k=1", "--out", "x"],
            "kmeans has no argument 'k', but window, n_clusters",
        ),
        (
            ["fit", "{}/normal.csv", "--detector", "kmeans", "--set", "k", "--out", "x"],
            "has no =",
        ),
        (
            ["alarms", "{}/new.csv", "{}/model", "--time", "minute", "--max-step", "soon"],
            "--max-step 'soon' is neither",
        ),
        (["stream", "{}/model", "--state", "x"], "--state needs --time"),
        (["score", "{}/new.csv", "{}/model"], "row 2, column 'minute' holds"),
        (["score", "{}/labeled.csv", "{}/model", "--time", "minute"], "'fault' in excess"),
        (["score", "{}/new.csv", "{}/model", "--time", "pump"], "column 'minute' holds"),
        (["score", "{}/new.csv", "{}/model", "--out", "{}"], "is no file in a folder"),
        (["score", "{}/new.csv", "{}/model", "--out", "{}/no/x"], "is no file in a folder"),
        (
            ["fit", "{}/normal.csv", "--time", "pump", "--label", "pump", "--out", "x"],
            "--time and --label name the same column",
        ),
        (["report", "{}/new.csv", "--out", "x"], "give --time, or --rows-per-day"),
        (
            ["report", "{}/new.csv", "--time", "minute", "--train-fraction", "50", "--out", "x"],
            "--train-fraction must lie in (0, 1)",
        ),
        (["report", "{}/new.csv", "--time", "minute", "--out", "{}/model"], "is a file; a report"),
        (
            ["report", "{}/new.csv", "--time", "minute", "--detector", "pca", "--out", "x"],
            "detector must be one of",
        ),
    ],
)
def test_wrong_input_is_one_line_and_status_2(folder, capsys, arguments, message, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("inflow,outflow,pump,valve\n"))
    assert run(*(argument.format(folder) for argument in arguments)) == 2
    said = capsys.readouterr()
    assert said.err.startswith("madcluster: ")
    assert message in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("minute,inflow\n", "it has no column 'outflow'"),
        ("minute,inflow,outflow,pump,valve\n2026-03-01,1,2,3\n", "row 2: it has 4 columns"),
        ("minute,inflow,outflow,pump,valve\n2026-03-01,1,2,x,4\n", "column 'pump' holds 'x'"),
        ("minute,inflow,outflow,pump,pump,valve\n", "more than one column 'pump'"),
        ("minute,inflow,outflow,pump,valve\n2026-03-01,1_0,2,3,4\n", "column 'inflow' holds '1_0'"),
        ('minute,inflow,outflow,pump,valve\n2026-03-01,1,2,3,"4\n', "row 2: it cannot be read"),
        (
            "minute,inflow,outflow,pump,valve\n2026-03-02,1,2,3,4\n2026-03-01,1,2,3,4\n",
            "row 3: rows are late",
        ),
        ("minute,inflow,outflow,pump,valve\nnoon,1,2,3,4\n", "holds 'noon', not a number or"),
    ],
)
def test_a_stream_names_the_row_that_is_wrong(folder, capsys, monkeypatch, content, message):
    assert stream(folder, content, monkeypatch) == 2
    assert message in capsys.readouterr().err


def test_rows_that_were_left_out_are_told(folder, tmp_path, capsys, monkeypatch):
    lines = (folder / "new.csv").read_text().splitlines(keepends=True)
    lines[50] = "2204-01-01 00:00:00" + lines[50][lines[50].index(",") :]
    assert stream(folder, "".join(lines), monkeypatch, "--late", "drop") == 0
    said = capsys.readouterr().err
    assert "650 rows came late and were left out; the latest time was 2204-01-01" in said


def test_what_is_odd_about_normal_rows_is_a_warning(folder, tmp_path, capsys):
    fit = ["fit", folder / "labeled.csv", "--rows-per-day", 1440, "--out", tmp_path / "model"]
    assert run(*fit, "--time", "minute", "--label", "fault") == 0
    assert "warning: " in (said := capsys.readouterr().err)
    assert "rows are labeled 1 in column 'fault', the first at 2026-03-02" in said
    seconds = pd.read_csv(folder / "normal.csv").assign(minute=np.arange(900) * 60)
    seconds.to_csv(tmp_path / "seconds.csv", index=False)
    assert run("fit", tmp_path / "seconds.csv", *fit[2:]) == 0
    assert "column 'minute' goes up by the same step" in capsys.readouterr().err


def test_help_needs_neither_torch_nor_pandas():
    code = (
        "import sys; sys.argv = ['madcluster', '--help']\n"
        "import runpy\n"
        "try: runpy.run_module('madcluster', run_name='__main__')\n"
        "except SystemExit as end: assert not end.code\n"
        "assert not {'torch', 'pandas', 'numpy', 'sklearn'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "report" in done.stdout


def test_a_reader_that_has_had_enough_is_no_error(folder):
    command = [sys.executable, "-m", "madcluster", "score", folder / "new.csv", folder / "model"]
    with subprocess.Popen(
        [*map(str, command), "--time", "minute"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait() == 0
