"""Many side by side: each as if it were alone, and whatever is wrong is said with its name."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from madcluster import MADCluster
from madcluster.data import synthetic
from madcluster.detectors import Detector, PCAError
from madcluster.diagnostics import CollapseWarning
from madcluster.many import fit_many
from madcluster.models import Embedder, Embedding
from madcluster.training import NonFiniteLossError

NARROW = {
    "deepsvdd": {"d": 8},
    "usad": {"width": 16, "d": 4},
    "beatgan": {"d": 4, "n_layers": 2},
    "omnianomaly": {"d": 8, "n_latent": 3, "n_flows": 1},
    "thoc": {"d": 8},
    "anomaly_transformer": {"d": 8, "d_ff": 8, "n_heads": 2, "n_layers": 1},
    "dcdetector": {"d": 8, "n_layers": 1, "patch_sizes": [5]},
    "deepant": {"d": 8, "width": 8, "history": 10},
    "drnn": {"d": 8},
}
RECURRENT = "omnianomaly", "thoc", "drnn"
DRAWING = "contrastive", "innovation"
QUICK = {"window": 20, "stride": 5, "epochs": 3, "batch_size": 8, "device": "cpu"}


def rows_of(seed, n=300):
    return synthetic(n_train=n, n_test=300, n_channels=3, kinds=("spike",), seed=seed)


# of 45, 69 and 45 training windows: the second makes more steps, and their last batches differ
SERIES = {"a": rows_of(0), "longer": rows_of(1, 420), "c": rows_of(2)}
ROWS = {name: series.train for name, series in SERIES.items()}
TEST = {name: series.test for name, series in SERIES.items()}


def made(embedder="deepsvdd", **arguments):
    options = NARROW[embedder] if isinstance(embedder, str) else None
    return MADCluster(embedder, options=options, **{**QUICK, **arguments})


def without_seconds(detector):
    return detector.history_.frame().drop(columns="seconds")


def check_as_alone(many, detector, rows, test):
    assert list(many) == list(rows)
    for name, found in many.items():
        alone = detector._unfitted().fit(rows[name])
        assert found.history_.best_epoch == alone.history_.best_epoch
        assert found.history_.stopped == alone.history_.stopped
        history, expected = without_seconds(found), without_seconds(alone)
        # numbers of distinct scores depend on the last digit
        drop = [each for each in ("distinct_scores",) if each in expected]
        pd.testing.assert_frame_equal(
            history.drop(columns=drop), expected.drop(columns=drop), rtol=1e-3, atol=1e-5
        )
        scores = alone.decision_function(test[name])
        far = np.abs(found.decision_function(test[name]) - scores).max()
        assert far <= 1e-3 * np.ptp(scores)
        assert found.threshold_ == pytest.approx(alone.threshold_, rel=1e-3)
        assert found.calibrated_on_ == alone.calibrated_on_
        assert found.fitted_on_ == alone.fitted_on_


@pytest.mark.parametrize("head", [True, False, "flow"])
@pytest.mark.parametrize("embedder", [name for name in NARROW if name not in RECURRENT])
def test_each_is_as_if_it_were_alone(embedder, head):
    detector = made(embedder, head=head)
    check_as_alone(fit_many(detector, ROWS), detector, ROWS, TEST)
    assert not hasattr(detector, "n_features_in_")


@pytest.mark.parametrize(
    "arguments",
    [
        {"k": 3},  # k-means draws a seed
        {"objective": "soft-boundary"},
        {"score_from": "mahalanobis", "aggregate": "last", "smooth": 5},
        {"head": False, "objective": "soft-boundary"},
        {"terms": "cluster", "outer_log": False, "label_smoothing": 0.1, "weight_decay": 0.0},
        {"epochs": 6, "lr": 1e-2, "lr_decay": 0.5, "seed": 3},
    ],
)
def test_whatever_the_settings(arguments):
    detector = made(**arguments)
    check_as_alone(fit_many(detector, ROWS), detector, ROWS, TEST)


@pytest.mark.parametrize("embedder", RECURRENT)
def test_recurrent_networks_are_refused(embedder):
    wrong = f"embedder='{embedder}' with head=True cannot be trained side by side.*gru"
    with pytest.raises(ValueError, match=wrong):
        fit_many(made(embedder), ROWS)


@pytest.mark.parametrize("head", DRAWING)
def test_heads_that_draw_are_refused(head):
    wrong = f"embedder='deepsvdd' with head='{head}' cannot be trained side by side.*random"
    with pytest.raises(ValueError, match=wrong):
        fit_many(made(head=head), ROWS)


def test_a_guard_is_refused():
    with pytest.raises(ValueError, match="cannot be trained side by side, fit its entities one by"):
        fit_many(made(guard="variance-floor"), ROWS)


class Own(nn.Module):
    """A module of one's own, with a weight that rests and one that is not used."""

    def __init__(self, dropout=0.0):
        super().__init__()
        self.into, self.drop = nn.Linear(3, 4), nn.Dropout(dropout)
        self.into.bias.requires_grad_(False)
        self.unused = nn.Parameter(torch.ones(2))

    def forward(self, x):
        return self.drop(self.into(x)).tanh()


