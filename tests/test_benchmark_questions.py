"""The studies of what reviewers asked, in little."""

import json

import numpy as np
import pytest
import torch
from scripts import script

from madcluster.data import Series


@pytest.fixture(scope="module")
def study():
    script("grid")  # which it imports from its own folder
    return script("questions")


def test_regimes_are_stretches_three_standard_deviations_apart(study):
    rows = np.random.default_rng(0).normal(size=(3000, 5)) * [1, 2, 3, 4, 5]
    assert np.array_equal(study.with_regimes(rows, 1, seed=0), rows)
    moved = (study.with_regimes(rows, 3, seed=0) - rows) / rows.std(0)
    assert np.abs(moved[:500]).max() == 0
    assert np.sqrt(np.square(moved[500:1000]).mean()) == pytest.approx(3)
    assert np.ptp(moved[500:1000], axis=0).max() < 1e-9
    assert np.abs(moved[1000:1500] - moved[500:1000]).max() > 1
    np.testing.assert_allclose(moved[1500:], moved[:1500], atol=1e-9)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_components_are_counted(study, n):
    rng = np.random.default_rng(n)
    rows = rng.normal(size=(6000, 6)) + 8 * rng.normal(size=(n, 6))[np.arange(6000) // 100 % n]
    assert study.components(rows) == n


def test_what_does_not_move_has_one_component(study):
    assert study.components(np.ones((100, 3))) == 1


def test_an_own_loss_is_kept_or_replaced(study, monkeypatch):
    rng = np.random.default_rng(0)
    series = Series(
        "x", rng.normal(size=(400, 3)), rng.normal(size=(400, 3)), np.arange(400) % 300 < 5
    )
    seen = []

    class Spied(study.MADCluster):
        def fit(self, x):
            super().fit(x)
            seen.append("embedder" in self.history_.epochs[0])
            return self

    monkeypatch.setattr(study, "MADCluster", Spied)
    monkeypatch.setattr(study, "series_of", lambda *_: series)
    settings = {"epochs": 1, "stride": 20, "batch_size": 8, "options": {"width": 8}}
    monkeypatch.setattr(study, "cpu_settings", lambda *_: dict(settings))
    rows = [study.reading("x", "y", "usad", replaced, 0)[0] for replaced in (False, True)]
    assert seen == [True, False]
    assert [row["own_loss"] for row in rows] == ["kept", "replaced"]
    assert rows[0]["vus_pr"] != rows[1]["vus_pr"]


def test_every_size_of_every_kind_is_planted_as_often(study):
    plantings = list(study.plantings())
    assert len(plantings) == len(set(plantings)) == 3 * (3 * 5 + 2)
    assert {size for kind, size, _ in plantings if kind in study.UNSIZED} == {None}


@pytest.fixture
def short(study, monkeypatch):
    """A series and settings that take a second."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(3200, 3))
    series = Series("x", rows[:2200], rows[2200:], np.arange(1000) % 400 < 9)
    monkeypatch.setattr(study, "series_of", lambda *_: series)
    settings = {"epochs": 3, "stride": 20, "batch_size": 8, "options": {"d": 8}}
    monkeypatch.setattr(study, "cpu_settings", lambda *_: dict(settings))


def test_every_detector_sees_every_planting(study, short, monkeypatch):
    monkeypatch.setattr(study, "DRAWS", 1)
    assert len(study.deviation("x", "y", 1)) == 17 * 4
    rows = study.deviation("x", "y", 0)
    assert len(rows) == 17 * 6
    gaussian = {
        row["size"]: row["vus_pr"]
        for row in rows
        if row["detector"] == "mahalanobis" and row["kind"] == "offset"
    }
    assert gaussian[4.0] > gaussian[0.25]


def test_three_sigma_of_a_gaussian_by_four_meanings(study):
    h = np.random.default_rng(0).normal(size=(50_000, 6))
    shares = study.Sigmas(h, np.zeros(6)).shares(h)
    # chi squared with six degrees below 9, and with two; what is left out is Rayleigh's tail
    assert shares["per dimension"] == pytest.approx(0.8264, abs=0.006)
    assert shares["plane"] == pytest.approx(0.9889, abs=0.003)
    assert shares["distance"] == 1
    assert shares["deviation"] == pytest.approx(0.998, abs=0.002)


def test_two_meanings_of_sigma_have_a_floor_that_data_cannot_pass(study):
    rng = np.random.default_rng(1)
    for _ in range(20):
        h = rng.standard_cauchy(size=(500, 5)) ** 3
        shares = study.Sigmas(h, rng.normal(size=5)).shares(h)
        assert shares["distance"] >= 8 / 9 - 1e-4
        assert shares["plane"] >= 7 / 9 - 1e-4


def test_no_step_has_no_share(study):
    h = np.random.default_rng(0).normal(size=(100, 3))
    assert np.isnan([*study.Sigmas(h, h[0]).shares(h[:0]).values()]).all()


def test_a_training_is_watched(study, short):
    before, after = study.spread("x", "y", "deepsvdd", True, 0)
    thresholds, moved, norms = (
        json.loads(after[name]) for name in ("threshold_path", "center_path", "norm_path")
    )
    assert len(thresholds) == len(moved) == len(norms) == 3
    assert thresholds[0] == 0.5 != thresholds[-1]
    assert moved[0] == 0 < moved[-1]
    assert norms[0] != norms[-1]
    assert "threshold_path" not in before
    assert before["tail, distance"] > 0.8
    assert before["variance_ratio"] == 1 > after["variance_ratio"]
    plain = study.spread("x", "y", "deepsvdd", False, 0)
    assert [row["trained"] for row in plain] == [False, True]


def test_watching_changes_nothing(study, short):
    series, settings = study.series_of("x", "y"), study.cpu_settings("x", "deepsvdd")
    seen = study.Watching(**settings).fit(series.train).decision_function(series.test)
    plain = study.MADCluster(**settings).fit(series.train).decision_function(series.test)
    assert np.array_equal(seen, plain)


def test_a_setting_of_the_head_that_is_one_changes_nothing(study, short):
    """Up to rounding: the package keeps its threshold a millionth off the ends."""
    series, settings = study.series_of("x", "y"), study.cpu_settings("x", "deepsvdd")
    same = study.Sensitive(**settings)
    same.varied = {"weight": 1.0, "rate": 1.0, "start": "mean"}
    same = same.fit(series.train).decision_function(series.test)
    plain = study.MADCluster(**settings).fit(series.train).decision_function(series.test)
    np.testing.assert_allclose(same, plain, rtol=1e-3)


def test_every_setting_changes_the_scores(study, short):
    kept = {
        name: study.sensitivity("x", "y", name, 0)[0] for name in (*study.OF_FIT, *study.OF_HEAD)
    }
    threshold = kept["default"]["threshold"]
    assert abs(kept["rate of the threshold .1"]["threshold"] - 0.5) < abs(threshold - 0.5)
    assert abs(kept["rate of the threshold 10"]["threshold"] - 0.5) > abs(threshold - 0.5)
    found = [(row["threshold"], row["variance_ratio"]) for row in kept.values()]
    assert len(set(found)) >= len(found) - 2  # weight decay is little in three epochs


def test_random_fourier_features_are_a_gaussian_kernel(study):
    torch.manual_seed(0)
    x = torch.randn(4, 30, 3)
    features = study.RandomFourier(3, width=4.0, d=20_000)
    assert not [p for p in features.parameters() if p.requires_grad]
    h = features(x)  # (b t d)
    rows = torch.nn.functional.pad(x.mT, (9, 0), "replicate").unfold(2, 10, 1)  # (b c t 10)
    rows = rows.movedim(2, 1).flatten(2).flatten(0, 1)[:20]
    h = h.flatten(0, 1)[:20]
    products, gaps = h @ h.mT, torch.cdist(rows, rows)
    torch.testing.assert_close(products, (-gaps.square() / 32).exp(), atol=0.04, rtol=0)


def test_a_linear_map_sees_ten_rows_and_nothing_later(study):
    torch.manual_seed(0)
    x = torch.randn(1, 30, 3)
    moved = x.clone()
    moved[:, 20] += 1
    linear = study.LaggedLinear(3)
    changed = (linear(moved) != linear(x)).any(-1)[0]
    assert changed.nonzero().flatten().tolist() == list(range(20, 30))


def test_the_median_distance_is_a_length_of_the_rows(study):
    rows = np.random.default_rng(0).normal(size=(2000, 3))
    assert study.median_distance(rows) == pytest.approx(np.sqrt(2 * 30), rel=0.05)
    assert study.median_distance(3 * rows) == pytest.approx(3 * study.median_distance(rows))
    assert study.median_distance(np.ones((50, 2))) == 1


def test_methods_without_a_network_have_something_to_attach(study, short, monkeypatch):
    monkeypatch.setattr(
        study,
        "cpu_settings",
        lambda *_: {"epochs": 2, "stride": 20, "batch_size": 8, "options": {}},
    )
    for name, n in (("lagged linear", 2), ("random Fourier", 2), ("isolation forest", 1)):
        rows = study.attach("x", "y", name, 0)
        assert len(rows) == n
        assert all(0 <= row["vus_pr"] <= 1 for row in rows)


def test_a_class_of_a_table_is_learned(study):
    rows = {row["method"]: row for row in study.table("wine", 0, seed=0)}
    assert rows["deepsvdd"]["train"] == 30
    assert rows["deepsvdd"]["test"] == 178 - 30
    assert len(rows) == 7
    assert rows["mahalanobis"]["roc_auc"] > 0.9
    assert len(study.of_a_table(1)) == 4


def test_a_piece_is_done_once(study, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "RUNS", tmp_path)
    first = study.kept("a", lambda: [{"value": 1}])
    assert first[0]["value"] == 1
    assert {"commit", "machine", "versions"} <= set(first[0])
    assert study.kept("a", lambda: pytest.fail("it was there")) == first


def test_pieces_have_names_of_their_own(study, data_root, monkeypatch):
    monkeypatch.setenv("MADCLUSTER_DATA", str(data_root))
    names = [key for part in study.PARTS.values() for key, _ in part()]
    assert len(names) == len(set(names))
    assert len(list(study.readings())) == 25 * 5 * 2 * 2
    assert len(list(study.small())) == 16 * 3
    assert len(list(study.spreads())) == 12 * 10 * 2
    assert len(list(study.sensitivities())) == 25 * 14 * 3
    assert len(list(study.attached())) == 25 * 3 * 3
    assert len(list(study.tables())) == 14 * 3
    assert all(len(study.series_of(*each).train) >= 2000 for each in study.long_enough("MSL", 4))


def test_an_unknown_part_is_named(study, monkeypatch):
    monkeypatch.setattr("sys.argv", ["questions.py", "mode"])
    with pytest.raises(SystemExit, match="unknown part \\['mode'\\]: choose from regimes"):
        study.main()
