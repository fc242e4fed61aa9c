"""The released protocol and wiring, and the evidence for what the book says of the released code.

The released code itself is not run here: what it computes is written out where it matters, and the rest
are facts about its files.
"""

import csv
import json
import math
import pkgutil
import re
from importlib.util import find_spec
from inspect import signature
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score
from torch import nn
from vus.metrics import get_metrics

from madcluster import MADCluster, loss, metrics, synthetic
from madcluster.data import entities, load
from madcluster.heads import Head, check_embedder
from madcluster.models import Embedder, Embedding
from madcluster.study.as_released import (
    ReleasedWiring,
    clustering_loss,
    evaluate,
    results_table,
    window_labels,
    window_scores,
)
from madcluster.study.benchmark import execute, grid

WINDOW = 20
RANGED = ("R_AUC_ROC", "R_AUC_PR", "VUS_ROC", "VUS_PR")
AFFILIATION = ("Affiliation_Precision", "Affiliation_Recall")


class FirstChannel(Embedder):
    """The score of a step is its first value."""

    d = 1

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, x):
        return Embedding(x, score=x[..., 0] * self.weight)


def batch(b=6, t=WINDOW, c=3, seed=1):
    return torch.randn(b, t, c, generator=torch.Generator().manual_seed(seed))


def wiring(c=3, **options):
    torch.manual_seed(0)
    return ReleasedWiring(c, **{"window": WINDOW, "d": 8, "n_layers": 2, **options})