def test_a_module_of_ones_own():
    torch.manual_seed(0)
    detector = made(Own())
    check_as_alone(fit_many(detector, ROWS), detector, ROWS, TEST)
    with pytest.raises(ValueError, match=r"embedder=Own with head=True cannot be trained .*random"):
        fit_many(made(Own(dropout=0.5)), ROWS)


class Cheating(Own):
    """A network with a memory that no weight or buffer holds."""

    def forward(self, x):
        self.calls = getattr(self, "calls", 0) + 1
        return super().forward(x) * self.calls


def test_a_network_that_is_another_side_by_side_is_refused():
    with pytest.raises(ValueError, match="losses are not those of one by one"):
        fit_many(made(Cheating()), ROWS)


class Scripted(Embedder):
    """Validation losses of its own: the least one comes in the epoch that the first row names."""

    def __init__(self):
        super().__init__()
        self.d = 1
        self.weight = nn.Parameter(torch.zeros(()))
        self.register_buffer("epoch", torch.zeros(()))
        self.register_buffer("best", torch.zeros(()))

    def prepare(self, batches, epoch):
        self.epoch.fill_(epoch)
        self.best.copy_(next(iter(batches))[0, 0, 0])

    def forward(self, x):
        loss = (self.epoch - self.best).abs() + 0 * self.weight
        return Embedding(x[..., :1] + self.weight, loss, x[..., 0])


def test_each_stops_by_its_own_patience():
    """And one that has stopped does not move while the others go on."""
    rows = {}
    for name, best in {"first": 0, "never": 9, "third": 3, "second": 1}.items():
        rows[name] = rows_of(best).train[:200].copy()
        rows[name][0, 0] = best
    detector = made(Scripted(), head=False, scaler="none", epochs=8, patience=2)
    many = fit_many(detector, rows)
    found = {name: each.history_ for name, each in many.items()}
    assert {name: each.best_epoch for name, each in found.items()} == {
        "first": 0,
        "never": 7,
        "third": 3,
        "second": 1,
    }
    assert [len(each.epochs) for each in found.values()] == [3, 8, 6, 4]
    assert [each.stopped for each in found.values()] == ["patience", "epochs"] + ["patience"] * 2
    for name, each in many.items():
        alone = detector._unfitted().fit(rows[name])
        assert torch.equal(each.model_.weight, alone.model_.weight)
        assert each.model_.epoch == each.history_.best_epoch
        assert not each.model_.training


def test_one_alone_and_many_of_one_length():
    """A batch of one network, and a stack that no slice ever takes apart."""
    detector = made()
    for names in (["a"], ["a", "c"]):
        rows = {name: ROWS[name] for name in names}
        check_as_alone(fit_many(detector, rows), detector, rows, TEST)


def test_networks_that_are_not_trained():
    detector = made("drnn", train=False)
    many = fit_many(detector, ROWS)
    for name, found in many.items():
        alone = detector._unfitted().fit(ROWS[name])
        assert found.history_.stopped == "untrained"
        expected = alone.decision_function(TEST[name])
        np.testing.assert_array_equal(found.decision_function(TEST[name]), expected)


