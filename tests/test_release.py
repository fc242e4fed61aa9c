"""The released protocol and wiring, and the evidence for what the book says of the released code.

The released code itself is not run here: what it computes is written out where it matters, and the rest
are facts about its files.
"""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score
from torch import nn
from vus.metrics import get_metrics

from madcluster import MADCluster, metrics, synthetic
from madcluster.models import Embedder, Embedding, check_embedder
from madcluster.release import (
    ReleasedWiring,
    evaluate,
    window_labels,
    window_scores,
)

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
        (lambda: evaluate([0] * 6, [0.1, 0.2, 0.3, 0, 0], window=2), "both classes, all are 0"),
        (lambda: evaluate([0, 1, 0, 1], [1, 2, 3], window=2), "both classes, all are 1"),
        (lambda: evaluate(LABELS, ["a"] * 5, window=2), "must be numbers"),
        (lambda: window_scores(FirstChannel(), np.zeros((2, 1)), window=3), "window of 3 rows"),
        (lambda: window_scores(FirstChannel(), np.zeros(9), window=3), "got shape"),
        (lambda: window_scores(FirstChannel(), np.zeros((9, 1)), window=3, stride=0), "stride"),
        (lambda: wiring(threshold=1.0), "threshold must lie"),
        (lambda: wiring(smoothing=1.0), "smoothing must lie"),
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
    monkeypatch.setattr("madcluster.release.DROPOUT", 0.0)
    model, x = wiring().double(), batch().double()
    loss, score = literal(model, x)
    own = [model.detector.tokens.conv.weight, model.center, model.threshold]
    expected = torch.autograd.grad(loss, own)
    out = model(x)
    torch.testing.assert_close(out.loss, loss)
    torch.testing.assert_close(out.score, score[:, None].expand(6, WINDOW))
    torch.testing.assert_close(torch.autograd.grad(out.loss, own, retain_graph=True), expected)
    torch.testing.assert_close(model.eval()(x).loss, loss)
    plain = wiring(outer_log=False).double()(x).loss
    torch.testing.assert_close(plain, loss.exp() - 1e-8)


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
    assert [p is model.threshold for p in model.undecayed()] == [True]
    assert torch.equal(model.anchors(), model.center)
    baseline = ReleasedWiring(38, window=100, head=False)
    assert (baseline.undecayed(), baseline.anchors()) == ([], None)


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
