"""The report on files as engineers have them: hourly or each quarter of an hour, gaps and faults."""

import os
import signal
import subprocess
import sys
import time
from functools import partial

import nbformat
import numpy as np
import pandas as pd
import pytest
from cells import run_cells
from nbclient.exceptions import DeadKernelError

from madcluster import load
from madcluster.__main__ import REPORT, main
from madcluster.detectors import Detector
from madcluster.notebooks import run_notebook, write_page


def machine(step, days, seed=0):
    """Five sensors with a daily cycle, one that never moves, and a fault in the last third; labels."""
    rng = np.random.default_rng(seed)
    index = pd.date_range("2026-01-01", periods=int(days * pd.Timedelta("24h") / step), freq=step)
    hours = (index - index[0]) / pd.Timedelta("1h")
    cycle = np.sin(2 * np.pi * np.asarray(hours)[:, None] / 24 + np.arange(5))
    noise = np.empty_like(cycle)
    noise[0] = 0
    for i, shock in enumerate(rng.normal(0, 0.1, cycle.shape)[1:], 1):
        noise[i] = 0.6 * noise[i - 1] + shock
    frame = pd.DataFrame(cycle + noise, index, columns=["load", "heat", "fan", "disk", "net"])
    frame["spare"] = 7.0
    labels = np.zeros(len(frame), dtype=int)
    at = slice(len(frame) * 4 // 5, len(frame) * 4 // 5 + 12)
    frame.iloc[at, 1] += 3
    labels[at] = 1
    return frame.rename_axis("time"), labels


def reported(tmp_path, frame, **parameters):
    """What the report says, as text, and the alarms that it wrote."""
    frame.to_csv(tmp_path / "machine.csv")
    options = {"FILES": str(tmp_path / "machine.csv"), "TIME": "time", "OUT": str(tmp_path / "out")}
    run_notebook(REPORT, tmp_path / "report.ipynb", options | parameters)
    outputs = [
        output
        for cell in nbformat.read(tmp_path / "report.ipynb", as_version=4).cells
        for output in cell.get("outputs", [])
    ]
    text = "\n".join(
        str(output.get("data", {}).get("text/markdown") or output.get("data", {}).get("text/html"))
        for output in outputs
    )
    return text, pd.read_csv(tmp_path / "out" / "alarms.csv", parse_dates=["start", "end"])


@pytest.mark.parametrize(("step", "days"), [("1h", 80), ("15min", 30)])
def test_a_machine_with_a_daily_cycle(tmp_path, step, days):
    step = pd.Timedelta(step)
    frame, labels = machine(step, days)
    frame["fault"] = labels
    gap = frame.index[len(frame) * 2 // 3 :][: pd.Timedelta("8h") // step]
    parameters = {"LABEL": "fault", "DETECTOR": "mahalanobis", "MIN_LENGTH": 1, "JOIN": 2}
    text, alarms = reported(tmp_path, frame.drop(gap), **parameters)
    assert "1; no window of a score reaches across one" in text
    assert "names 1 fault; alarms touch **1**" in text
    assert "Never moved in the normal part: `spare`" in text
    assert "**It has**" not in text
    assert "1 gap in time" in text
    fault = frame.index[labels == 1]
    hit = alarms[(alarms["start"] <= fault[-1]) & (alarms["end"] >= fault[0])]
    assert hit["reasons"].str.startswith("heat").all()
    # a budget that does not bind is no reason for one alarm without an end
    others = alarms.drop(hit.index)
    assert others["rows"].sum() < 0.1 * len(frame) / 2
    assert len(others) < 2 * days / 2
    detector = Detector.load(tmp_path / "out" / "detector.safetensors")
    assert detector.channels_ == tuple(frame.columns.drop("fault"))
    assert (
        f"to {frame.drop(gap).index[round(0.5 * len(frame.drop(gap))) - 1]}" in detector.fitted_on_
    )


def test_several_files_a_time_to_train_until_and_words_among_the_numbers(tmp_path):
    frame, _ = machine(pd.Timedelta("15min"), 20)
    text = frame.astype(object)
    text.iloc[50, 2] = "BAD"
    for name, part in (("a", text.iloc[:900]), ("b", text.iloc[900:])):
        part.to_csv(tmp_path / f"machine_{name}.csv")
    parameters = {
        "FILES": str(tmp_path / "machine_*.csv"),
        "READING": {"na_values": ["BAD"]},
        "FILL": "ffill",
        "TRAIN": "2026-01-13",
        "DETECTOR": "pca_error",
    }
    said, _ = reported(tmp_path, frame, **parameters)
    assert "2 files: machine_a.csv, machine_b.csv" in said
    assert "1,152 rows, to 2026-01-12 23:45:00" in said
    assert "1 of 11,520" in said


def test_zones_and_jitter_and_names_that_are_code(tmp_path):
    frame, _ = machine(pd.Timedelta("15min"), 20)
    rng = np.random.default_rng(1)
    late = pd.to_timedelta(rng.uniform(-30, 30, len(frame)), unit="s")
    frame.index = (frame.index + late).tz_localize("Europe/Berlin").rename("time")
    names = ["a, b", "<script>alert(1)</script>", "cost $x^$", "c_*d*", "e`f", "<b>still</b>"]
    frame.columns = names
    frame[names[2]] += np.where(np.arange(len(frame)) > 1800, 3, 0)
    text, alarms = reported(tmp_path, frame, TRAIN="2026-01-11")
    assert "one every 0 days 00:1" in text  # some seconds beside a quarter of an hour
    assert "gaps in time</th>\n      <td>none" in text
    assert "<script>alert" not in text
    assert "<b>still" not in text.replace("`<b>still</b>`", "")  # code, which is shown as it is
    assert len(alarms)
    write_page(tmp_path / "report.ipynb", tmp_path / "page.html", title="x")
    page = (tmp_path / "page.html").read_text()
    assert "<script>alert" not in page
    assert "<b>still" not in page


def test_a_wholly_changed_process_is_said(tmp_path):
    frame, _ = machine(pd.Timedelta("1h"), 80)
    frame.iloc[1000:, :5] += 30
    text, alarms = reported(tmp_path, frame, DETECTOR="pca_error", MIN_LENGTH=1)
    assert "More than a fifth of the later rows lie above" in text
    assert "**It has**" in text or "That cannot be told" in text
    assert alarms["rows"].max() > 900


def test_a_spacecraft_channel_that_raises_no_alarm(tmp_path, data_root):
    series = load("MSL", "D-15", data_root)
    frame = pd.concat([series.train_frame, series.test_frame], ignore_index=True)
    frame.index = pd.date_range("2026", periods=len(frame), freq="min", name="time")
    frame.columns = [f"c{i}" for i in range(frame.shape[1])]
    labels = np.append(np.zeros(len(series.train)), series.labels).astype(int)
    parameters = {"LABEL": "label", "TRAIN": len(series.train) / len(frame)}
    text, alarms = reported(tmp_path, frame.assign(label=labels), **parameters)
    assert "names 1 fault" in text
    if not len(alarms):
        assert "faults included" not in text
        assert "deviate most" not in text
    assert "--label" not in text  # what comes next has none


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"DETECTOR": "pca"}, "detector must be one of"),
        ({"TIME": ""}, "give TIME, or ROWS_PER_DAY"),
        ({"TRAIN": "2031-01-01"}, "leaves 480 of 480 rows before it"),
        ({"TRAIN": 50}, "50 is neither a share in"),
        ({"FILES": "none*.csv"}, r"no table at none\*\.csv"),
        ({"FILL": "zero"}, "fill must be"),
        ({"ALARMS_PER_DAY": -1}, "ALARMS_PER_DAY must not be negative"),
    ],
)
def test_a_wrong_parameter_is_named(tmp_path, parameters, message):
    frame, _ = machine(pd.Timedelta("1h"), 20)
    frame.to_csv(tmp_path / "machine.csv")
    options = {"FILES": str(tmp_path / "machine.csv"), "TIME": "time", "OUT": str(tmp_path / "out")}
    with pytest.raises((ValueError, OSError), match=message):
        run_cells(REPORT, options | parameters)
    assert not (tmp_path / "out").exists()


