"""From windows to rows, and smoothing, against their definitions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from madcluster.aggregation import Smoother, aggregated, check_smooth, smoothed


def by_hand(scores, rows, causal):
    after = 0 if causal else (rows - 1) // 2
    before = rows - 1 - after
    return [scores[max(0, i - before) : i + after + 1].mean() for i in range(len(scores))]


@given(st.integers(1, 60), st.integers(1, 90), st.booleans(), st.integers(0, 99))
def test_a_smoothed_score_is_the_mean_of_its_neighbors(n, rows, causal, seed):
    scores = np.random.default_rng(seed).normal(size=n)
    found = smoothed(scores, rows, causal=causal)
    np.testing.assert_allclose(found, by_hand(scores, rows, causal), atol=1e-12)


@given(
    st.integers(1, 20),
    st.booleans(),
    st.lists(st.integers(0, 9), min_size=1, max_size=12),
    st.integers(0, 99),
)
def test_scores_that_come_in_pieces_are_smoothed_alike(rows, causal, sizes, seed):
    scores = np.random.default_rng(seed).normal(size=sum(sizes))
    smoother, parts, row = Smoother(rows, causal=causal), [], 0
    for size in sizes:
        parts.append(smoother.update(scores[row : row + size]))
        row += size
        known = sum(map(len, parts))
        assert known == (row if causal else max(0, row - (rows - 1) // 2))
        assert len(smoother.kept) <= rows + size
    parts.append(smoother.update(scores[:0], last=True))
    expected = smoothed(scores, rows, causal=causal)
    np.testing.assert_allclose(np.concatenate(parts), expected, atol=1e-12)


def test_a_huge_score_leaves_no_trace_in_means_without_it():
    scores = np.random.default_rng(0).normal(size=300)
    glitch = scores.copy()
    glitch[100] = 1e18
    found, usual = (smoothed(each, 20, causal=True) for each in (glitch, scores))
    np.testing.assert_array_equal(
        np.delete(found, range(100, 120)), np.delete(usual, range(100, 120))
    )


def test_off_changes_nothing():
    scores = np.arange(5.0)
    assert smoothed(scores, "off", causal=False) is scores
    assert smoothed(scores, 1, causal=True) is scores
    assert Smoother("off", causal=True).update(scores) is scores


@pytest.mark.parametrize("smooth", [0, -1, 2.0, True, None, "on"])
def test_a_wrong_smooth_is_named(smooth):
    with pytest.raises(ValueError, match="smooth must be 'off' or a positive number of rows"):
        check_smooth(smooth)


def test_a_number_of_numpy_is_one():
    assert check_smooth(np.int64(3)) == 3


@given(st.integers(1, 8), st.integers(0, 30), st.integers(1, 7), st.integers(0, 99))
def test_aggregates_by_hand(window, more, batch_size, seed):
    n = window + more
    steps = np.random.default_rng(seed).normal(size=(n - window + 1, window))  # (b t)
    whole = steps[:, :1]  # (b 1)

    def found(of_windows, aggregate):
        return aggregated(
            lambda starts: of_windows[starts],
            n,
            window=window,
            aggregate=aggregate,
            batch_size=batch_size,
        )

    covering = [range(max(0, r - window + 1), min(r, n - window) + 1) for r in range(n)]
    mean = [np.mean([steps[b, r - b] for b in bs]) for r, bs in enumerate(covering)]
    np.testing.assert_allclose(found(steps, "mean"), mean, atol=1e-12)
    mean = [np.mean([whole[b, 0] for b in bs]) for bs in covering]
    np.testing.assert_allclose(found(whole, "mean"), mean, atol=1e-12)
    last = np.append(steps[0, :-1], steps[:, -1])
    np.testing.assert_array_equal(found(steps, "last"), last)
    means = steps.mean(1)
    expected = np.append(np.full(window - 1, means[0]), means)
    np.testing.assert_allclose(found(steps, "window"), expected, atol=1e-12)
    for aggregate in ("last", "window"):
        expected = np.append(np.full(window - 1, whole[0, 0]), whole[:, 0])
        np.testing.assert_array_equal(found(whole, aggregate), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"aggregate": "max"}, "aggregate must be one of"),
        ({"aggregate": "last", "stride": 2}, "aggregate='last' needs stride 1, got 2"),
        ({"aggregate": "window", "stride": 2}, "aggregate='window' needs stride 1, got 2"),
        ({"stride": 6}, "stride of scoring must be an integer in 1 … 5"),
        ({"stride": True}, "stride of scoring must be an integer in 1 … 5"),
        ({"window": 21}, "20 rows, less than a window of 21"),
    ],
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        aggregated(lambda starts: np.zeros((len(starts), 1)), 20, **{"window": 5, **options})