def test_a_result_is_a_detector_like_any_other(tmp_path):
    frames = {
        name: pd.DataFrame(
            rows, pd.date_range("2026-03-01", periods=len(rows), freq="1min"), [*"xyz"]
        )
        for name, rows in ROWS.items()
    }
    found = fit_many(made(aggregate="last"), frames)["longer"]
    assert found.channels_ == ("x", "y", "z")
    expected = found.decision_function(TEST["longer"])
    found.save(tmp_path / "file")
    assert (tmp_path / "file").stat().st_size < 100_000  # one network, not the stack of all
    again = Detector.load(tmp_path / "file")
    np.testing.assert_array_equal(again.decision_function(TEST["longer"]), expected)
    streamed = found.stream().update(TEST["longer"])
    np.testing.assert_allclose(streamed[20:], expected[20:], rtol=1e-4)
    assert len(found.explain(TEST["longer"], 100, 110)) > 0
    found.set_params(window=30)
    np.testing.assert_array_equal(found.decision_function(TEST["longer"]), expected)
    refitted = found.fit(ROWS["a"])
    assert refitted.window == 30


def test_the_callers_random_state_stays():
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    fit_many(made(k=2), ROWS)
    assert torch.equal(torch.rand(2), expected)


def with_a_nan(rows):
    rows = rows.copy()
    rows[7, 1] = np.nan
    return rows


@pytest.mark.parametrize(
    ("rows", "wrong"),
    [
        ({}, "rows must be a mapping of names to rows, and not empty"),
        ([ROWS["a"]], "rows must be a mapping"),
        (
            {**ROWS, "d": ROWS["a"][:, :2]},
            r"rows\['d'\] has the channels \('0', '1'\), but rows",
        ),
        ({**ROWS, "d": with_a_nan(ROWS["a"])}, r"rows\['d'\]: X .*row 7"),
        ({**ROWS, "d": ROWS["a"][:19]}, r"rows\['d'\]: X has 19 rows, less than a window of 20"),
        ({**ROWS, "d": ROWS["a"][0]}, r"rows\['d'\]: X"),
        ({**ROWS, "d": "rows.csv"}, r"rows\['d'\]: X"),
    ],
)
def test_bad_rows_are_refused_by_name_before_any_training(rows, wrong, monkeypatch):
    monkeypatch.setattr("madcluster.training.Run.begin", lambda *_: pytest.fail("it began"))
    with pytest.raises(ValueError, match=wrong):
        fit_many(made(), rows)


def test_other_detectors_are_refused():
    with pytest.raises(ValueError, match="detector must be a MADCluster, got PCAError"):
        fit_many(PCAError(), ROWS)
    with pytest.raises(ValueError, match="window must be a positive integer"):
        fit_many(MADCluster(window=0), ROWS)


class Bursting(Scripted):
    """Its loss is NaN where the first row says so."""

    def forward(self, x):
        out = super().forward(x)
        return out._replace(loss=torch.where(self.best == 9, torch.nan, out.loss))


def test_a_loss_that_is_not_finite_has_a_name():
    rows = {name: each.copy() for name, each in ROWS.items()}
    rows["c"][0, 0] = 9
    detector = made(Bursting(), head=False, scaler="none")
    with pytest.raises(
        NonFiniteLossError, match=r"rows\['c'\]: the loss is nan in epoch 0, step 0"
    ):
        fit_many(detector, rows)


class Collapsing(Scripted):
    """Its embeddings become a constant where the first row says so."""

    def forward(self, x):
        out = super().forward(x)
        gone = (self.best == 9) & (self.epoch > 0)
        return out._replace(h=torch.where(gone, 0.0, out.h))


def test_a_collapse_is_warned_of_by_name():
    rows = {name: each.copy() for name, each in ROWS.items()}
    rows["c"][0, 0] = 9
    detector = made(Collapsing(), head=False, scaler="none")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit_many(detector, rows)
    (found,) = [each for each in caught if each.category is CollapseWarning]
    assert str(found.message).startswith("rows['c']: the embeddings have nearly collapsed")
    assert found.filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error", CollapseWarning)
        with pytest.raises(CollapseWarning, match=r"rows\['c'\]"):
            fit_many(detector, rows)


def test_a_short_series_is_validated_on_itself():
    rows = {"short": ROWS["a"][:35], **ROWS}
    detector = made()
    with pytest.warns(UserWarning, match=r"rows\['short'\]: train has 35 rows"):
        many = fit_many(detector, rows)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_as_alone(many, detector, rows, {"short": TEST["a"], **TEST})
