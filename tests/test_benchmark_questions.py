"""The studies of what reviewers asked, in little."""

import numpy as np
import pytest
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
    rows = [study.reading("x", "y", "usad", replaced)[0] for replaced in (False, True)]
    assert seen == [True, False]
    assert [row["own_loss"] for row in rows] == ["kept", "replaced"]
    assert rows[0]["vus_pr"] != rows[1]["vus_pr"]


def test_every_size_of_every_kind_is_planted_as_often(study):
    plantings = list(study.plantings())
    assert len(plantings) == len(set(plantings)) == 3 * (3 * 5 + 2)
    assert {size for kind, size, _ in plantings if kind in study.UNSIZED} == {None}


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
    assert len(list(study.readings())) == 25 * 5 * 2
    assert len(list(study.small())) == 16
    assert all(len(study.series_of(*each).train) >= 2000 for each in study.long_enough("MSL", 4))


def test_an_unknown_part_is_named(study, monkeypatch):
    monkeypatch.setattr("sys.argv", ["questions.py", "mode"])
    with pytest.raises(SystemExit, match="unknown part \\['mode'\\]: choose from readings"):
        study.main()