def rows(n=1500, seed=0):
    """Labels (n,) of a few events, and scores per window of 50 that know something of them."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(n, dtype=bool)
    for start in rng.integers(100, n - 100, 5):
        labels[start : start + rng.integers(1, 60)] = True
    scores = window_labels(labels, 50) + rng.normal(0, 1, n - 49)
    return labels, scores


# --- the protocol ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "window", "expected"),
    [
        ([0, 0, 0, 1, 0, 0], 3, [0, 1, 1, 1]),
        ([1, 0, 0, 0, 0, 1], 2, [1, 0, 0, 0, 1]),
        ([0, 1, 0], 1, [0, 1, 0]),
        ([0, 0, 1], 3, [1]),
        ([0, 0, 0], 2, [0, 0]),
    ],
)
def test_window_labels_by_hand(labels, window, expected):
    assert window_labels(labels, window).tolist() == [bool(value) for value in expected]


def test_window_scores_are_means_at_the_first_step():
    x = np.array([[1.0, 9], [2, 9], [6, 9], [4, 9], [5, 9], [0, 9], [7, 9]])
    every = window_scores(FirstChannel(), x, window=3, batch_size=2)
    np.testing.assert_allclose(every, [3, 4, 5, 3, 4])
    held = window_scores(FirstChannel(), x, window=3, stride=2, batch_size=2)
    np.testing.assert_allclose(held, [3, 3, 5, 5, 4])
    np.testing.assert_allclose(window_scores(FirstChannel(), x, window=3, stride=9), [3] * 5)
    assert window_scores(FirstChannel(), x, window=7).tolist() == [25 / 7]


def as_released(labels, scores, window):
    """scikit-learn and `vus` 0.0.6, called as the released solver calls them."""
    truth = window_labels(labels, window).astype(np.float32)
    precision, recall, thresholds = precision_recall_curve(truth, scores)
    f1 = [2 * p * r / (p + r) if p + r else 0.0 for p, r in zip(precision, recall, strict=True)]
    best = int(np.argmax(f1))
    found = get_metrics((scores > thresholds[best]).astype(int), truth, slidingWindow=window)
    return [
        *(precision[best], recall[best], f1[best]),
        *(average_precision_score(truth, scores), roc_auc_score(truth, scores)),
        *(found[name] for name in RANGED + AFFILIATION),
    ]


@pytest.mark.parametrize("seed", range(6))
def test_evaluate_is_what_the_released_calls_give(seed, recwarn):
    labels, scores = rows(seed=seed)
    if seed > 2:
        scores = scores.round()  # ties
    found = evaluate(labels, scores, window=50)
    assert list(found) == list(metrics.evaluate(labels, np.arange(len(labels))))
    assert all(type(value) is float for value in found.values())
    assert not [warning for warning in recwarn if "distinct" in str(warning.message)]
    assert list(found.values()) == pytest.approx(as_released(labels, scores, 50), abs=1e-9)


def test_of_equally_good_thresholds_the_lowest_is_taken():
    labels, scores = [1, 0, 0, 1, 0, 0], [0.9, 0.8, 0.7, 0.6, 0.2, 0.1]  # 0.9 and 0.6 give 2/3
    found, ours = evaluate(labels, scores, window=1), metrics.best_f1_score(labels, scores)
    assert found["f1_score"] == pytest.approx(2 / 3)
    assert (found["precision"], found["recall"]) == (0.5, 1)
    assert (ours.precision, ours.recall) == (1, 0.5)


def test_a_constant_score_is_nowhere_above_its_threshold():
    labels, _ = rows()
    scores = np.full(len(labels) - 49, 0.01)
    with pytest.warns(UserWarning, match="1 distinct value") as caught:
        found = evaluate(labels, scores, window=50)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    share = window_labels(labels, 50).mean()
    assert found["f1_score"] == pytest.approx(2 * share / (1 + share))
    assert (found["recall"], found["roc_auc"]) == (1, 0.5)
    assert math.isnan(found["Affiliation_Precision"])
    assert found["Affiliation_Recall"] == 0
    expected = as_released(labels, scores, 50)
    assert list(found.values()) == pytest.approx(expected, abs=1e-9, nan_ok=True)


LABELS = [0, 0, 0, 0, 1, 0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: window_labels([0, 1, 2], 2), "labels must be 0 or 1, row 2 is 2"),
        (lambda: window_labels([[0, 1]], 1), "labels must be 1-D"),
        (lambda: window_labels([], 1), "labels is empty"),
        (lambda: window_labels([0, 1], 3), "labels have 2 rows, less than a window of 3"),
        (lambda: window_labels([0, 1], 0), "window must be an integer of at least 1"),
        (
            lambda: evaluate(LABELS, [0.1] * 6, window=2),
            r"one per window, \(5,\), got shape \(6,\)",
        ),
        (lambda: evaluate(LABELS, np.eye(5), window=2), "one per window"),
        (lambda: evaluate(LABELS, [0.1, 0.2, np.nan, 0, 0], window=2), "finite, row 2 is nan"),
        (lambda: evaluate([0] * 6, [0.1, 0.2, 0.3, 0, 0], window=2), "same label, 0"),
        (lambda: evaluate([0, 1, 0, 1], [1, 2, 3], window=2), "same label, 1"),
        (lambda: evaluate(LABELS, ["a"] * 5, window=2), "must be numbers"),
        (lambda: window_scores(FirstChannel(), np.zeros((2, 1)), window=3), "window of 3 rows"),
        (lambda: window_scores(FirstChannel(), np.zeros(9), window=3), "got shape"),
        (lambda: window_scores(FirstChannel(), np.zeros((9, 1)), window=3, stride=0), "stride"),
        (lambda: wiring(threshold=1.0), "threshold must lie"),
        (lambda: wiring(smoothing=1.0), "smoothing must lie"),
        (lambda: wiring(head=False, train_maps=False), "train_maps must be True"),
        (lambda: wiring(window=37), "patch_sizes must divide"),
        (lambda: wiring()(batch(t=30)), "windows of 20"),
    ],
)
def test_nonsense_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_model_without_a_score_is_refused():
    model = FirstChannel()
    model.forward = lambda x: Embedding(x)
    with pytest.raises(ValueError, match="no score of its own"):
        window_scores(model, np.zeros((9, 1)), window=3)


# --- the wiring -----------------------------------------------------------------------------------


def literal(model, x):
    """Loss and score per window as the released solver computes them, from the tokens on."""
    z, c, nu = model.detector.tokens(x), model.center, model.threshold
    q = (nn.functional.cosine_similarity(z, c[None], dim=-1)[..., None] + 1) / 2  # (b t k)
    weight = q**2 / q.sum((0, 1))
    p = (weight / weight.sum(2, keepdim=True)).clamp(min=1e-6)
    q = q.clamp(min=1e-6)
    kl = p * (p / q).log()
    p = 0.99 * p + 0.01 * (1 - p)
    f1 = ((1 - nu ** (1 - nu)) / (1 - nu) * (q - nu) + nu ** (1 - nu)).clamp(max=1e6)
    f2 = (q ** (1 - nu)).clamp(max=1e6)
    cluster = kl - p * f1.log() - (1 - p) * f2.log()
    distance = (z[:, :, None] - c).square().sum(-1)
    total = (distance + cluster).sum((1, 2))
    return (total.mean() + 1e-8).log(), cluster.mean((1, 2)) / x.shape[1]


def test_loss_gradient_and_score_are_the_released_formulas(monkeypatch):
    monkeypatch.setattr("madcluster.study.as_released.DROPOUT", 0.0)
    model, x = wiring().double(), batch().double()
    value, score = literal(model, x)
    own = [model.detector.tokens.conv.weight, model.center, model.threshold]
    expected = torch.autograd.grad(value, own, retain_graph=True)
    out = model(x)
    torch.testing.assert_close(out.loss, value)
    torch.testing.assert_close(out.score, score[:, None].expand(6, WINDOW))
    torch.testing.assert_close(torch.autograd.grad(out.loss, own, retain_graph=True), expected)
    torch.testing.assert_close(model.eval()(x).loss, value)
    plain = wiring(outer_log=False).double()(x).loss
    torch.testing.assert_close(plain, value.exp() - 1e-8)


def test_the_soft_boundary_is_the_released_one(monkeypatch):
    monkeypatch.setattr("madcluster.study.as_released.DROPOUT", 0.0)
    hard, soft = wiring(), wiring(objective="soft-boundary", nu=0.25)
    x = batch()
    soft.prepare([x[:2], x[2:]], epoch=3)
    z = soft.detector.tokens(x)
    distance = (z - soft.center).square().sum(-1)
    # its radius is the root of a quantile of distances: as many steps lie outside
    assert (distance > soft.squared_radius).float().mean().item() == pytest.approx(0.25, abs=0.01)
    beyond = (distance - soft.squared_radius).clamp(min=0)
    expected = (hard(x).loss.exp() - distance.sum(1).mean()) + (
        soft.squared_radius + beyond / 0.25
    ).sum(1).mean()
    torch.testing.assert_close(soft(x).loss, expected.log(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(soft(x).score, hard(x).score)  # no distance is in it
    series = synthetic(n_train=600, n_test=800, n_channels=4, seed=0)
    model = wiring(4, objective="soft-boundary")
    detector = MADCluster(model, head=False, window=WINDOW, epochs=1, stride=20).fit(series.train)
    assert detector.model_.squared_radius > 0


def test_the_whole_loss_is_that_of_the_head_and_of_the_maps():
    model, x = wiring(), batch()
    model(x).loss.backward()
    alone = wiring()
    alone.detector(x).loss.backward()
    maps = dict(alone.detector.named_parameters())
    for name, p in model.detector.named_parameters():
        if name == "tokens.conv.weight":
            assert p.grad.any()
        elif maps[name].grad is None:
            assert name == "out.weight"
        else:
            torch.testing.assert_close(p.grad, maps[name].grad)


def test_the_center_starts_as_released_and_the_threshold_takes_no_decay():
    torch.manual_seed(0)
    model = ReleasedWiring(38, window=100, threshold=0.25)
    assert model.center.shape == (1, 256)
    assert model.center.var().item() == pytest.approx(2 / 256, rel=0.3)
    assert model.threshold.item() == 0.25
    assert [p is model.threshold for p in model.no_decay()] == [True]
    assert torch.equal(model.anchors(), model.center)
    baseline = ReleasedWiring(38, window=100, head=False)
    assert (baseline.no_decay(), baseline.anchors()) == ([], None)


def test_it_keeps_the_contract():
    silent = check_embedder(lambda c, t: ReleasedWiring(c, window=t, d=8, n_layers=2))
    parameters = [name for name, _ in wiring(window=32).named_parameters()]
    # a head on its tokens reaches their convolution and nothing else
    assert [name for name in parameters if name not in silent] == ["detector.tokens.conv.weight"]


@pytest.mark.parametrize("head", [True, False])
def test_it_is_fitted_and_scored_like_any_embedder(head):
    series = synthetic(n_train=600, n_test=800, n_channels=4, seed=0)
    model = wiring(4, head=head)
    fits = [
        MADCluster(model, head=False, window=WINDOW, stride=5, epochs=2).fit(series.train)
        for _ in range(2)
    ]
    scores = [fit.decision_function(series.test) for fit in fits]
    assert np.array_equal(*scores)
    assert np.isfinite(scores[0]).all()
    x = fits[0].scaler_.transform(series.test)
    per_window = window_scores(fits[0].model_, x, window=WINDOW)
    assert per_window.shape == (781,)
    found = evaluate(series.labels, per_window, window=WINDOW)
    assert np.isfinite([found["f1_score"], found["VUS_PR"], found["R_AUC_ROC"]]).all()
    if head:
        assert fits[0].history_.frame()["threshold"].iloc[-1] > 0.5
        _, expected = literal(fits[0].model_, torch.as_tensor(x[:WINDOW][None]))
        assert per_window[0] == pytest.approx(expected.item(), rel=1e-5)


def test_it_survives_saving_and_loading(tmp_path):
    series = synthetic(n_train=600, n_test=800, n_channels=4, seed=0)
    detector = MADCluster(wiring(4), head=False, window=WINDOW, stride=20, epochs=1)
    detector.fit(series.train).save(tmp_path / "own")
    again = MADCluster.load(tmp_path / "own", embedder=wiring(4))
    scores = detector.decision_function(series.test)
    assert np.array_equal(scores, again.decision_function(series.test))


# --- evidence: what is trained --------------------------------------------------------------------


def test_the_released_target_is_one_for_every_q_and_has_no_gradient():
    q = torch.rand(4, WINDOW, 1, dtype=torch.float64).requires_grad_()
    weight = q**2 / q.sum((0, 1))
    p = weight / weight.sum(2, keepdim=True)
    assert torch.equal(p, torch.ones_like(p))
    torch.manual_seed(0)
    (gradient,) = torch.autograd.grad((p * torch.randn_like(p)).sum(), q)
    assert gradient.abs().max() < 1e-12


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.8])
def test_f1_is_used_below_the_threshold_too(threshold):
    q = torch.linspace(0.01, 1, 100, dtype=torch.float64)
    s = (1 - threshold ** (1 - threshold)) / (1 - threshold)
    log_f1 = (1 - s * (1 - q)).log()
    torch.testing.assert_close(clustering_loss(q, threshold, 0.0), -q.log() - log_f1)
    ours = loss.one_directed_adaptive(q, threshold)
    below = q < threshold
    torch.testing.assert_close(ours[~below], -log_f1[~below])
    assert (ours[below] > -log_f1[below]).all()


@pytest.mark.parametrize("threshold", [0.9, 0.99, 0.999])
def test_a_late_gradient_stays_and_the_threshold_matters_little(threshold):
    q = torch.linspace(0.01, 1, 100, dtype=torch.float64).requires_grad_()
    released, ours = clustering_loss(q, threshold), loss.one_directed_adaptive(q, threshold)
    pulls = [-torch.autograd.grad(value.sum(), q)[0] * q for value in (released, ours)]
    assert 1 <= pulls[0].min() <= pulls[0].max() < 1 + 1.1 * (1 - threshold)
    assert pulls[1].max() < 1.1 * (1 - threshold)
    # for the release a threshold of 1 would change next to nothing: −log q remains
    assert (released / -q.log())[:-1].max() < 1 + 1.1 * (1 - threshold)


def test_a_raw_threshold_passes_one():
    q = torch.rand(64, generator=torch.Generator().manual_seed(0))
    threshold = nn.Parameter(torch.tensor([0.5]))
    optimizer = torch.optim.Adam([threshold], lr=1e-2)
    for _ in range(200):
        optimizer.zero_grad()
        clustering_loss(q, threshold).mean().backward()
        optimizer.step()
    assert threshold.item() > 1.5


def test_clustering_the_tokens_reaches_no_parameter_of_the_maps():
    model, x = wiring().eval(), batch()  # in eval mode the loss is that of the head alone
    head = Head(model.d)  # nor does ours, put on the same tokens
    for value, beside in (
        (model(x).loss, {"center", "threshold"}),
        (model(x).score.sum(), {"center", "threshold"}),
        (head.objective_of(head(model(x).h)), set()),
    ):
        model.zero_grad()
        value.backward()
        reached = {name for name, p in model.named_parameters() if p.grad is not None}
        assert reached == {"detector.tokens.conv.weight"} | beside


def test_scores_are_the_same_whether_the_maps_are_trained_or_not():
    series = synthetic(n_train=600, n_test=800, n_channels=4, seed=0)
    runs = []
    for train_maps in (True, False):
        model, options = wiring(4, train_maps=train_maps), {"window": WINDOW, "stride": 5}
        detector = MADCluster(model, head=False, epochs=3, **options).fit(series.train)
        query = detector.model_.detector.layers[0].query.weight
        moved = not torch.equal(query, model.detector.layers[0].query.weight)
        assert moved == train_maps
        runs.append(detector.decision_function(series.test))
    assert np.array_equal(*runs)


def released_parameters(c, *, d=256, n_layers=3, window=100, patch_sizes=(2, 5, 10)):
    """Parameters of the released network by layer, and which of them its forward uses."""
    linear = d * d + d
    used = {
        "tokens": 3 * c * d,
        "tokens of patches": sum(3 * (p + window // p) * d for p in patch_sizes),
        "queries and keys": n_layers * 2 * linear,
        "center and threshold": d + 1,
    }
    unused = {
        "values and output projections": n_layers * 2 * linear,
        "layer norms": n_layers * 2 * d + 2 * d,
        "projection to the channels": d * c + c,
    }
    return used, unused


@pytest.mark.parametrize("c", [55, 25, 38])
def test_no_loss_reaches_45_percent_of_the_released_parameters(c):
    used, unused = (sum(part.values()) for part in released_parameters(c))
    assert unused / (used + unused) == pytest.approx(0.45, abs=0.005)
    # what is used is counted in ours: without the bias of the keys, which has no gradient
    model = ReleasedWiring(c, window=100)
    ours = sum(p.numel() for p in model.parameters()) - model.detector.out.weight.numel()
    assert ours == used - 3 * 256


def test_the_released_score_of_dcdetector_is_one_over_the_window():
    torch.manual_seed(0)
    model = ReleasedWiring(38, window=100, head=False).eval()
    x = torch.randn(64, 100, 38)
    x[::2, 50] *= 50
    with torch.no_grad():
        score, discrepancy = model(x).score[:, 0], model.detector(x).score
    assert discrepancy.std() > 1  # what the softmax was taken of is far from constant
    assert (score - 0.01).abs().max() < 4 * torch.finfo(torch.float32).eps * 0.01
    assert score.std() < 2e-9
    assert len(score.unique()) < 10


def released_epochs(losses, *, patience=5, min_delta=1e-5):
    """Epochs until the released rule for stopping early says so."""
    best, bad = losses[0], 0
    for epoch, value in enumerate(losses[1:], start=2):
        best, bad = (value, 0) if value < best - min_delta else (best, bad + 1)
        if bad == patience:
            return epoch
    return len(losses)


def test_a_loss_that_is_always_zero_stops_at_the_sixth_epoch():
    model = wiring(head=False)
    values = []
    for seed in range(30):
        model.train(seed % 2 == 0)
        values.append(model(batch(seed=seed)).loss.item())
    assert values == [0] * 30
    assert released_epochs(values) == 6
    assert released_epochs([1 / epoch for epoch in range(1, 31)]) == 30


# --- evidence: how it is evaluated ----------------------------------------------------------------


@pytest.mark.parametrize("window", [1, 50, 100])
def test_an_event_grows_by_up_to_a_window_less_one(window):
    labels = np.zeros(1000, dtype=bool)
    labels[400:410] = True
    grown = window_labels(labels, window)
    assert np.flatnonzero(grown)[[0, -1]].tolist() == [400 - window + 1, 409]
    labels[0] = True  # at the start there is nothing to grow into
    assert window_labels(labels, window).sum() == grown.sum() + 1


def test_the_released_threshold_is_an_oracle():
    labels, _ = rows()
    truth = window_labels(labels, 50)
    scores = np.random.default_rng(1).random(len(truth))  # knows nothing
    found = evaluate(labels, scores, window=50)["f1_score"]
    share = truth.mean()
    assert found >= 2 * share / (1 + share) - 1e-12
    for quantile in (0.5, 0.9, 0.95, 0.99):
        predicted = scores > np.quantile(scores, quantile)
        assert found > 2 * (predicted & truth).sum() / (predicted.sum() + truth.sum())


def toy(seed, found=10, noise=1.0):
    """Ten events of 20 in 6,000 rows, and scores of windows that see the first `found` of them."""
    rng = np.random.default_rng(seed)
    labels, starts = np.zeros(6000, dtype=bool), np.linspace(300, 5700, 10).astype(int)
    scores = rng.normal(0, noise, 6000 - 99)
    for i, start in enumerate(starts):
        labels[start : start + 20] = True
        scores[start - 99 : start + 20] += i < found
    return labels, scores, rng


def test_vus_of_the_prediction_is_below_that_of_the_score():
    pairs = []
    for seed in range(10):
        labels, scores, _ = toy(seed, noise=0.5)
        honest = metrics.vus_score(window_labels(labels, 100), scores)
        released = evaluate(labels, scores)
        pairs.append([honest.pr, released["VUS_PR"], honest.roc, released["VUS_ROC"]])
    pr, pr_released, roc, roc_released = np.transpose(pairs)
    assert (pr > pr_released).all()
    assert (roc > roc_released).all()
    assert np.mean(pr - pr_released) > 0.1


def test_random_flags_can_beat_a_detector_that_is_right_about_three_events_of_ten():
    runs = []
    for seed in range(10):
        labels, scores, rng = toy(seed, found=3, noise=0.1)
        truth, flags = window_labels(labels, 100), rng.random(len(scores)) < 0.8
        with pytest.warns(UserWarning, match="2 distinct values"):
            by_chance = metrics.range_auc_score(truth, flags).roc
        released, of_score = evaluate(labels, scores), metrics.range_auc_score(truth, scores).roc
        runs.append([by_chance, released["R_AUC_ROC"], of_score, released["precision"]])
    by_chance, of_prediction, of_score, precision = np.mean(runs, axis=0)
    assert of_prediction < by_chance < of_score
    assert precision > 0.95


def test_no_alarm_at_all_can_reach_a_range_auc_of_one():
    labels = np.zeros(481, dtype=int)
    labels[[99, 240, 381]] = 1  # three rows; as windows the events lie 41 steps apart
    with pytest.warns(UserWarning, match="1 distinct value"):
        found = evaluate(labels, np.zeros(382))
    assert (found["R_AUC_ROC"], found["R_AUC_PR"]) == (1, 1)
    assert found["Affiliation_Recall"] == 0


# --- evidence: what is read -----------------------------------------------------------------------


def test_a_table_without_a_header_loses_its_first_row_when_one_is_expected(tmp_path):
    path = tmp_path / "machine.txt"
    np.savetxt(path, np.arange(12.0).reshape(4, 3), delimiter=",")
    assert len(pd.read_csv(path)) == 3
    assert len(np.loadtxt(path, delimiter=",")) == 4


def test_a_header_costs_one_row_per_split_of_every_real_machine(data_root):
    lengths = {}
    with (Path(__file__).parent / "golden" / "entities.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            lengths[row["entity"]] = {"train": row["train_rows"], "test": row["test_rows"]}
    for machine in entities("SMD", data_root):
        for split, n in lengths[machine].items():
            path = data_root / "SMD" / split / f"{machine}.txt"
            assert len(pd.read_csv(path, usecols=[0])) == int(n) - 1
    # first rows hold no anomaly, so no event is lost with them
    assert not any(
        labels_of("SMD", machine, data_root)[0] for machine in entities("SMD", data_root)
    )


def nasa_row(root, dataset, entity):
    """Labels of a channel from the first of its rows in the table, the one that the release uses."""
    with (root / dataset / "labeled_anomalies.csv").open(newline="") as file:
        row = next(row for row in csv.DictReader(file) if row["chan_id"] == entity)
    labels = np.zeros(int(row["num_values"]), dtype=bool)
    for first, last in json.loads(row["anomaly_sequences"]):
        labels[first : last + 1] = True
    return labels


def test_the_second_row_of_p_2_is_ignored(data_root):
    first, union = nasa_row(data_root, "SMAP", "P-2"), load("SMAP", "P-2", data_root).labels
    assert (first.sum(), union.sum()) == (1226, 1276)
    assert not (first & ~union).any()
    total = sum(len(load("SMAP", name, data_root).test) for name in entities("SMAP", data_root))
    assert total - len(union) == 427_617  # the appendix's total leaves P-2 out


def labels_of(dataset, entity, root):
    if dataset == "SMD":
        return np.loadtxt(root / "SMD" / "test_label" / f"{entity}.txt") == 1
    return load(dataset, entity, root).labels


def floor(labels):
    """Every window flagged: F1, Affiliation precision and recall; then F1 of every row flagged."""
    truth = window_labels(labels, 100)
    share, of_rows = truth.mean(), labels.mean()
    flagged = metrics.affiliation_precision_recall(truth, np.ones(len(truth)))
    return 2 * share / (1 + share), *flagged, 2 * of_rows / (1 + of_rows)


@pytest.mark.parametrize(
    ("dataset", "n", "expected"),
    [
        ("MSL", 27, (0.281, 0.526, 1.0, 0.194)),
        ("SMAP", 54, (0.218, 0.521, 1.0, 0.193)),
        ("SMD", 19, (0.185, 0.519, 1.0, 0.086)),  # of 28 machines, of which 9 are not at hand
    ],
)
def test_the_floor_of_the_released_protocol(dataset, n, expected, data_root):
    names = entities(dataset, data_root)
    if len(names) != n:
        pytest.skip(f"the values are those of {n} entities, {len(names)} are here")
    found = np.mean([floor(labels_of(dataset, name, data_root)) for name in names], axis=0)
    assert found == pytest.approx(expected, abs=5e-4)
    if dataset == "SMAP":  # with P-2 as the release reads it
        names.remove("P-2")
        readings = [load("SMAP", name, data_root).labels for name in names]
        found = np.mean([floor(y) for y in [*readings, nasa_row(data_root, "SMAP", "P-2")]], axis=0)
        assert found == pytest.approx(expected, abs=5e-4)


def test_the_floor_of_the_released_protocol_on_psm(data_root):
    paths = [data_root / name / "test_label.csv" for name in ("PSM", "PSM_labels")]
    path = next((path for path in paths if path.exists()), None)
    if path is None:
        pytest.skip("the labels of PSM are not here")
    labels = pd.read_csv(path)["label"].to_numpy() == 1
    assert len(labels) == 87_841
    assert floor(labels) == pytest.approx((0.504, 0.551, 1.0, 0.435), abs=5e-4)


def test_noise_of_a_few_values_on_msl(data_root):
    rng, found = np.random.default_rng(0), []
    for entity in entities("MSL", data_root):
        labels = labels_of("MSL", entity, data_root)
        noise = np.float32(0.01) + rng.normal(0, 1e-9, len(labels) - 99).astype(np.float32)
        assert 3 <= len(np.unique(noise)) < 15
        values = evaluate(labels, noise)
        found.append([values["f1_score"], values["VUS_ROC"], values["VUS_PR"]])
    # the appendix prints .28, .52 and .19 for DCdetector alone (Table 2)
    assert np.mean(found, axis=0) == pytest.approx((0.283, 0.525, 0.198), abs=0.006)


# --- the file that the release writes ---------------------------------------------------------------

OF_ITS_README = (  # the lines of the released README that read its file, without their other names
    'results["precision"].mean()',
    'results["recall"].mean()',
    'results["f1_score"].mean()',
    'results["aupr"].mean()',
    'results["roc_auc"].mean()',
    'results["R_AUC_ROC"].mean()',
    'results["R_AUC_PR"].mean()',
    'results["VUS_ROC"].mean()',
    'results["VUS_PR"].mean()',
    'results["Affiliation_Precision"].mean()',
    'results["Affiliation_Recall"].mean()',
)


def released_runs():
    plants = {"synthetic": ["plant-0", "plant-1"]}
    runs = grid(["synthetic"], ["pca_error", "l2_norm"], entities=plants, protocol="release")
    return pd.DataFrame([execute(run) for run in runs])


def test_the_file_is_read_as_the_released_readme_reads_it(tmp_path):
    runs = released_runs().query("embedder == 'pca_error'")
    results_table(runs).to_csv(tmp_path / "results.csv", index=False)
    results = pd.read_csv(tmp_path / "results.csv")
    assert list(results["fname"]) == ["plant-0", "plant-1"]
    for line in OF_ITS_README:
        name = line.split('"')[1]
        assert eval(line) == pytest.approx(runs[name].mean(), rel=1e-9)
    assert list(results.columns[1:]) == [line.split('"')[1] for line in OF_ITS_README]


def test_the_file_is_of_one_detector_on_one_data_set():
    runs = released_runs()
    with pytest.raises(ValueError, match="has plant-0 more than once"):
        results_table(runs)
    one = runs.query("embedder == 'pca_error'")
    with pytest.raises(ValueError, match=r"one data set, got \['PSM', 'synthetic'\]"):
        results_table(one.assign(dataset=["PSM", "synthetic"]))
    with pytest.raises(ValueError, match=r"one data set, got \[\]"):
        results_table(one.head(0))
    with pytest.raises(ValueError, match=r"no column \['VUS_PR'\]"):
        results_table(one.drop(columns="VUS_PR"))
    psm = results_table(one.head(1).assign(dataset="PSM"))
    assert list(psm["fname"]) == ["All-data"]


# --- the page of the book -------------------------------------------------------------------------

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "book" / "coming_from_the_release.md"


def test_every_test_that_the_page_names_exists():
    defined = {
        name
        for path in TESTS.glob("test_*.py")
        for name in re.findall(r"^def (test_\w+)\(", path.read_text(), re.MULTILINE)
    }
    named = set(re.findall(r"`(test_\w+)`", PAGE.read_text()))
    assert len(named) > 20
    assert named - defined == set()


def test_every_difference_on_the_page_has_evidence():
    text = PAGE.read_text()
    numbers = [int(n) for n in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)]
    evidence = text.split("### Evidence")[1].split("\n## ")[0]
    items = dict(re.findall(r"^(\d+)\. (.*?)(?=^\d+\. |\Z)", evidence, re.MULTILINE | re.DOTALL))
    assert numbers == list(range(1, len(numbers) + 1)) == [int(n) for n in items]
    assert all("`test_" in item or "A fact of the file" in item for item in items.values())


def test_every_name_of_the_package_on_the_page_exists():
    names = set(re.findall(r"`(madcluster(?:\.\w+)+)`", PAGE.read_text()))
    assert len(names) > 20
    if find_spec("madcluster.study.benchmark") is None:
        names = {name for name in names if not name.startswith("madcluster.study.benchmark")}
    for name in names:
        pkgutil.resolve_name(name)


def test_the_defaults_on_the_page_are_those_of_the_package():
    flags = PAGE.read_text().split("## Flags")[1].split("\n## ")[0]
    defaults = {p.name: p.default for p in signature(MADCluster).parameters.values()}
    checked = set()
    for row in re.findall(r"^\| .*? \| .*? \| (.*?) \| (.*?) \|$", flags, re.MULTILINE):
        names = re.findall(r"(?<!=)`(\w+)`", row[0])
        values = row[1].replace("a tenth of the window", "None").split(", ")
        if not names or len(names) != len(values) or not row[1]:
            continue
        for name, value in zip(names, values, strict=True):
            if name in defaults:
                found = defaults[name]
                assert value.strip("`").strip('"') == str(found) or float(value) == found, name
                checked.add(name)
    assert checked >= {"window", "stride", "epochs", "batch_size", "patience", "lr", "k", "nu"}


def test_the_example_of_the_page_runs(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    for written, small in (
        ('load("MSL", "M-2")', "synthetic(n_train=600, n_test=4000, n_channels=4, seed=0)"),
        ("import MADCluster, load", "import MADCluster, synthetic"),
        ("epochs=30, stride=1", "epochs=1, stride=20"),
    ):
        assert code.count(written) == 1
        code = code.replace(written, small)
    exec(compile(code, PAGE.name, "exec"), {})
    assert "VUS_PR" in capsys.readouterr().out
