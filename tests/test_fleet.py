"""Many machines: each as if it were alone, nothing twice, nothing that failed in silence."""

import copy
import json
import os
import warnings
from functools import partial
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from madcluster.data import synthetic
from madcluster.detectors import LargestDeviation, Mahalanobis, PCAError
from madcluster.fleet import fit_fleet, fit_shared, load_fleet, split_by, tables_in
from madcluster.service.alarms import budget_threshold, find_alarms

PER_DAY = 100
BUDGET = {"alarms_per_day": 1, "rows_per_day": PER_DAY}
DETECTOR = PCAError(smooth=5)


def rows_of(seed, n=600):
    return synthetic(n_train=n, n_test=500, n_channels=4, kinds=("spike",), seed=seed).train


ROWS = {f"pump-{i}": rows_of(i) for i in range(3)}


def dated(rows, step="15min", columns="abcd"):
    index = pd.date_range("2026-03-01", periods=len(rows), freq=step, name="time")
    return pd.DataFrame(rows, index, list(columns))


def stamps(folder):
    """When each detector was written."""
    return {path.stem: path.stat().st_mtime_ns for path in folder.glob("*.safetensors")}


class Broken:
    """Rows that cannot be had."""

    def __call__(self):
        raise OSError("the disk is away")


def no_fit(self, z):
    raise AssertionError("it is fitted again")


def test_each_machine_is_as_if_it_were_alone(tmp_path):
    table = fit_fleet(ROWS, DETECTOR, tmp_path, **BUDGET)
    assert sorted(table.index) == sorted(ROWS)
    assert not hasattr(DETECTOR, "n_features_in_")
    fleet = load_fleet(tmp_path)
    assert list(fleet) == list(table.index)
    assert len(fleet) == 3
    pd.testing.assert_frame_equal(fleet.summary, table, check_index_type=False, check_dtype=False)
    for name, rows in ROWS.items():
        alone = PCAError(smooth=5).fit(rows).calibrate("budget", **BUDGET)
        row, found = table.loc[name], fleet[name]
        assert found is fleet[name]
        assert row["threshold"] == found.threshold_ == alone.threshold_
        assert row["calibrated_on"] == found.calibrated_on_ == alone.calibrated_on_
        np.testing.assert_array_equal(found.decision_function(rows), alone.decision_scores_)
        assert row[["rows", "channels", "detector"]].tolist() == [600, 4, "PCAError"]
        assert (row["promised_per_day"], row["binds"], row["fault"]) == (1, True, "")
        one, other = np.array_split(alone.calibration_scores_, 2)
        seen = len(find_alarms(one, budget_threshold(other, **BUDGET)))
        seen += len(find_alarms(other, budget_threshold(one, **BUDGET)))
        assert row["seen_per_day"] == seen * PER_DAY / 600


def test_alarms_are_counted_as_the_options_say(tmp_path):
    counting = {"join": 10, "min_length": 2, "max_share": 0.1}
    fit_fleet({"a": ROWS["pump-0"]}, DETECTOR, tmp_path, **BUDGET, **counting)
    alone = PCAError(smooth=5).fit(ROWS["pump-0"]).calibrate("budget", **BUDGET, **counting)
    assert load_fleet(tmp_path)["a"].threshold_ == alone.threshold_


def test_what_is_done_is_not_done_again(tmp_path, monkeypatch):
    first = fit_fleet(ROWS, DETECTOR, tmp_path, **BUDGET)
    before = stamps(tmp_path)
    monkeypatch.setattr(PCAError, "_fit", no_fit)
    second = fit_fleet(dict(reversed(ROWS.items())), PCAError(smooth=5), tmp_path, **BUDGET)
    pd.testing.assert_frame_equal(first.sort_index(), second.sort_index())
    assert stamps(tmp_path) == before


