"""The collapse study can be stopped and started, and its committed table is whole."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scripts import script

from madcluster.study.results import read_result


@pytest.fixture(scope="module")
def study():
    return script("collapse")


def test_a_stopped_study_goes_on_where_it_was(study, tmp_path, monkeypatch):
    runs = [r for r in study.grid([("synthetic", "0")], [0], []) if r.variant == "untrained"]
    assert len(runs) == len(study.EMBEDDERS)
    calls, run = [], study.run

    def stops_at_the_second(one):
        calls.append(one)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return run(one)

    monkeypatch.setattr(study, "run", stops_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        study.run_all(runs, tmp_path, jobs=1)
    assert [p.name for p in tmp_path.iterdir()] == [runs[0].path(tmp_path).name]
    first = runs[0].path(tmp_path).read_bytes()

    assert study.run_all(runs, tmp_path, jobs=1) == 2
    assert calls[2:] == runs[1:]  # the first was not run again
    assert study.run_all(runs, tmp_path, jobs=1) == 0
    assert runs[0].path(tmp_path).read_bytes() == first
    table = study.collect(runs, tmp_path)
    assert table["embedder"].to_list() == list(study.EMBEDDERS)
    assert table["variance_ratio"].eq(1).all()


def test_a_half_written_run_is_not_a_run(study, tmp_path):
    one = study.Run("synthetic", "0", "deepsvdd", "untrained", 0)
    one.path(tmp_path).with_suffix(".1.part").write_text('{"dataset": "syn')
    assert study.run_all([one], tmp_path, jobs=1) == 1
    assert json.loads(one.path(tmp_path).read_text())["variant"] == "untrained"


def test_runs_have_files_of_their_own(study):
    runs = study.grid([("synthetic", "0"), ("MSL", "C-1")])
    assert len({run.path(Path("x")) for run in runs}) == len(runs)


def test_a_run_repeats(study):
    one = study.Run("synthetic", "0", "deepsvdd", "floor on shuffled", 0)
    first, second = (pd.Series(study.run(one)).drop("seconds") for _ in range(2))
    pd.testing.assert_series_equal(first, second)


def test_the_floor_of_the_study_is_that_of_the_package(study):
    x = torch.randn(8, 32, 3, generator=torch.Generator().manual_seed(0))
    losses = []
    for head in (
        study.StudyHead(16, study.VARIANTS["floor on log variance"]),
        study.Head(16, guard="variance-floor"),
    ):
        torch.manual_seed(0)
        model = study.WithHead(study.EMBEDDERS["deepsvdd"](3), head)
        model.prepare([x], 0)
        with torch.no_grad():
            model.embedder.outlet.weight *= 0.1
        losses.append(model.train()(x).loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_shuffled_windows_keep_values_and_lose_relations(study):
    x = torch.randn(6, 5, 4)
    mixed = study.shuffled(x)
    for channel in range(4):
        assert torch.equal(mixed[..., channel].sort(0).values, x[..., channel].sort(0).values)
        assert not torch.equal(mixed[..., channel], x[..., channel])
    window = (mixed[0, :, None] == x[:, :, None].swapaxes(0, 2)[0]).any()
    assert window  # every value comes from some window


def test_planted_events_touch_what_they_label(study):
    x = np.zeros((600, 5), dtype=np.float32)
    scale = np.array([1.0, 0, 2, 1, 1], dtype=np.float32)
    planted, labels = study.planted(x, scale, seed=0)
    touched = (planted != x).any(1)
    assert labels.sum() == 100
    assert (touched <= labels).all()
    assert touched.sum() > 90
    assert (planted[:, 1] == 0).all()  # a channel that is constant in train stays
    np.testing.assert_array_equal(study.planted(x, scale, seed=0)[0], planted)
    assert not (study.planted(x, scale, seed=1)[0] == planted).all()


def test_the_committed_table_is_the_whole_grid(study):
    table = read_result("collapse")
    series = [tuple(map(str, s)) for s in table[["dataset", "entity"]].drop_duplicates().to_numpy()]
    assert {name: sum(d == name for d, _ in series) for name in study.REAL} == study.REAL
    assert ("synthetic", "0") in series
    expected = {tuple(vars(run).values()) for run in study.grid(series)}
    keys = table[["dataset", "entity", "embedder", "variant", "seed"]]
    found = [(d, str(e), m, v, s) for d, e, m, v, s in keys.itertuples(index=False)]
    assert len(found) == len(set(found))
    assert set(found) == expected
    assert len(study.SEEDS) >= 10
    numbers = table.select_dtypes("number")
    assert np.isfinite(numbers.drop(columns="contrast")).all(axis=None)
    assert (
        Path(__file__).parents[1] / "book" / "results" / "collapse.csv"
    ).stat().st_size < 1_000_000
