"""The benchmark on images: its rows, and what it says of the head."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scripts import script

from madcluster.images import ImageMADCluster, aupro
from madcluster.study.results import read_result

images, embeddings = script("images"), script("images_embeddings")


def test_methods_are_the_bars_and_networks_with_and_without_the_head():
    methods = images.methods()
    assert len(methods) == 4 * 2 + 3 * 3
    for (name, variant), make in methods.items():
        detector = make(7)
        detector.check()
        assert detector.seed == 7
        if name in images.NETWORKS:
            assert (detector.network, detector.head) == (name, variant != "without")
            assert detector.score == ("embedder" if "own" in variant else "head")
        else:
            assert detector.features == variant
    assert methods["padim, shared", "random"](0).shared


def test_a_row_for_each_kind_and_one_for_all(monkeypatch):
    made = images.textures
    monkeypatch.setattr(
        images,
        "textures",
        lambda name, **options: made(
            name, **{**options, "n_train": 6, "n_good": 3, "per_kind": 1, "size": 32}
        ),
    )
    rows = images.run("brick", 0, ("center", "random"))
    assert [row["kind"] for row in rows] == [images.ALL, *images.KINDS]
    for row in rows:
        assert 0 <= row["aupro"] <= 1
        assert row["aupro_chance"] == 0.15
        assert not row["seen"]
    assert rows[0]["false_alarms"] is not None


def test_what_the_head_adds_is_paired_by_set():
    rng = np.random.default_rng(0)
    rows = [
        {"texture": t, "seed": s, "method": n, "variant": v, "kind": images.ALL}
        | {"aupro": 0.5 + s / 10 + (v == "with head") * (0.1 + 0.01 * rng.normal())}
        for t in images.TEXTURES
        for s in range(3)
        for n in images.NETWORKS
        for v in ("without", "with head")
    ]
    table = pd.DataFrame(rows)
    found = images.differences(table, "aupro")
    one = table[table["method"] == "rd4ad"].pivot_table("aupro", ["texture", "seed"], "variant")
    added = one["with head"] - one["without"]
    low, high = stats.t.interval(0.95, 8, added.mean(), added.sem())
    assert found.loc["rd4ad"].tolist() == pytest.approx([added.mean(), low, high, 9])


def test_finished_rows_are_taken_back_as_they_were_measured(monkeypatch, tmp_path):
    table = read_result("images")
    monkeypatch.setattr(images, "RUNS", tmp_path / "_runs")
    runs = ["texture", "seed", "method", "variant"]
    whole = table[table["seed"] == 0]
    images.restore(whole.drop(index=whole.index[-1]))  # the last run lacks a row
    files = sorted(images.RUNS.iterdir())
    assert len(files) == len(whole.groupby(runs)) - 1
    one = images.path_of("grass", 0, ("padim, shared", "random"))
    assert one in files
    rows = pd.DataFrame(json.loads(one.read_text()))
    mine = whole[(whole["texture"] == "grass") & (whole["method"] == "padim, shared")]
    expected = mine[mine["variant"] == "random"].reset_index(drop=True)
    assert {"commit", "machine", "versions"} <= set(rows)
    pd.testing.assert_frame_equal(rows[list(table)], expected, check_dtype=False)
    one.write_text("[]")  # measured anew: that counts
    images.restore(whole)
    assert one.read_text() == "[]"


def test_embeddings_are_judged_by_three_scores_after_three_trainings(monkeypatch):
    made = embeddings.textures
    monkeypatch.setattr(
        embeddings,
        "textures",
        lambda name, **options: made(
            name, **{**options, "n_train": 6, "n_good": 3, "per_kind": 1, "size": 32}
        ),
    )
    short = {name: {**o, "epochs": 1} for name, o in embeddings.TRAININGS.items()}
    monkeypatch.setattr(embeddings, "TRAININGS", short)
    rows = pd.DataFrame(embeddings.run("brick", 0, "rd4ad"))
    assert len(rows) == len(rows.groupby(["training", "score"])) == 9
    committed = read_result("images_embeddings")
    assert set(rows) == set(committed)
    assert len(committed) == 9 * 2 * 9
    assert (rows.loc[rows["training"] == "none", "variance_ratio"] == 1).all()
    assert (rows.loc[rows["training"] != "none", "variance_ratio"] != 1).all()
    assert (rows.groupby("training")["aupro"].nunique() == 3).all()
    wanted = made("brick", n_train=6, n_good=3, per_kind=1, size=32, difficulty=0, seed=0)
    alone = ImageMADCluster("rd4ad", head=False, epochs=1, device="cpu").fit(wanted.train)
    maps = alone.maps(wanted.test)
    own = rows[(rows["training"] == "alone") & (rows["score"] == "embedder")]
    assert own["aupro"].item() == pytest.approx(aupro(wanted.masks, maps), abs=1e-4)
