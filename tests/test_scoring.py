"""One score per time step, against the definition written out."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from madcluster.aggregation import window_starts
from madcluster.heads import build
from madcluster.models import Embedder, Embedding
from madcluster.scoring import last_scores, score, steps


class Positional(Embedder):
    """Score of a step: its value times its place in the window."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(()).double())
        self.d = 1

    def forward(self, x):
        place = torch.arange(x.shape[1], dtype=x.dtype)
        return Embedding(x, None, x[..., 0] * (1 + place))


def by_hand(x, window, starts):
    collected = [[] for _ in x]
    for start in starts:
        for step in range(window):
            collected[start + step].append(x[start + step, 0] * (1 + step))
    return np.array([np.mean(values) for values in collected])


@given(st.integers(1, 60), st.integers(1, 20), st.integers(1, 20), st.integers(1, 9))
def test_mean_is_over_the_windows_that_cover_a_step(extra, window, stride, batch_size):
    n, stride = window + extra - 1, min(stride, window)
    x = np.random.default_rng(0).random((n, 2))
    starts = window_starts(n, window=window, stride=stride)
    got = score(Positional(), x, window=window, stride=stride, batch_size=batch_size)
    np.testing.assert_allclose(got, by_hand(x, window, starts))


@given(st.integers(1, 200), st.integers(1, 50), st.integers(1, 50))
def test_window_starts_cover_every_row_and_stay_inside(extra, window, stride):
    n, stride = window + extra - 1, min(stride, window)
    starts = window_starts(n, window=window, stride=stride)
    covered = np.unique(starts[:, None] + np.arange(window))
    assert np.array_equal(covered, np.arange(n))


@pytest.mark.parametrize(
    ("n", "stride", "expected"),
    [(10, 3, [0, 3, 6]), (11, 3, [0, 3, 6, 7]), (4, 4, [0]), (9, np.int64(4), [0, 4, 5])],
)
def test_window_starts_by_hand(n, stride, expected):
    assert window_starts(n, window=4, stride=stride).tolist() == expected


@pytest.mark.parametrize("stride", [0, 5, 1.5, -1])
def test_a_stride_that_would_miss_rows_is_refused(stride):
    with pytest.raises(ValueError, match="integer in 1 … 4"):
        window_starts(20, window=4, stride=stride)


def test_batches_are_no_larger_than_asked():
    seen = []

    class Spy(Positional):
        def forward(self, x):
            seen.append((len(x), torch.is_grad_enabled()))
            return super().forward(x)

    score(Spy(), np.zeros((26, 1)), window=5, batch_size=8)  # 22 windows
    assert [n for n, _ in seen] == [8, 7, 7]
    assert not any(enabled for _, enabled in seen)


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_last_is_the_last_step_of_the_window_that_ends_there(batch_size):
    x = np.random.default_rng(0).random((30, 1))
    got = score(Positional(), x, window=8, aggregate="last", batch_size=batch_size)
    np.testing.assert_allclose(got[7:], x[7:, 0] * 8)
    np.testing.assert_allclose(got[:7], x[:7, 0] * np.arange(1, 8))


def test_last_does_not_look_ahead():
    x = np.random.default_rng(0).random((40, 1))
    changed = x.copy()
    changed[25:] += 1
    before, after = (score(Positional(), v, window=8, aggregate="last") for v in (x, changed))
    np.testing.assert_array_equal(before[:25], after[:25])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"window": 50}, "at least one window of 50"),
        ({"window": 5, "aggregate": "max"}, "aggregate must be"),
        ({"window": 5, "aggregate": "last", "stride": 2}, "needs stride 1"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        score(Positional(), np.zeros((20, 1)), **arguments)


def test_rows_may_be_a_view_that_torch_does_not_take():
    x = np.random.default_rng(0).random((30, 1))
    backward = x[::-1]
    np.testing.assert_array_equal(
        score(Positional(), backward, window=5), score(Positional(), backward.copy(), window=5)
    )


def test_a_series_without_channels_is_refused():
    with pytest.raises(ValueError, match=r"must be \(m c\)"):
        score(Positional(), np.zeros(20), window=5)


def test_a_model_without_a_score_is_refused():
    model = build(nn.Linear(1, 2), n_channels=1, window=5, head=None)
    with pytest.raises(ValueError, match="no score of its own"):
        score(model, np.zeros((20, 1), np.float32), window=5)


def test_causal_scores_in_one_pass_are_those_of_single_windows(monkeypatch):
    torch.manual_seed(0)
    model = build("deepsvdd", n_channels=3, window=20, options={"d": 8}).eval()
    x = np.random.default_rng(0).normal(size=(100, 3)).astype(np.float32)
    in_blocks = score(model, x, window=20, aggregate="last")
    monkeypatch.setattr("madcluster.scoring.BLOCK", 7)
    np.testing.assert_allclose(score(model, x, window=20, aggregate="last"), in_blocks, rtol=1e-4)
    monkeypatch.setattr(type(model), "last_steps", lambda self: None)
    np.testing.assert_allclose(score(model, x, window=20, aggregate="last"), in_blocks, rtol=1e-4)


@pytest.mark.parametrize("window", [1, 2, 8, 15, 16, 17])
def test_no_last_step_sees_rows_before_its_window(window):
    torch.manual_seed(0)
    model = build("deepsvdd", n_channels=2, window=window, options={"d": 4}).eval()  # 15 rows back
    x = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32)
    assert (last_scores(model, 2, window=window) is None) == (window < 16)
    assert (steps(model, 1, window=window) is None) == (window < 16)
    found = score(model, x, window=window, aggregate="last")
    alone = [score(model, x[i + 1 - window : i + 1], window=window)[-1] for i in range(window, 60)]
    assert found.shape == (60,)
    np.testing.assert_allclose(found[window:], alone, rtol=1e-4)


class Shortcut(Embedder):
    """Scores rows by their first channel, and notes whether gradients are kept."""

    def __init__(self):
        super().__init__()
        self.weight, self.d, self.kept = nn.Parameter(torch.ones(())), 1, []

    def forward(self, x):
        self.kept.append(torch.is_grad_enabled())
        return Embedding(x, score=x[..., 0])

    def last_steps(self):
        return lambda rows: self(rows[None])


def test_the_shortcut_keeps_no_gradients():
    model = Shortcut()
    found = last_scores(model, 2, window=5)
    assert found is not None
    reach, scores = found
    assert reach == 0
    rows = np.random.default_rng(0).normal(size=(7, 2)).astype(np.float32)
    np.testing.assert_array_equal(scores(rows), rows[:, 0])
    assert not any(model.kept)
