"""The drift test against its promise, with blocks that are exchangeable."""

import numpy as np
import pytest
from scipy.stats import binom, kstest
from statsmodels.tsa.stattools import acf

from madcluster.service import drift
from madcluster.service.drift import DriftMonitor, find_period


def test_p_values_of_exchangeable_blocks_are_uniform_and_independent():
    rng = np.random.default_rng(0)
    found = [
        DriftMonitor(rng.normal(size=200), block=10, seed=seed).update(rng.normal(size=100))
        for seed in range(200)
    ]
    p = np.array([each["p_value"] for each in found])  # (200 10)
    assert kstest(p.ravel(), "uniform").pvalue > 0.001
    assert abs(np.corrcoef(p[:, :-1].ravel(), p[:, 1:].ravel())[0, 1]) < 0.1


@pytest.mark.parametrize(("alpha", "known"), [(0.05, 30), (0.2, 30), (0.2, 3)])
def test_a_false_drift_is_no_more_probable_than_promised(alpha, known):
    rng, runs = np.random.default_rng(1), 300
    drifts = sum(
        DriftMonitor(rng.gamma(2, size=4 * known), block=4, alpha=alpha, seed=seed)
        .update(rng.gamma(2, size=800))["drifted"]
        .any()
        for seed in range(runs)
    )
    assert drifts <= binom.ppf(0.999, runs, alpha)


@pytest.mark.parametrize("shift", [-1.5, 1.5])
def test_a_shift_is_found_either_way_and_stays_found(shift):
    rng = np.random.default_rng(2)
    monitor = DriftMonitor(rng.normal(size=1000), block=50)
    calm = monitor.update(rng.normal(size=500))
    assert not calm["drifted"].any()
    moved = monitor.update(rng.normal(shift, size=1500))
    assert moved["drifted"].iloc[-1]
    assert moved["drifted"].is_monotonic_increasing
    assert (moved["level"].mean() > 0.5) == (shift > 0)
    assert moved["stop"].tolist() == list(range(550, 2001, 50))


def test_rows_may_be_cut_anywhere():
    rng = np.random.default_rng(3)
    normal, new = rng.normal(size=300), rng.normal(1, size=437)
    whole = DriftMonitor(normal, block=20, seed=5)
    expected = whole.update(new)
    piecewise = DriftMonitor(normal, block=20, seed=5)
    parts = [piecewise.update(part) for part in np.split(new, [0, 1, 19, 20, 21, 200])]
    assert sum(map(len, parts)) == len(expected) == 21
    values = np.concatenate([part.to_numpy(dtype=float) for part in parts if len(part)])
    np.testing.assert_array_equal(values, expected.to_numpy(dtype=float))
    assert piecewise.wealth == whole.wealth


def test_whole_days_of_a_daily_cycle_are_no_drift():
    def drifts(block, seed):
        rng = np.random.default_rng(seed)
        daily = np.sin(2 * np.pi * np.arange(96 * 60) / 96)
        scores = np.exp(daily + 0.3 * rng.normal(size=len(daily)))
        monitor = DriftMonitor(scores[: 96 * 14], block=block, alpha=0.05, seed=seed)
        return monitor.update(scores[96 * 14 :])["drifted"].any()

    assert find_period(np.sin(2 * np.pi * np.arange(96 * 14) / 96)) == 96
    assert sum(drifts(96, seed) for seed in range(40)) <= binom.ppf(0.999, 40, 0.05)


def test_what_is_possible_is_the_wealth_at_the_mean_of_its_p_values():
    monitor = DriftMonitor(np.arange(3.0), block=1, alpha=0.9)  # 1/alpha is 1.111 …
    # p-values of 1/8 and 1/10. Bets of 1/3 become 11/24, 8/24 and 5/24, with a sum of 1; of each
    # 0.99 are kept and 1/300 of the sum added: (27.425, 20, 12.575)/60. Then times 1.4, 1 and 0.6.
    second = (27.425 * 1.4 + 20 + 12.575 * 0.6) / 60
    assert second == pytest.approx(1.0990)
    assert not monitor.possible(2)
    assert DriftMonitor(np.arange(3.0), block=1, alpha=1 / 1.0989).possible(2)
    assert not DriftMonitor(np.arange(3.0), block=1, alpha=1 / 1.0991).possible(2)
    # where the level lasts, the second p-value is 2/10, and the factors 1.3, 1 and 0.7
    second = (27.425 * 1.3 + 20 + 12.575 * 0.7) / 60
    assert second == pytest.approx(1.07425)
    assert DriftMonitor(np.arange(3.0), block=1, alpha=1 / 1.0742).possible(2, lasts=True)
    assert not DriftMonitor(np.arange(3.0), block=1, alpha=1 / 1.0743).possible(2, lasts=True)
    assert monitor.possible(3)
    assert not monitor.possible(0)