def test_one_command_from_a_file_to_a_page(tmp_path, capsys):
    frame, labels = machine(pd.Timedelta("1h"), 40)
    frame.assign(fault=labels).to_csv(tmp_path / "machine <1>.csv")
    command = ["report", str(tmp_path / "machine <1>.csv"), "--time", "time", "--label", "fault"]
    assert main([*command, "--detector", "mahalanobis", "--out", str(tmp_path / "out")]) == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"report.html", "detector.safetensors", "alarms.csv"}
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<title>Report on machine &lt;1&gt;.csv</title>" in page
    assert page.count("data:image/png") == 3
    assert "import numpy" not in page  # no code
    assert "http" not in page  # and nothing from elsewhere
    frame.assign(load="x").to_csv(tmp_path / "text.csv")
    command[1] = str(tmp_path / "text.csv")
    assert main([*command[:4], "--out", str(tmp_path / "other")]) == 2
    assert "row 2, column 'load' holds 'x'" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_a_kernel_that_dies_says_what_it_wrote(tmp_path, monkeypatch, capsys):
    cell = nbformat.v4.new_code_cell("import os; os.write(2, b'the last words'); os._exit(9)")
    notebook = nbformat.v4.new_notebook(cells=[cell])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "", "language": "python"}
    nbformat.write(notebook, tmp_path / "dies.ipynb")
    with pytest.raises(DeadKernelError) as caught:
        run_notebook(tmp_path / "dies.ipynb", tmp_path / "out.ipynb", {})
    assert caught.value.__notes__[0].endswith("the last words")
    monkeypatch.setattr("madcluster.__main__.REPORT", tmp_path / "dies.ipynb")
    machine(pd.Timedelta("1h"), 10)[0].to_csv(tmp_path / "machine.csv")
    out = tmp_path / "out"
    assert main(["report", str(tmp_path / "machine.csv"), "--time", "time", "--out", str(out)]) == 2
    assert "the process of the report died" in (said := capsys.readouterr().err)
    assert said.endswith("the last words\n")
    assert not out.exists()


@pytest.mark.parametrize("wait", [0.0, 0.5, 2.0])
def test_ctrl_c_ends_it_without_a_word(tmp_path, wait):
    machine(pd.Timedelta("1min"), 40)[0].to_csv(tmp_path / "machine.csv")
    command = [sys.executable, "-m", "madcluster", "report", str(tmp_path / "machine.csv")]
    command += ["--time", "time", "--out", str(tmp_path / "out"), "--detector", "nearest_neighbor"]
    (tmp_path / "tmp").mkdir()
    process = subprocess.Popen(
        command,
        env={**os.environ, "TMPDIR": str(tmp_path / "tmp"), "MADCLUSTER_PROGRESS": "0"},
        start_new_session=True,
        # where the tests run in the background, the shell has told all below it to ignore the signal
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        stderr=subprocess.PIPE,
        text=True,
    )
    while not list((tmp_path / "tmp").glob("kernel-*")) and process.poll() is None:
        time.sleep(0.01)
    time.sleep(wait)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does, to all that belongs to it
    _, said = process.communicate(timeout=60)
    assert process.returncode in (130, -signal.SIGINT)
    assert said == ""
    assert not (tmp_path / "out").exists()
