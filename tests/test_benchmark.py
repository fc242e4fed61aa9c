"""Runs, their files, and what stops them."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from joblib import parallel_config
from scripts import script
from sklearn.metrics import average_precision_score

from madcluster.detectors import PCAError
from madcluster.metrics import vus_score
from madcluster.models import EMBEDDERS
from madcluster.progress import progress
from madcluster.study import benchmark
from madcluster.study.benchmark import (
    METRICS,
    ForeignResultWarning,
    OtherCodeWarning,
    Run,
    available,
    grid,
    released_settings,
    run_all,
    run_of,
    summary,
    view_name,
    views,
)

PLANT = {"synthetic": ["plant-0", "plant-1"]}
QUICK = {"epochs": 1, "stride": 50, "window": 50, "batch_size": 32, "options": {"d": 4}}
TIMES = ["fit_seconds", "score_seconds", "wall_seconds"]


def quick(**changes):
    arguments = {"entities": PLANT, "settings": QUICK, **changes}
    return grid(["synthetic"], ["deepsvdd", "random", "pca_error"], **arguments)


def test_a_grid_is_every_combination_seed_by_seed_and_baselines_have_no_head():
    runs = quick(seeds=(0, 1))
    assert len(runs) == 2 * 2 * (2 + 1 + 1)
    assert [run.seed for run in runs] == sorted(run.seed for run in runs)
    assert not any(run.head for run in runs if run.embedder != "deepsvdd")
    assert len({run.key for run in runs}) == len(runs)
    assert runs[0].settings == QUICK
    assert runs[-1].settings == {}


def test_settings_can_depend_on_data_set_and_embedder():
    runs = quick(settings=lambda dataset, embedder: {"window": len(embedder)})
    assert runs[0].settings == {"window": len("deepsvdd")}
    assert runs[-1].settings == {}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"entities": {"synthetic": ["plant-9"]}}, "entity of synthetic must be one of.*plant-3"),
        ({"settings": {"epoch": 1}}, "unknown settings.*epoch.*epochs"),
        ({"settings": {"objective": "one-clas"}}, "objective must be one of.*soft-boundary"),
        ({"settings": {"epochs": 0}}, "epochs must be a positive integer, got 0"),
        ({"settings": {"stride": 101}}, "stride must not exceed"),
        ({"seeds": ("0",)}, "seed must be an integer"),
        ({"protocol": "fair"}, "protocol must be one of.*honest.*release"),
        ({"heads": ()}, "grid is empty"),
    ],
)
def test_wrong_values_fail_at_once_with_what_is_allowed(changes, message):
    if changes.get("heads") == ():
        with pytest.raises(ValueError, match=message):
            grid(["synthetic"], ["deepsvdd"], heads=())
        return
    with pytest.raises(ValueError, match=message):
        quick(**changes)


@pytest.mark.parametrize(
    ("datasets", "embedders", "message"),
    [
        (["MLS"], ["deepsvdd"], "dataset must be one of.*'MSL'.*got 'MLS'"),
        (["synthetic"], ["deepsvd"], "embedder must be one of.*'deepsvdd'.*got 'deepsvd'"),
    ],
)
def test_unknown_names_are_answered_with_the_known_ones(datasets, embedders, message):
    with pytest.raises(ValueError, match=message):
        grid(datasets, embedders)


def test_a_baseline_takes_no_head():
    with pytest.raises(ValueError, match="takes no head"):
        Run(dataset="synthetic", entity="plant-0", embedder="pca_error", head=True)


KEYS = {  # of runs whose files and tables are older than heads by name
    False: "synthetic_plant-0_deepsvdd_default_honest_s0_5bbdf679f489",
    True: "synthetic_plant-0_deepsvdd+head_default_honest_s0_8a59bffe6f02",
}


def test_a_head_is_a_flag_or_a_name_and_old_keys_stay():
    about = {"dataset": "synthetic", "entity": "plant-0", "embedder": "deepsvdd"}
    for flag, name in ((True, "madcluster"), (False, "none")):
        for head in (flag, name, str(flag), np.bool_(flag)):
            run = Run(**about, head=head, settings={"epochs": 3})
            assert run.head is flag
            assert run.key == KEYS[flag]
    run = Run(**about, head="contrastive", settings={"epochs": 3})
    assert run.key.startswith("synthetic_plant-0_deepsvdd+contrastive_default")
    assert len({run.key, *KEYS.values()}) == 3
    for head in ("svdd", 1, None):
        with pytest.raises(ValueError, match="head must be"):
            Run(**about, head=head)
    with pytest.raises(ValueError, match="k=2 is for the head 'madcluster'"):
        Run(**about, head="contrastive", settings={"k": 2})
    with pytest.raises(ValueError, match="takes the paper's head alone"):
        Run(**{**about, "embedder": "dcdetector_released"}, head="contrastive")


def test_runs_with_heads_by_name_go_into_a_table_and_back(tmp_path):
    runs = quick(heads=(False, True, "contrastive"), entities={"synthetic": ["plant-0"]})
    table = run_all(runs, tmp_path / "runs")
    assert set(table["status"]) == {"done"}
    table.to_csv(tmp_path / "table.csv", index=False)
    read = pd.read_csv(tmp_path / "table.csv")  # True has become text there
    assert [run_of(row) for row in read.to_dict("records")] == runs
    by_head = table[table["embedder"] == "deepsvdd"].set_index("head")
    assert by_head["certificate"].notna().tolist() == [False, False, True]
    assert (
        by_head.loc["contrastive", "certificate_limit"] > by_head.loc["contrastive", "certificate"]
    )
    assert by_head["effective_rank"].between(1, 4).all()
    assert len(summary(table)) == 5


@pytest.mark.filterwarnings("ignore::madcluster.diagnostics.CollapseWarning")
def test_an_ensemble_of_a_run_names_its_detectors():
    about = {"dataset": "synthetic", "entity": "plant-1", "embedder": "ensemble", "seed": 2}
    members = [
        {"name": "random_features", "d": 8, "n_layers": 2, "n_draws": 1},
        {"name": "deepsvdd", "head": "contrastive", "smooth": 20, **QUICK},
    ]
    run = Run(**about, settings={"detectors": members})
    assert [each.seed for each in benchmark._detector(run, 8).detectors] == [2, 2]
    row = benchmark.execute(run)
    again = benchmark.execute(run_of(row))
    assert row["VUS_PR"] == again["VUS_PR"] > row["anomalous"]
    for wrong in ([], ["pca_error"], [{"smooth": 20}]):
        with pytest.raises(ValueError, match="detectors"):
            Run(**about, settings={"detectors": wrong})


def test_a_row_holds_what_the_detector_gives():
    run = Run(dataset="synthetic", entity="plant-2", embedder="pca_error")
    series = benchmark.series_of("synthetic", "plant-2")
    scores = PCAError().fit(series.train).decision_function(series.test)
    row = benchmark.execute(run)
    assert list(row)[:6] == ["dataset", "entity", "embedder", "head", "seed", "protocol"]
    assert tuple(row)[6:17] == METRICS
    assert row["aupr"] == pytest.approx(average_precision_score(series.labels, scores), rel=1e-5)
    assert row["anomalous"] == pytest.approx(series.labels.mean(), rel=1e-5)
    assert row["parameters"] is None


SETTINGS = {
    "pca_error": {},
    "linear_autoregression": {},
    "nearest_neighbor": {"max_train": 300},
    "random": {},
    "deepsvdd": QUICK,
    "usad": {**QUICK, "stride": 10},
}


@pytest.mark.parametrize("embedder", SETTINGS)
def test_a_view_is_what_the_detector_gives_with_that_aggregate_and_smoothing(embedder):
    settings = SETTINGS[embedder]
    about = {"dataset": "synthetic", "entity": "plant-1", "embedder": embedder}
    row = benchmark.execute(Run(**about, views="all", settings=settings))
    series = benchmark.series_of("synthetic", "plant-1")
    for aggregate, smooth in (("mean", "off"), ("mean", 20), ("last", 80), ("window", "off")):
        other = {**settings, "aggregate": aggregate, "smooth": smooth}
        detector = benchmark._detector(Run(**about, settings=other), series.train.shape[1])
        scores = detector.fit(series.train).decision_function(series.test)
        for metric, value in (
            ("VUS_PR", vus_score(series.labels, scores).pr),
            ("aupr", average_precision_score(series.labels, scores)),
        ):
            assert row[view_name(metric, aggregate, smooth)] == pytest.approx(value, rel=2e-3)
    assert row["VUS_PR@mean,off"] == pytest.approx(row["VUS_PR"], rel=1e-3)


def test_the_clustering_loss_beside_a_cosine_distance():
    about = {"dataset": "synthetic", "entity": "plant-1", "embedder": "deepsvdd"}
    row = benchmark.execute(Run(**about, head=True, settings={**QUICK, "epochs": 3}))
    run = Run(**about, head=True, settings={**QUICK, "epochs": 3})
    series = benchmark.series_of("synthetic", "plant-1")
    detector = benchmark._detector(run, series.train.shape[1]).fit(series.train)
    x = torch.as_tensor(detector.scaler_.transform(series.test))
    starts = range(0, len(x) - 49, 50)
    with torch.no_grad():
        found = detector.model_.head(
            detector.model_.embedder(torch.stack([x[s : s + 50] for s in starts])).h
        )
    q, nu = found.q.flatten().double(), detector.model_.head.threshold.item()
    s = (1 - nu ** (1 - nu)) / (1 - nu)
    far = 1 - q > 1e-4
    gap = found.cluster.flatten().double()[far] / (s * (1 - q[far])) - 1
    assert row["least_q"] == pytest.approx(q.min().item(), rel=1e-4)
    assert row["below_threshold"] == pytest.approx((q < nu).double().mean().item(), rel=1e-4)
    assert row["cosine_gap"] == pytest.approx(gap.median().item(), rel=0.02, abs=1e-4)
    assert row["largest_cosine_gap"] == pytest.approx(gap.max().item(), rel=0.02, abs=1e-4)
    # −log(1 − x) lies between x and x / (1 − x), here with x = s·(1 − q)
    most = s * (1 - q.min().item())
    assert -1e-3 < row["largest_cosine_gap"] <= most / (1 - most) + 1e-3 or (q < nu).any()
    assert benchmark.execute(Run(**about, settings=QUICK))["least_q"] is None
    assert benchmark.execute(Run(**about, head=True, settings={**QUICK, "k": 2}))["least_q"] is None


def test_views_of_a_table(tmp_path):
    runs = quick(views="all", seeds=(0, 1)) + quick(views="own", variant="again")
    runs += grid(["synthetic"], ["mahalanobis"], entities=PLANT, variant="none")
    table = run_all(runs, tmp_path)
    found = views(table)
    assert found.groupby("variant").size().to_dict() == {"default": 16 * 9, "again": 8 * 3}
    one = found.query("aggregate == 'last' and smooth == '20' and embedder == 'pca_error'").iloc[0]
    where = table["embedder"].eq("pca_error") & table["entity"].eq(one["entity"])
    assert one["delay"] == table.loc[where, "delay@last,20"].iloc[0]
    again = table[table["variant"] == "again"].set_index(["embedder", "head", "entity"])["scores"]
    assert again.notna().all()
    assert run_of(table.iloc[0]) == runs[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"views": "some"}, "views must be one of"),
        ({"views": "own", "protocol": "release"}, "has no views"),
        ({"views": "all", "embedder": "ensemble"}, "views of its own aggregate alone"),
        ({"head": True, "embedder": "ensemble"}, "takes no head"),
    ],
)
def test_views_that_cannot_be(changes, message):
    about = {"dataset": "synthetic", "entity": "plant-1", "embedder": "pca_error"}
    with pytest.raises(ValueError, match=message):
        Run(**(about | changes))


def test_a_table_is_as_its_runs_and_can_be_made_again_from_any_row(tmp_path):
    runs = quick()
    table = run_all(runs, tmp_path)
    assert (table["status"] == "done").all()
    assert [run_of(row) for _, row in table.iterrows()] == runs
    again = benchmark.execute(run_of(table.iloc[2]))
    for name in METRICS:
        assert again[name] == table[name][2]
    assert table["commit"].str.len().min() > 6
    assert table["versions"].str.contains("torch").all()


def test_finished_runs_are_not_done_again(tmp_path, monkeypatch):
    first = run_all(quick(), tmp_path)

    def never(*arguments):
        raise AssertionError("ran again")

    monkeypatch.setattr(benchmark, "_attempt", never)
    pd.testing.assert_frame_equal(run_all(quick(), tmp_path), first)


def test_two_processes_give_the_rows_of_one(tmp_path):
    one = run_all(quick(), tmp_path / "one")
    two = run_all(quick(), tmp_path / "two", jobs=2)
    pd.testing.assert_frame_equal(one.drop(columns=TIMES), two.drop(columns=TIMES))


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[: len(text) // 2],
        lambda text: text.replace("0.", "1.", 1),
        lambda text: "not json at all",
        lambda text: "\x00" * 500,
    ],
    ids=["empty", "half", "altered", "foreign", "zeros"],
)
def test_damaged_files_are_reported_and_done_again(tmp_path, damage):
    run = Run(dataset="synthetic", entity="plant-0", embedder="l2_norm")
    first = run_all([run], tmp_path)
    path = tmp_path / f"{run.key}.json"
    path.write_text(damage(path.read_text()))
    with pytest.warns(ForeignResultWarning, match=r"l2_norm.*done again"):
        second = run_all([run], tmp_path)
    pd.testing.assert_frame_equal(first.drop(columns=TIMES), second.drop(columns=TIMES))


def test_a_file_of_another_run_is_not_trusted(tmp_path):
    run = Run(dataset="synthetic", entity="plant-0", embedder="l2_norm")
    other = Run(dataset="synthetic", entity="plant-1", embedder="l2_norm")
    table = run_all([run, other], tmp_path)
    (tmp_path / f"{run.key}.json").write_bytes((tmp_path / f"{other.key}.json").read_bytes())
    with pytest.warns(ForeignResultWarning, match="another run"):
        again = run_all([run, other], tmp_path)
    assert list(again["entity"]) == list(table["entity"])


def test_a_failure_is_a_failure_and_never_a_zero(tmp_path):
    broken = {**QUICK, "lr": 1e30, "scaler": "none"}
    runs = quick(settings=broken)
    told = []
    table = run_all(runs, tmp_path, report=told.append)
    failed = table[table["status"] == "failed"]
    assert set(failed["embedder"]) == {"deepsvdd"}
    assert failed["error"].str.contains("NonFiniteLossError").all()
    assert failed[list(METRICS)].isna().all().all()
    assert any("failed" in line for line in told)
    means = summary(table)
    assert ("synthetic", "pca_error", False) in means.index
    lost = means.loc[("synthetic", "deepsvdd", False)]  # counted, and without any number
    assert lost["failed"] == (~failed["head"].astype(bool)).sum()
    assert lost[list(METRICS)].isna().all()


def test_failed_runs_are_done_again_on_demand(tmp_path, monkeypatch):
    run = Run(dataset="synthetic", entity="plant-0", embedder="l2_norm")
    with monkeypatch.context() as patch:
        patch.setattr(benchmark, "execute", lambda *_: 1 / 0)
        assert run_all([run], tmp_path)["error"][0] == "ZeroDivisionError: division by zero"
    assert run_all([run], tmp_path)["status"][0] == "failed"
    assert run_all([run], tmp_path, retry=True)["status"][0] == "done"


def test_a_full_disk_loses_only_what_was_not_written(tmp_path, monkeypatch):
    runs, written = quick(), []

    def write(record, path, _write=benchmark._write):
        if len(written) == 2:
            raise OSError(28, "No space left on device")
        written.append(path)
        _write(record, path)

    with monkeypatch.context() as patch:
        patch.setattr(benchmark, "_write", write)
        with pytest.raises(OSError, match="No space"):
            run_all(runs, tmp_path)
    assert len(benchmark.collect(runs, tmp_path)) == 2
    assert len(run_all(runs, tmp_path)) == len(runs)
    assert not list(tmp_path.glob("*.part"))


def test_the_release_protocol_scores_windows_and_validates_on_the_test_split(tmp_path):
    table = run_all(quick(protocol="release"), tmp_path)
    assert (table["status"] == "done").all(), table["error"].dropna().tolist()
    honest = run_all(quick(), tmp_path)
    assert (table["f1_score"] != honest["f1_score"]).all()
    assert table["f1_train_quantile"].isna().all()


def test_the_released_wiring_is_an_embedder_by_name(tmp_path):
    options = {"d": 8, "n_layers": 1, "patch_sizes": [5]}
    settings = {**QUICK, "options": options}
    runs = grid(["synthetic"], ["dcdetector_released"], entities=PLANT, settings=settings)
    table = run_all(runs, tmp_path)
    assert (table["status"] == "done").all(), table["error"].dropna().tolist()
    assert table["distinct_scores"].min() > 2


def test_settings_reach_the_released_wiring_or_are_refused():
    about = {"dataset": "synthetic", "entity": "plant-0", "embedder": "dcdetector_released"}
    wide = {"threshold": 0.3, "label_smoothing": 0.1, "outer_log": False, "nu": 0.2}
    settings = {**QUICK, **wide, "objective": "soft-boundary"}
    settings["options"] = {"d": 8, "n_layers": 1, "patch_sizes": [5]}
    run = Run(**about, head=True, protocol="release", settings=settings)
    detector = benchmark._detector(run, 4)
    wiring = detector.embedder
    assert wiring.threshold.item() == pytest.approx(0.3)
    assert (wiring.smoothing, wiring.outer_log, wiring.nu) == (0.1, False, 0.2)
    assert (wiring.objective, detector.epochs) == ("soft-boundary", 1)
    for name, value in {"k": 3, "terms": "distance", "score_from": "head"}.items():
        with pytest.raises(ValueError, match=rf"unknown settings.*{name}.*for dcdetector_released"):
            Run(**about, head=True, settings={name: value})
    for embedder in benchmark.EMBEDDER_NAMES:
        Run(**{**about, "embedder": embedder}, settings=released_settings("MSL", embedder))


def test_the_released_wiring_repeats_itself_in_threads():
    options = {"d": 8, "n_layers": 1, "patch_sizes": [5]}
    run = grid(["synthetic"], ["dcdetector_released"], settings={**QUICK, "options": options})[0]

    def weights(_):
        return torch.cat([w.flatten() for w in benchmark._detector(run, 8).embedder.parameters()])

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(weights, range(40)))
    assert all(torch.equal(each, found[0]) for each in found)


def test_summary_is_a_mean_over_entities_of_means_over_seeds():
    rows = [
        ("a", 0, 0.1),
        ("a", 1, 0.3),
        ("b", 0, 0.6),
    ]
    table = pd.DataFrame(
        [
            {"dataset": "x", "entity": e, "embedder": "m", "head": False, "seed": s}
            | dict.fromkeys(METRICS, v)
            | {"fit_seconds": 1.0, "status": "done"}
            for e, s, v in rows
        ]
    )
    means = summary(table).iloc[0]
    assert means["VUS_PR"] == pytest.approx(0.4)
    assert (means["entities"], means["seeds"], means["failed"]) == (2, 1, 0)


def test_a_group_that_failed_completely_is_counted(tmp_path):
    settings = {"max_train": 10, "window": 3000}  # longer than the series
    runs = grid(["synthetic"], ["nearest_neighbor"], entities=PLANT, settings=settings)
    found = summary(run_all(runs + quick(), tmp_path))
    lost = found.loc[("synthetic", "nearest_neighbor", False)]
    assert (lost["entities"], lost["seeds"], lost["failed"]) == (0, 0, 2)
    assert np.isnan(lost["VUS_PR"])
    assert found["failed"].sum() == 2
    assert len(found) == 5


CHILD = """
import sys
from madcluster.study.benchmark import grid, run_all
import json
runs = grid(["synthetic"], ["deepsvdd", "random", "pca_error"], seeds=range(9),
            entities={"synthetic": ["plant-0", "plant-1"]}, settings=json.loads(sys.argv[2]))
