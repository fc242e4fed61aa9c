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


# --- centers and losses ---------------------------------------------------------------------------


def model_and_windows(study, variant):
    x = torch.randn(6, 32, 3, generator=torch.Generator().manual_seed(1))
    model = study.model_of("deepsvdd", study.QUESTIONS[variant], 3, seed=0)
    model.prepare([x], 0)
    return model.train(), x


@pytest.mark.parametrize(("variant", "rate"), [("paper", 1), ("center: ten times the rate", 10)])
def test_a_center_moves_at_its_rate(study, variant, rate):
    model, x = model_and_windows(study, variant)
    before = model.head.anchors().detach().clone()
    optimizer = torch.optim.Adam([model.head.centers], lr=1e-3)
    model(x).loss.backward()
    optimizer.step()
    moved = (model.head.anchors().detach() - before).abs()
    assert moved.max().item() == pytest.approx(rate * 1e-3, rel=1e-3)


def test_an_alternating_center_and_the_network_learn_in_turns(study):
    model, x = model_and_windows(study, "center: alternating")
    learned = []
    for _ in range(2 * study.EVERY):
        model.zero_grad()
        model(x).loss.backward()
        of_network = any(p.grad is not None for p in model.embedder.parameters())
        learned.append((of_network, model.head.centers.grad is not None))
    assert learned == ([(True, False)] * (study.EVERY - 1) + [(False, True)]) * 2


def test_a_center_is_placed_again_before_every_epoch(study):
    model, x = model_and_windows(study, "center: mean before every epoch")
    start = model.head.start.clone()
    with torch.no_grad():
        model.embedder.outlet.weight *= 0.5
    model.eval().prepare([x], 1)
    expected = model.embedder(x).h.flatten(0, 1).mean(0)
    torch.testing.assert_close(model.head.anchors()[0], expected, rtol=1e-4, atol=1e-6)
    assert torch.equal(model.head.start, start)
    assert not model.head.centers.requires_grad


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        ("loss: 1 - q", [0.1, 0.8]),
        ("loss: (1 - q)^2", [0.01, 0.64]),
        ("loss: cross-entropy", [-np.log(0.9), -np.log(0.8)]),
        (
            "loss: smoothed cross-entropy",
            [
                -0.99 * np.log(0.9) - 0.01 * np.log(0.1),
                -0.01 * np.log(0.2) - 0.99 * np.log(0.8),
            ],
        ),
        ("loss: constant threshold", None),
    ],
)
def test_losses_in_the_place_of_the_papers(study, variant, expected):
    head = study.StudyHead(16, study.QUESTIONS[variant])
    q = torch.tensor([0.9, 0.2], dtype=torch.float64)
    found = head._cluster(q)
    if expected is None:
        expected = study.loss.one_directed_adaptive(q, 0.5).tolist()
    assert found.tolist() == pytest.approx(expected, rel=1e-5)
    assert not head.theta.requires_grad


def test_the_questions_have_the_series_of_the_study_and_more(study, data_root, monkeypatch):
    monkeypatch.setenv("MADCLUSTER_DATA", str(data_root))
    few, many = study.series_of_the_study(), study.series_of_the_study(study.MORE_REAL)
    assert set(few) < set(many)
    assert len(many) == 13
    runs = study.questions(many)
    assert len(runs) == len({run.path(Path("x")) for run in runs}) == 13 * 3 * 2 * 13


def test_without_a_loss_the_score_is_the_distance(study):
    model, x = model_and_windows(study, "loss: none")
    found = model.head(model.embedder(x).h)
    assert found.cluster.abs().max() == 0
    assert found.distance.min() > 0