@pytest.mark.parametrize(
    ("known", "lasts", "needed"),
    [(3, False, 16), (15, False, 15), (1000, False, 15), (15, True, 23), (5, True, 68)],
)
def test_few_normal_blocks_need_more_new_ones(known, lasts, needed):
    monitor = DriftMonitor(np.arange(1.0 * known), block=1)
    found = [monitor.possible(blocks, lasts=lasts) for blocks in range(needed + 2)]
    assert found == [False] * needed + [True] * 2


@pytest.mark.parametrize("lasts", [False, True])
def test_what_is_possible_is_what_monitors_do_in_the_mean(lasts):
    new = np.full(8, 9.0) if lasts else np.arange(9.0, 17.0)
    wealth = []
    for seed in range(1500):
        monitor = DriftMonitor(np.arange(5.0), block=1, seed=seed)
        wealth.append(monitor.update(new)["wealth"].iloc[-1])
    error = 4 * np.std(wealth) / len(wealth) ** 0.5
    mean = np.mean(wealth)
    for alpha, possible in ((1 / (mean - error), True), (1 / (mean + error), False)):
        monitor = DriftMonitor(np.arange(5.0), block=1, alpha=alpha)
        assert monitor.possible(8, lasts=lasts) == possible


def test_a_look_at_what_is_possible_changes_nothing():
    rng = np.random.default_rng(6)
    normal, new = rng.normal(size=30), rng.normal(1, size=30)
    asked, other = (DriftMonitor(normal, block=2, seed=1) for _ in range(2))
    for part in np.split(new, 6):
        asked.possible(50)
        assert asked.update(part).equals(other.update(part))
    assert asked.wealth == other.wealth
    asked.update(np.arange(10.0, 110.0))
    assert asked.drifted
    assert asked.possible(0)  # it is found
    for wrong in (-1, 1.5, True):
        with pytest.raises(ValueError, match="blocks must be an integer of at least 0"):
            asked.possible(wrong)
    with pytest.raises(ValueError, match="lasts must be True or False"):
        asked.possible(1, lasts=1)


@pytest.mark.parametrize("period", [24, 96, 288])
def test_a_period_is_found_in_noise_and_none_where_there_is_none(period):
    rng = np.random.default_rng(4)
    phase = 2 * np.pi * np.arange(period * 12) / period
    rows = np.c_[np.sin(phase), np.cos(phase) + 0.5 * np.sin(2 * phase), np.ones(len(phase))]
    noisy = rows + 0.3 * rng.normal(size=rows.shape)
    assert abs(find_period(noisy) - period) <= max(1, period // 50)
    assert find_period(rng.normal(size=(1000, 3))) is None
    assert find_period(np.ones((100, 2))) is None
    assert find_period(np.arange(4.0)) is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"block": 50}, r"100 scores, 2 blocks of 50: at least 3"),
        ({"block": 0}, "block must"),
        ({"block": 10, "alpha": 1}, "alpha must"),
    ],
)
def test_arguments_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        DriftMonitor(np.arange(100.0), **arguments)


def test_scores_are_checked():
    monitor = DriftMonitor(np.arange(100.0), block=10)
    with pytest.raises(ValueError, match="scores holds nan in row 1"):
        monitor.update([1.0, np.nan])
    with pytest.raises(ValueError, match="normal must be"):
        DriftMonitor([], block=1)
    assert monitor.update([]).empty


def test_none_and_some_blocks_have_the_same_form():
    monitor = DriftMonitor(np.arange(100.0), block=10)
    none, some = monitor.update([1.0]), monitor.update(np.arange(30.0))
    assert none.dtypes.to_dict() == some.dtypes.to_dict()
    assert (len(none), len(some)) == (0, 3)


def test_the_autocorrelation_is_that_of_statsmodels():
    x = np.random.default_rng(0).normal(5, 2, (101, 3)).cumsum(0)
    found = drift._autocorrelation(x)
    for channel, each in zip(x.T, found.T, strict=True):
        np.testing.assert_allclose(each, acf(channel, nlags=100, fft=False), atol=1e-12)