run_all(runs, sys.argv[1], jobs=int(sys.argv[3]))
"""


def test_a_run_fills_missing_values_as_it_is_told(tmp_path):
    (tmp_path / "PSM").mkdir()
    header = "timestamp_(min)," + ",".join(f"feature_{i}" for i in range(25))
    for split in ("train", "test"):
        rows = [f"{i}.0," + ",".join([str(i % 7)] * 25) for i in range(60)]
        if split == "train":
            rows[3] = "3.0," + "," * 24
        (tmp_path / "PSM" / f"{split}.csv").write_text("\n".join([header, *rows]) + "\n")
    marks = [f"{i}.0,{int(i > 50)}" for i in range(60)]
    (tmp_path / "PSM" / "test_label.csv").write_text("\n".join(["timestamp_(min),label", *marks]))
    run = Run(dataset="PSM", entity="PSM", embedder="l2_norm", fill="zero")
    row = benchmark.execute(run, tmp_path)
    assert run_of(pd.DataFrame([row]).iloc[0]) == run
    assert benchmark.series_of("PSM", "PSM", tmp_path, fill="zero").filled == 25
    table = run_all([run, replace(run, fill=None)], tmp_path / "out", root=tmp_path)
    assert table["status"].tolist() == ["done", "failed"]
    assert "is missing" in table["error"].iloc[1]


def test_ten_kills_change_no_row(tmp_path):
    """The process group is killed at random moments; then a last call goes on to the end."""
    runs = quick(seeds=range(9))
    expected = run_all(runs, tmp_path / "whole")
    out, rng, settings = tmp_path / "killed", random.Random(0), json.dumps(QUICK)
    counts = []
    for turn in range(10):
        command = [sys.executable, "-c", CHILD, str(out), settings, "2" if turn % 2 else "1"]
        child = subprocess.Popen(
            command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        enough = len(list(out.glob("*.json"))) + rng.randint(0, 2)
        deadline = time.monotonic() + 120
        while len(list(out.glob("*.json"))) < enough:
            assert time.monotonic() < deadline
            assert child.poll() is None, "ended before it was killed"
            time.sleep(0.01)
        time.sleep(rng.random() * 0.2)
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        counts.append(len(list(out.glob("*.json"))))
    assert counts == sorted(counts)
    assert 0 < counts[-1] < len(runs)
    table = run_all(runs, out)
    pd.testing.assert_frame_equal(table.drop(columns=TIMES), expected.drop(columns=TIMES))


def test_a_worker_that_dies_costs_its_run_only(tmp_path, monkeypatch):
    """Workers that are killed are replaced; the rows are the same."""
    runs = quick(seeds=range(4))
    expected = run_all(runs, tmp_path / "whole")
    killed, told = [], []

    def write(record, path, _write=benchmark._write):
        _write(record, path)
        if len(killed) < 2 and len(list(path.parent.glob("*.json"))) % 5 == 0:
            children = subprocess.run(
                ["pgrep", "-f", "-P", str(os.getpid()), "loky"], capture_output=True, text=True
            ).stdout.split()
            os.kill(int(children[-1]), signal.SIGKILL)
            killed.append(children[-1])

    monkeypatch.setattr(benchmark, "_write", write)
    table = run_all(runs, tmp_path / "out", jobs=2, report=told.append)
    assert killed
    assert any("worker process died" in line for line in told)
    pd.testing.assert_frame_equal(table.drop(columns=TIMES), expected.drop(columns=TIMES))


def test_a_dask_cluster_gives_the_same_rows_although_a_worker_dies(tmp_path):
    distributed = pytest.importorskip("distributed")
    runs = quick(seeds=range(4))
    expected = run_all(runs, tmp_path / "whole")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as cluster:
        pids = [worker.pid for worker in cluster.workers.values()]
        killed = []

        def kill_one(line):
            if not killed:
                os.kill(pids[0], signal.SIGKILL)
                killed.append(pids[0])

        table = run_all(
            runs, tmp_path / "out", scheduler=cluster.scheduler_address, report=kill_one
        )
    assert killed
    pd.testing.assert_frame_equal(table.drop(columns=TIMES), expected.drop(columns=TIMES))


def test_a_table_can_be_gone_on_from_in_another_place(tmp_path, monkeypatch):
    runs = quick()
    table = run_all(runs, tmp_path / "here")
    table.to_csv(tmp_path / "t.csv", index=False)
    read = pd.read_csv(tmp_path / "t.csv")
    assert benchmark.restore(read, tmp_path / "there") == len(runs)
    assert benchmark.restore(read, tmp_path / "there") == 0
    monkeypatch.setattr(benchmark, "_attempt", None)
    again = run_all(runs, tmp_path / "there")
    pd.testing.assert_frame_equal(again, table, check_dtype=False)


def test_the_short_protocol_is_taken_by_every_embedder():
    for name in benchmark.EMBEDDER_NAMES:
        run = grid(["synthetic"], [name], heads=(False,), settings=benchmark.cpu_settings)[0]
        detector = benchmark._detector(run, 4)
        assert type(detector).__name__ != "MADCluster" or detector.stride <= detector.window


@pytest.mark.parametrize("jobs", [0, -1, 1.5, "2"])
def test_jobs_must_be_a_positive_integer(tmp_path, jobs):
    with pytest.raises(ValueError, match="jobs must be a positive integer"):
        run_all(quick(), tmp_path, jobs=jobs)


def test_scores_are_finite_and_settings_survive_a_file(tmp_path):
    table = run_all(quick(), tmp_path)
    table.to_csv(tmp_path / "t.csv", index=False)
    back = pd.read_csv(tmp_path / "t.csv")
    assert [run_of(row) for _, row in back.iterrows()] == quick()
    assert np.isfinite(back[list(METRICS)].to_numpy(float)).all()


def test_one_job_leaves_threads_and_environment_as_they_are(tmp_path, monkeypatch):
    monkeypatch.setenv("MADCLUSTER_PROGRESS", "1")
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        run_all(grid(["synthetic"], ["constant"]), tmp_path)
        assert torch.get_num_threads() == 2
        assert os.environ["MADCLUSTER_PROGRESS"] == "1"
        monkeypatch.delenv("MADCLUSTER_PROGRESS")
        run_all(grid(["synthetic"], ["l2_norm"]), tmp_path)
        assert "MADCLUSTER_PROGRESS" not in os.environ
    finally:
        torch.set_num_threads(before)


def test_runs_that_overlap_in_threads_leave_all_as_it_was(tmp_path, monkeypatch):
    monkeypatch.setenv("MADCLUSTER_PROGRESS", "1")
    before, filters = torch.get_num_threads(), list(warnings.filters)
    torch.set_num_threads(3)
    both, seen = threading.Barrier(2, timeout=60), []

    def execute(run, root):
        both.wait()  # two are inside
        if run.entity in ("plant-1", "plant-3"):
            time.sleep(0.05)  # the first that came leaves first
        seen.append((torch.get_num_threads(), progress([], "training").disable))
        raise ValueError("no row is needed")

    monkeypatch.setattr(benchmark, "execute", execute)
    try:
        with parallel_config(backend="threading"):
            table = run_all(grid(["synthetic"], ["constant"]), tmp_path, jobs=2)
        assert set(table["error"]) == {"ValueError: no row is needed"}
        assert seen == [(1, True)] * 4
        assert torch.get_num_threads() == 3
        with ThreadPoolExecutor(1) as pool:  # what a new thread is given
            assert pool.submit(torch.get_num_threads).result() == 3
        assert os.environ["MADCLUSTER_PROGRESS"] == "1"
        assert warnings.filters == filters
    finally:
        torch.set_num_threads(before)


def test_results_of_other_code_are_named_and_done_again_on_request(tmp_path, monkeypatch):
    runs = grid(["synthetic"], ["constant"])
    monkeypatch.setattr(benchmark, "commit", lambda: "older")
    run_all(runs, tmp_path)
    monkeypatch.setattr(benchmark, "commit", lambda: "newer")
    with pytest.warns(OtherCodeWarning, match=r"4 of 4 .*newer has made: 4 by older.*renew=True"):
        kept = run_all(runs, tmp_path)
    assert set(kept["commit"]) == {"older"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert set(run_all(runs, tmp_path, renew=True)["commit"]) == {"newer"}
        run_all(runs, tmp_path)


def test_failures_of_other_code_are_named_and_done_again_too(tmp_path, monkeypatch):
    runs = grid(["synthetic"], ["constant"])
    with monkeypatch.context() as patch:
        patch.setattr(benchmark, "commit", lambda: "older")
        patch.setattr(benchmark, "execute", lambda *_: 1 / 0)
        run_all(runs, tmp_path)
    with pytest.warns(OtherCodeWarning, match="4 by older"):
        kept = run_all(runs, tmp_path)
    assert set(kept["status"]) == {"failed"}
    assert set(kept["commit"]) == {"older"}
    assert set(run_all(runs, tmp_path, renew=True)["status"]) == {"done"}


def test_a_scheduler_without_its_package_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ImportError, match="pip install distributed"):
        run_all(quick(), tmp_path, scheduler="tcp://nowhere:1")


def test_numbers_of_numpy_in_settings_are_the_same_run():
    given = {"window": np.int64(50), "lr": np.float64(0.1), "options": {"sizes": (np.int64(5),)}}
    run = Run(dataset="synthetic", entity="plant-0", embedder="deepsvdd", settings=given)
    same = {"window": 50, "lr": 0.1, "options": {"sizes": [5]}}
    other = Run(dataset="synthetic", entity="plant-0", embedder="deepsvdd", settings=same)
    assert run == other
    assert run.key == other.key
    assert run.settings["options"] is not given["options"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"entity": "plant-9"}, "entity must be one of.*plant-3"),
        ({"embedder": "nearest_neighbor", "settings": {"window": 2.5}}, "window must be"),
        ({"embedder": "random", "seed": 2**32}, "seed must be at most"),
        ({"settings": {"options": {"d": object()}}}, "settings must be plain values"),
    ],
)
def test_a_run_that_cannot_work_is_refused_when_it_is_made(changes, message):
    with pytest.raises(ValueError, match=message):
        Run(**{"dataset": "synthetic", "entity": "plant-0", "embedder": "deepsvdd", **changes})


def test_a_data_set_that_is_not_there_is_named(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("MADCLUSTER_DATA", str(tmp_path))
    found = available(["SMD", "synthetic"])
    assert found == [("synthetic", f"plant-{i}") for i in range(4)]
    assert "without SMD" in capsys.readouterr().out


def test_the_runs_of_the_study_of_heads(monkeypatch):
    """Trained and untrained differ by training alone, and the ensemble has what it is compared with."""
    grids = script("grid")
    monkeypatch.setattr(grids, "DATASETS", ("synthetic",))
    monkeypatch.setattr(grids, "LOST", ("synthetic",))
    runs = grids.heads()
    assert len({run.key for run in runs}) == len(runs)
    assert "heads" in grids.ON_DEMAND
    found = {}
    for run in runs:
        found.setdefault((run.embedder, run.head, run.variant), []).append(run)
    for embedder in EMBEDDERS:
        trained = found[embedder, "contrastive", "default"]
        still = found[embedder, "contrastive", "untrained"]
        assert len(trained) == len(still) == 4 * 3
        for one, other in zip(trained, still, strict=True):
            assert {**one.settings, **grids.UNTRAINED} == other.settings
            assert (one.entity, one.seed) == (other.entity, other.seed)
    for head in ("innovation", "flow"):
        trained, still = (found["deepsvdd", head, name] for name in ("default", "untrained"))
        assert (len(trained), len(still)) == (4 * 3, 4)
        assert {**trained[0].settings, **grids.UNTRAINED} == still[0].settings
    auto = found["deepsvdd", "contrastive", "train=auto"]
    trained = found["deepsvdd", "contrastive", "default"]
    assert [run.settings for run in auto] == [
        {**run.settings, "train": "auto"} for run in trained if run.seed == 0
    ]
    member = found["ensemble", False, "random + contrast"][0].settings["detectors"][1]
    assert member == {
        "name": "deepsvdd",
        "head": "contrastive",
        "smooth": 20,
        **trained[0].settings,
    }
    assert all(run.views != "none" for run in runs)
    for name in grids.SERVERS:
        trained, still = (
            found["deepsvdd", "contrastive", name + end] for end in ("", ", untrained")
        )
        assert len(trained) == len(still) == 4
        assert {**trained[0].settings, **grids.UNTRAINED} == still[0].settings
        assert trained[0].settings != found["deepsvdd", "contrastive", "default"][0].settings


@pytest.mark.parametrize(
    ("given", "expected", "wrong", "message"),
    [
        (["--only", "drnn", "random"], {"drnn", "random"}, ["--only", "drn"], "unknown name"),
        (["--variant", "two"], {"kmeans"}, ["--variant", "three"], "comparison has no variant"),
    ],
)
def test_some_of_a_part_are_run_first(given, expected, wrong, message, monkeypatch, tmp_path):
    grids, seen = script("grid"), []
    monkeypatch.setenv("MADCLUSTER_DATA", str(tmp_path))
    monkeypatch.setattr(grids, "restore", lambda *_: None)
    monkeypatch.setattr(grids, "write", lambda table: seen.append(table))
    monkeypatch.setattr(grids, "run_all", lambda runs, *_, **__: seen.extend(runs))
    runs = grids.grid(["synthetic"], ["drnn", "usad", "random"])
    runs += grids.grid(["synthetic"], ["kmeans"], variant="two")
    monkeypatch.setitem(grids.PARTS, "comparison", (lambda: runs, "comparison"))
    monkeypatch.setattr("sys.argv", ["grid.py", "comparison", *given])
    grids.main()
    assert seen.pop() == "comparison"
    assert seen == [run for run in runs if run.embedder in expected]
    monkeypatch.setattr("sys.argv", ["grid.py", "comparison", *wrong])
    with pytest.raises(SystemExit, match=f"{message} \\['{wrong[1]}'\\]"):
        grids.main()