@pytest.mark.parametrize(
    ("changed", "anew"),
    [
        ({"detector": PCAError(smooth=6)}, 3),
        ({"detector": LargestDeviation(smooth=5)}, 3),
        ({"alarms_per_day": 2}, 3),
        ({"rows_per_day": 50}, 3),
        ({"join": 3}, 3),
        ({"machines": ROWS | {"pump-1": rows_of(1, 599)}}, 1),
        ({"machines": ROWS | {"pump-1": dated(ROWS["pump-1"])}}, 1),
        ({"alarms_per_day": 1.0}, 0),
    ],
)
def test_other_settings_or_rows_are_done_anew(tmp_path, changed, anew):
    call = {"machines": ROWS, "detector": DETECTOR, "folder": tmp_path, **BUDGET}
    fit_fleet(**call)
    before = stamps(tmp_path)
    fit_fleet(**{**call, **changed})
    after = stamps(tmp_path)
    assert sum(before[name] != after[name] for name in ROWS) == anew


def test_files_that_are_not_whole_are_made_again(tmp_path):
    first = fit_fleet(ROWS, DETECTOR, tmp_path, **BUDGET)
    half, gone = tmp_path / "pump-0.safetensors", tmp_path / "pump-1.safetensors"
    half.write_bytes(half.read_bytes()[:-8])
    gone.unlink()
    (tmp_path / "pump-2.json").write_text('{"settings": ')
    before = stamps(tmp_path)
    second = fit_fleet(ROWS, DETECTOR, tmp_path, **BUDGET)
    pd.testing.assert_frame_equal(
        first.drop(columns="seconds").sort_index(), second.drop(columns="seconds").sort_index()
    )
    assert before.items().isdisjoint(stamps(tmp_path).items())
    assert all(fleet.threshold_ for fleet in load_fleet(tmp_path).values())


def test_a_call_that_is_stopped_goes_on(tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    fitted, fit = [], PCAError.fit

    def stops_at_the_second(self, X, y=None):
        fitted.append(len(X))
        if len(fitted) == 2:
            raise Killed
        return fit(self, X, y)

    fit_fleet(ROWS, PCAError(smooth=4), tmp_path, **BUDGET)  # an older fleet
    monkeypatch.setattr(PCAError, "fit", stops_at_the_second)
    with pytest.raises(Killed):
        fit_fleet(ROWS, DETECTOR, tmp_path, **BUDGET)
    with pytest.raises(FileNotFoundError, match="was stopped, call it again"):
        load_fleet(tmp_path)  # half of it is of the older one
    fit_fleet(ROWS, DETECTOR, tmp_path, **BUDGET)
    assert len(fitted) == 4
    assert {each.smooth for each in load_fleet(tmp_path).values()} == {5}


def test_one_that_fails_is_named_and_the_others_go_on(tmp_path):
    fit_fleet(ROWS, DETECTOR, tmp_path, **BUDGET)
    broken = ROWS["pump-1"].copy()
    broken[7, 2] = np.nan
    machines = {"pump-0": ROWS["pump-0"], "pump-1": broken, "away": Broken()}
    table = fit_fleet(machines, DETECTOR, tmp_path, **BUDGET)
    assert table.index.tolist() == ["pump-1", "away", "pump-0"]  # the worst first
    assert "X holds NaN in row 7, channel 2" in table.loc["pump-1", "fault"]
    assert table.loc["away", "fault"] == "OSError: the disk is away"
    assert table.loc["pump-1", "rows"] == 600
    assert table.loc[["pump-1", "away"], "threshold"].isna().all()
    assert not (tmp_path / "pump-1.safetensors").exists()  # that of its older rows
    fleet = load_fleet(tmp_path)
    assert list(fleet) == ["pump-0"]
    with pytest.raises(KeyError, match="pump-1 has no detector: ValueError: X holds NaN"):
        fleet["pump-1"]
    with pytest.raises(KeyError, match="pump-2"):
        fleet["pump-2"]  # its file is there, but it is none of this fleet
    assert "pump-2" not in fleet
    all_fail = fit_fleet({"away": Broken()}, DETECTOR, tmp_path, **BUDGET)
    assert len(all_fail) == 1
    assert len(load_fleet(tmp_path)) == 0


def test_a_detector_that_cannot_be_saved_is_none(tmp_path, monkeypatch):
    def full(self, path):
        path.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(PCAError, "save", full)
    table = fit_fleet({"a": ROWS["pump-0"]}, DETECTOR, tmp_path, **BUDGET)
    assert table.loc["a", "fault"] == "OSError: no space left"
    assert table.loc[["a"], ["threshold", "binds"]].isna().all(axis=None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["summary.csv", "summary.html"]


def test_warnings_are_remarks_and_budgets_that_do_not_bind_come_first(tmp_path):
    glitch = ROWS["pump-0"].copy()
    glitch[5, 1] = 1e12
    few = np.repeat(np.arange(6.0), 100)[:, None] * np.ones(4)  # six different scores
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = fit_fleet(
            {"fine": ROWS["pump-1"], "glitch": glitch, "few": few},
            LargestDeviation(),
            tmp_path,
            **BUDGET,
        )
    assert table.index[0] == "few"
    assert table["binds"].to_dict() == {"few": False, "fine": True, "glitch": True}
    assert "the budget of 1 alarms a day does not bind" in table.loc["few", "remarks"]
    assert "channel 1 is 1e+12 in row 5" in table.loc["glitch", "remarks"]
    assert table.loc["fine", "remarks"] == ""
    assert load_fleet(tmp_path).summary["binds"].tolist() == table["binds"].tolist()


def test_processes_give_what_one_gives(tmp_path):
    machines = {**ROWS, "away": Broken()}
    one = fit_fleet(machines, DETECTOR, tmp_path / "1", **BUDGET)
    two = fit_fleet(machines, DETECTOR, tmp_path / "2", jobs=2, **BUDGET)
    pd.testing.assert_frame_equal(one.drop(columns="seconds"), two.drop(columns="seconds"))
    for name in ROWS:
        first, second = (load_fleet(tmp_path / folder)[name] for folder in "12")
        np.testing.assert_array_equal(first.components_, second.components_)


def threads():
    import torch

    return np.full((50, 2), os.environ["OMP_NUM_THREADS"] == "1" == str(torch.get_num_threads()))


def test_a_process_has_one_thread(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    machines = {"a": partial(threads), "b": partial(threads)}
    fit_fleet(machines, LargestDeviation(), tmp_path, jobs=2, **BUDGET)
    for each in load_fleet(tmp_path).values():
        assert each.scaler_.shift.tolist() == [1, 1]  # what a constant is


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([""], "'' is no name of a file"),
        (["a/b"], "'a/b' is no name of a file"),
        (["a\\b"], "is no name of a file"),
        ([".."], r"'\.\.' is no name of a file"),
        ([".hidden"], "is no name of a file"),
        (["a\n"], "is no name of a file"),
        (["x" * 201], "longer than 200 bytes"),
        (["Pump", "pump"], "'pump' and 'Pump' may be the same file"),
        (["pump \u00e9", "pump e\u0301"], "may be the same file"),
        ([3], r"must be text, got 3: use str\(3\)"),
    ],
)
def test_names_that_are_none_are_refused_before_anything_is_fitted(tmp_path, names, message):
    for fit in (fit_fleet, fit_shared):
        with pytest.raises(ValueError, match=message):
            fit({"fine": Broken(), **dict.fromkeys(names, Broken())}, DETECTOR, tmp_path, **BUDGET)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"machines": {}}, ValueError, "machines must be a mapping"),
        ({"machines": [ROWS["pump-0"]]}, ValueError, "machines must be a mapping"),
        ({"detector": "pca"}, ValueError, "detector must be a Detector"),
        ({"detector": PCAError(n_components=0)}, ValueError, "n_components"),
        ({"alarms_per_day": -1}, ValueError, "alarms_per_day"),
        ({"rows_per_day": 0}, ValueError, "rows_per_day"),
        ({"rows_per_day": None}, ValueError, "pump-0: rows_per_day is needed"),
        ({"jobs": 0}, ValueError, "jobs"),
        ({"max_share": 2}, ValueError, "max_share"),
        ({"joined": 2}, TypeError, "joined"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_fitted(tmp_path, arguments, error, message):
    call = {"machines": ROWS, "detector": DETECTOR, "folder": tmp_path, **BUDGET, **arguments}
    for fit in (fit_fleet, fit_shared):
        with pytest.raises(error, match=message):
            fit(**call)
    assert not any(tmp_path.iterdir())


def test_dates_say_how_many_rows_a_day_has(tmp_path):
    frame = dated(ROWS["pump-0"])
    gap = pd.concat([frame[:300], dated(ROWS["pump-0"]).shift(freq="9D")[300:]])
    machines = {"even": frame, "gap": lambda: gap, "undated": lambda: ROWS["pump-0"]}
    machines["back"] = lambda: frame.iloc[[0, 2, 1, *range(3, 600)]]
    table = fit_fleet(machines, DETECTOR, tmp_path, alarms_per_day=1)
    even = PCAError(smooth=5).fit(frame).calibrate("budget", alarms_per_day=1, rows_per_day=96)
    assert table.loc[["even", "gap"], "threshold"].tolist() == [even.threshold_] * 2
    assert load_fleet(tmp_path)["even"].channels_ == tuple("abcd")
    assert "rows_per_day is needed" in table.loc["undated", "fault"]
    assert "row 2 is of 2026-03-01 00:15:00, not later" in table.loc["back", "fault"]


def test_the_best_for_each_is_chosen(tmp_path, monkeypatch):
    from madcluster.detectors import choice

    tried = {"largest": LargestDeviation(smooth=20), "gaussian": Mahalanobis(smooth=20)}
    monkeypatch.setattr(choice, "default_candidates", lambda seed: tried)
    table = fit_fleet({"a": ROWS["pump-0"]}, "choose", tmp_path, **BUDGET)
    with pytest.warns(UserWarning, match="does not bind"):
        chosen = choice.choose(ROWS["pump-0"]).detector.calibrate("budget", **BUDGET)
    assert not table.loc["a", "binds"]
    assert table.loc["a", "detector"] == type(chosen).__name__
    assert table.loc["a", "threshold"] == chosen.threshold_


class Page(HTMLParser):
    """Rows of a table, as their classes and the texts of their cells."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.tags = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append((dict(attributes).get("class"), []))
        elif tag in ("td", "th"):
            self.rows[-1][1].append("")

    def handle_data(self, data):
        if self.rows and self.rows[-1][1]:
            self.rows[-1][1][-1] += data.strip()


def test_the_page_shows_what_the_table_says_and_runs_nothing(tmp_path):
    def evil():
        raise ValueError("<script>alert(1)</script> & more")

    machines = {"R&D 'one'": evil, "pump": ROWS["pump-0"]}
    table = fit_fleet(machines, DETECTOR, tmp_path, **BUDGET)
    text = (tmp_path / "summary.html").read_text(encoding="utf-8")
    assert "<script" not in text
    assert "Machines: 2. Without a detector, for a fault: 1 (red)." in text
    page = Page(text)
    assert not {"script", "link", "img"} & page.tags
    _, fault, fine = page.rows
    assert fault[0] == "fault"
    assert fault[1][0] == "R&D 'one'"
    assert fault[1][-2] == "ValueError: <script>alert(1)</script> & more"
    assert fine[0] == "fine"
    assert fine[1][:4] == ["pump", "600", "4", "PCAError"]
    assert float(fine[1][4]) == pytest.approx(table.loc["pump", "threshold"], rel=1e-3)


def test_a_name_that_pandas_takes_for_nothing_is_kept(tmp_path):
    fit_fleet({"NA": ROWS["pump-0"], "007": ROWS["pump-1"]}, DETECTOR, tmp_path, **BUDGET)
    assert sorted(load_fleet(tmp_path)) == ["007", "NA"]


def test_a_summary_of_something_else_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no .*summary.csv"):
        load_fleet(tmp_path)
    (tmp_path / "summary.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="is no summary of a fleet"):
        load_fleet(tmp_path)
    fit_fleet({"a": ROWS["pump-0"]}, DETECTOR, tmp_path, **BUDGET)
    path = tmp_path / "summary.csv"
    path.write_text(path.read_text().replace("\na,", "\n../a,"))
    with pytest.raises(ValueError, match=r"'\.\./a' is no name of a file"):
        load_fleet(tmp_path)


class Own(PCAError):
    """A detector that is none of the package's."""


def test_a_class_of_ones_own_is_read_by_its_own(tmp_path):
    fit_fleet({"a": ROWS["pump-0"]}, Own(), tmp_path, **BUDGET)
    with pytest.raises(ValueError, match="none of the detectors here"):
        load_fleet(tmp_path)["a"]
    assert isinstance(load_fleet(tmp_path, load=Own.load)["a"], Own)


# --- where rows come from -------------------------------------------------------------------------


def test_a_column_says_whose_rows_they_are():
    frame = dated(ROWS["pump-0"][:6]).assign(machine=[2.0, 1.0, 2.0, 2.0, 10.5, 1.0])
    found = split_by(frame, "machine")
    assert list(found) == ["2", "1", "10.5"]
    pd.testing.assert_frame_equal(found["1"], frame.iloc[[1, 5], :4], check_freq=False)
    by_text = split_by(frame.assign(machine=pd.Categorical(list("babbab"), list("abc"))), "machine")
    assert list(by_text) == ["b", "a"]
    with pytest.raises(ValueError, match="no column 'unit'; there are a, b, c, d, machine"):
        split_by(frame, "unit")
    with pytest.raises(ValueError, match="no column beside 'machine'"):
        split_by(frame[["machine"]], "machine")
    frame.iloc[3, 4] = np.nan
    with pytest.raises(ValueError, match=r"row 3 has no value in column 'machine' \(1 such"):
        split_by(frame, "machine")
    with pytest.raises(ValueError, match="two values of column 'machine' become the name '1'"):
        split_by(frame[:2].assign(machine=pd.Series([1, "1"], frame.index[:2], object)), "machine")


def test_a_folder_of_files_is_read_when_it_is_needed(tmp_path):
    files, out = tmp_path / "files [1]", tmp_path / "out"
    files.mkdir()
    for name, rows in ROWS.items():
        dated(rows).to_csv(files / f"{name}.csv", sep=";", decimal=",")
    (files / "notes.txt").write_text("no table")
    machines = tables_in(files, time="time", decimal=",")
    assert list(machines) == sorted(ROWS)
    (files / "pump-2.csv").write_text("time;a\n")
    table = fit_fleet(machines, DETECTOR, out, alarms_per_day=1, jobs=2)
    assert table.index[0] == "pump-2"
    assert "has a header and no rows" in table.loc["pump-2", "fault"]
    alone = PCAError(smooth=5).fit(dated(ROWS["pump-0"]))
    alone.calibrate("budget", alarms_per_day=1, rows_per_day=96)
    assert load_fleet(out)["pump-0"].threshold_ == pytest.approx(alone.threshold_, rel=1e-6)


def test_a_path_is_read_as_a_plain_table(tmp_path):
    path = tmp_path / "a.csv"
    pd.DataFrame(ROWS["pump-0"], columns=list("abcd")).to_csv(path, index=False)
    table = fit_fleet({"a": str(path), "b": path}, DETECTOR, tmp_path / "out", **BUDGET)
    assert table["rows"].tolist() == [600, 600]
    with pytest.raises(ValueError, match="a: rows_per_day is needed"):
        fit_fleet({"a": path}, DETECTOR, tmp_path / "out", alarms_per_day=1)


def test_patterns_that_find_nothing_or_one_name_twice_are_refused(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "pump.txt").write_text("a\n1\n")
    assert list(tables_in(tmp_path / "one" / "*.txt")) == ["pump"]
    with pytest.raises(FileNotFoundError, match="no table at"):
        tables_in(tmp_path / "one")
    for name in ("pump-10", "pump-2", "pump[1]", "pump1"):
        (tmp_path / "one" / f"{name}.csv").write_text("a\n1\n")
    assert list(tables_in(tmp_path / "one" / "pump-*.csv")) == ["pump-2", "pump-10"]
    assert list(tables_in(tmp_path / "one" / "pump[1].csv")) == ["pump[1]"]  # no pattern
    with pytest.raises(ValueError, match="two files have the name 'pump'"):
        tables_in(tmp_path / "*" / "*.txt")
    with pytest.raises(TypeError, match="tim"):
        tables_in(tmp_path / "one" / "*.txt", tim="time")
    with pytest.raises(TypeError, match="label is for rows that are not all normal"):
        tables_in(tmp_path / "one" / "*.txt", label="fault")


# --- one model for all ----------------------------------------------------------------------------


def test_a_shared_model_is_what_one_makes_by_hand(tmp_path):
    machines = {name: rows[: 600 - 8 * i] for i, (name, rows) in enumerate(ROWS.items())}
    table = fit_shared(machines, Mahalanobis(window=3), tmp_path, **BUDGET)
    model = Mahalanobis(window=3).fit(
        np.concatenate([rows[: len(rows) * 3 // 4] for rows in machines.values()])
    )
    start = 0
    for name, rows in machines.items():
        cut = len(rows) * 3 // 4
        mine = copy.deepcopy(model).calibrate("budget", on=rows[cut:], **BUDGET)
        found = load_fleet(tmp_path)[name]
        assert found.threshold_ == mine.threshold_ == table.loc[name, "threshold"]
        assert found.calibrated_on_ == table.loc[name, "calibrated_on"] == mine.calibrated_on_
        np.testing.assert_array_equal(found.calibration_scores_, mine.calibration_scores_)
        np.testing.assert_array_equal(found.decision_function(rows), model.decision_function(rows))
        np.testing.assert_array_equal(
            found.decision_scores_, model.decision_scores_[start : start + cut]
        )
        start += cut
    assert len({each.threshold_ for each in load_fleet(tmp_path).values()}) == 3


def test_a_shared_model_is_fitted_once(tmp_path, monkeypatch):
    frames = {name: dated(rows) for name, rows in ROWS.items()}
    first = fit_shared(frames, DETECTOR, tmp_path, alarms_per_day=1)
    assert load_fleet(tmp_path)["pump-1"].channels_ == tuple("abcd")
    assert "to 2026-03-07 05:45:00" in first.loc["pump-1", "calibrated_on"]
    (tmp_path / "pump-1.safetensors").unlink()
    before = stamps(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(PCAError, "_fit", no_fit)
        second = fit_shared(frames, DETECTOR, tmp_path, alarms_per_day=1)
    drop = {"columns": "seconds"}
    pd.testing.assert_frame_equal(first.drop(**drop), second.drop(**drop))
    assert before.items() < stamps(tmp_path).items()
    frames["pump-2"] = frames["pump-2"][:590]
    fit_shared(frames, DETECTOR, tmp_path, alarms_per_day=1)
    assert before.items().isdisjoint(stamps(tmp_path).items())


def test_own_and_shared_are_not_taken_for_each_other(tmp_path):
    one = {"a": ROWS["pump-0"]}
    own = fit_fleet(one, DETECTOR, tmp_path, **BUDGET)
    shared = fit_shared(one, DETECTOR, tmp_path, **BUDGET)
    assert own.loc["a", "calibrated_on"] != shared.loc["a", "calibrated_on"]
    assert (
        json.loads((tmp_path / "a.json").read_text())["summary"]["calibrated_on"][:8] == "150 rows"
    )


def test_a_machine_that_cannot_be_read_is_no_part_of_the_model(tmp_path):
    broken = ROWS["pump-1"].copy()
    broken[7, 2] = np.nan
    machines = {"away": Broken(), "flat": np.zeros(9), "nan": broken, **ROWS}
    table = fit_shared(machines, DETECTOR, tmp_path / "1", **BUDGET)
    without = fit_shared(ROWS, DETECTOR, tmp_path / "2", **BUDGET)
    assert table.index[:3].tolist() == ["away", "flat", "nan"]
    assert table.loc["away", "fault"] == "OSError: the disk is away"
    assert "X must be 2-D" in table.loc["flat", "fault"]
    assert "X holds NaN in row 7, channel 2" in table.loc["nan", "fault"]
    assert table["threshold"][3:].equals(without["threshold"])
    with pytest.raises(
        ValueError, match=r"no machine has rows to learn from: \{'away': 'OSError: the disk"
    ):
        fit_shared({"away": Broken()}, DETECTOR, tmp_path, **BUDGET)


def test_machines_of_other_kinds_share_nothing(tmp_path):
    frame = dated(ROWS["pump-0"])
    for other, message in (
        (
            frame.rename(columns={"d": "e"}),
            "pump has other channels than first: pump has e; first has d",
        ),
        (frame.drop(columns="b"), "pump has other channels than first: first has b;"),
        (frame[list("abdc")], "pump has other channels than first: their order;"),
        (frame.to_numpy(), r"pump has \[0\], \[1\], \[2\], \[3\]; first has a, b, c, d"),
    ):
        machines = {"first": frame, "same": frame, "pump": other}
        with pytest.raises(ValueError, match=message):
            fit_shared(machines, DETECTOR, tmp_path, **BUDGET)
    with pytest.raises(ValueError, match="got 'choose'; choose one by the rows of a machine"):
        fit_shared(ROWS, "choose", tmp_path, **BUDGET)
    assert not any(tmp_path.iterdir())
