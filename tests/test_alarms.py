"""Alarms by hand-made scores, thresholds against known distributions and counts."""

import itertools
import json
import math
import warnings
from functools import partial

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import expon, norm

from madcluster import MADCluster, synthetic
from madcluster.data import segments
from madcluster.service.alarms import (
    Alarm,
    AlarmEvent,
    OnlineAlarms,
    _counts,
    as_frame,
    budget_threshold,
    conformal_threshold,
    events_at_budget,
    false_alarms_per_day,
    find_alarms,
    peaks_threshold,
    quantile_threshold,
)

series = st.lists(st.integers(0, 9), min_size=1, max_size=60)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [(1, 2), (3, 4), (8, 10)]),
        ({"release": 2}, [(1, 4), (8, 11)]),
        ({"release": 2, "min_length": 3}, [(1, 4), (8, 11)]),
        ({"min_length": 2}, [(8, 10)]),
        ({"join": 1}, [(1, 4), (8, 10)]),
        ({"join": 4}, [(1, 10)]),
    ],
)
def test_hysteresis_length_and_joining(options, expected):
    scores = [0, 5, 3, 5, 1, 0, 3, 0, 6, 5, 3, 0]
    assert [alarm[:2] for alarm in find_alarms(scores, 4, **options)] == expected


def test_an_alarm_knows_its_peak():
    alarm = find_alarms([0, 5, 7, 6, 0], 4)[0]
    assert (alarm.peak, alarm.score) == (2, 7.0)


@given(series, st.integers(0, 8))
def test_without_options_alarms_are_the_rows_above_the_threshold(scores, threshold):
    flagged = np.zeros(len(scores), bool)
    for alarm in find_alarms(scores, threshold):
        flagged[alarm.start : alarm.stop] = True
    np.testing.assert_array_equal(flagged, np.asarray(scores) > threshold)


@given(series, st.integers(0, 8), st.integers(0, 8), st.integers(1, 4), st.integers(0, 3))
def test_alarms_are_in_order_apart_and_hold_a_score_above(scores, a, b, min_length, join):
    threshold, release = max(a, b), min(a, b)
    found = find_alarms(scores, threshold, release=release, min_length=min_length, join=join)
    for alarm in found:
        assert alarm.stop - alarm.start >= min_length
        assert alarm.score == max(scores[alarm.start : alarm.stop]) > threshold
        assert scores[alarm.start] > threshold
    for first, second in itertools.pairwise(found):
        assert second.start - first.stop > join


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"release": 5}, "release must not be above"),
        ({"min_length": 0}, "min_length must be a positive integer"),
        ({"join": -1}, "join must be an integer of at least 0"),
        ({"cooldown": -1}, "cooldown must be an integer of at least 0"),
    ],
)
def test_arguments_out_of_range_are_named(options, message):
    for use in (lambda **options: find_alarms([1, 2], 4, **options), partial(OnlineAlarms, 4)):
        with pytest.raises(ValueError, match=message):
            use(**options)


@pytest.mark.parametrize("scores", [[], [[1.0]]])
def test_bad_scores_are_refused(scores):
    with pytest.raises(ValueError, match="scores"):
        find_alarms(scores, 1)


def test_thresholds_are_from_scores_that_are_there():
    with pytest.raises(ValueError, match="scores holds nan in row 1"):
        budget_threshold([1.0, np.nan], 1, 24)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_rows_without_a_score_are_an_alarm_of_their_own_kind(bad):
    found = find_alarms([0, 5, bad, bad, 5, 0, bad], 4, min_length=3, join=2, cooldown=9)
    assert found == [(1, 5, 1, 5.0), (2, 4, 2, math.nan), (6, 7, 6, math.nan)]
    assert [alarm.scored for alarm in found] == [True, False, False]
    assert as_frame(found)["score"].isna().tolist() == [False, True, True]
    assert false_alarms_per_day([0, bad, bad, 5], [0, 0, 0, 0], 4, rows_per_day=4) == 1


@pytest.mark.parametrize(
    ("cooldown", "expected"),
    [
        (0, [(1, 2), (4, 6), (8, 12)]),
        (2, [(1, 2), (4, 6), (8, 12)]),  # rows 2 and 3: the next may begin in row 4
        (3, [(1, 2), (5, 6), (9, 12)]),  # what lasts is reported late
        (7, [(1, 2), (9, 12)]),
        (10, [(1, 2)]),  # row 12 is the first
    ],
)
def test_a_cooldown_puts_an_alarm_off(cooldown, expected):
    scores = [0, 5, 0, 0, 5, 5, 0, 0, 5, 6, 5, 5, 0]
    found = find_alarms(scores, 4, cooldown=cooldown)
    assert [alarm[:2] for alarm in found] == expected


def test_what_was_too_short_has_no_cooldown():
    scores = [0, 5, 0, 5, 5, 0]
    assert [a[:2] for a in find_alarms(scores, 4, min_length=2, cooldown=9)] == [(3, 5)]


# --- as the scores come ---------------------------------------------------------------------------

holes = st.lists(st.integers(0, 9) | st.just(math.nan), min_size=1, max_size=60)
options = st.fixed_dictionaries(
    {"min_length": st.integers(1, 4), "join": st.integers(0, 3), "cooldown": st.integers(0, 6)}
)


def fed(alarms, scores, places, between=lambda alarms: alarms):
    """Events of scores that are cut at some places, also twice at one."""
    events = []
    for part in np.split(np.asarray(scores, float), sorted(min(p, len(scores)) for p in places)):
        events += alarms.update(part)
        alarms = between(alarms)
    return events + alarms.finish()


def ended(events):
    return sorted((e.alarm for e in events if e.kind == "ended"), key=lambda alarm: alarm.start)


@settings(max_examples=300)
@given(holes, st.integers(0, 8), st.integers(0, 8), options, st.lists(st.integers(0, 60)))
def test_alarms_that_ended_are_those_of_the_whole_however_it_is_cut(scores, a, b, options, places):
    options = {"release": min(a, b), **options}
    events = fed(OnlineAlarms(max(a, b), **options), scores, places)
    assert ended(events) == find_alarms(scores, max(a, b), **options)
    for scored in (True, False):  # of each kind one at a time, and none twice
        kinds = [event for event in events if event.alarm.scored is scored]
        assert [event.kind for event in kinds] == ["began", "ended"] * (len(kinds) // 2)
        for first, second in zip(kinds[::2], kinds[1::2], strict=True):
            assert first.alarm.start == second.alarm.start
            assert first.alarm.stop <= second.alarm.stop


@settings(max_examples=100)
@given(holes, st.integers(0, 8), options, st.lists(st.integers(0, 60)))
def test_alarms_go_on_from_their_state(scores, threshold, options, places):
    def again(alarms):
        return OnlineAlarms.from_state(json.loads(json.dumps(alarms.state())))

    expected = fed(OnlineAlarms(threshold, **options), scores, [])
    assert fed(OnlineAlarms(threshold, **options), scores, places, again) == expected


@settings(max_examples=200)
@given(holes, st.integers(0, 8), options)
def test_an_alarm_is_reported_as_soon_as_it_is_certain(scores, threshold, options):
    alarms, begun = OnlineAlarms(threshold, **options), {}
    for row, score in enumerate(scores):
        for kind, alarm in alarms.update([score]):
            if kind == "began":
                begun[alarm.start] = row
    for alarm in find_alarms(scores, threshold, **options):
        row = begun.pop(alarm.start)
        # certain in this row: the alarm is there if nothing follows; and not in the row before
        assert alarm.start in [
            a.start for a in find_alarms(scores[: row + 1], threshold, **options)
        ]
        before = find_alarms(scores[:row], threshold, **options) if row else []
        assert alarm.start not in [a.start for a in before]
    assert begun == {}


def test_an_open_alarm_is_all_that_is_kept():
    alarms = OnlineAlarms(4, join=2)
    size = len(json.dumps(alarms.state()))
    assert alarms.update(np.tile([5.0, 0.0, math.nan], 10_000))[0] == AlarmEvent(
        "began", Alarm(0, 1, 0, 5.0)
    )
    assert (alarms.seen, alarms.reported) == (30_000, 2 * 10_000)
    assert len(json.dumps(alarms.state())) < size + 60


@pytest.mark.parametrize(
    "change",
    [
        {"threshold": "4"},
        {"threshold": math.nan},
        {"release": 5},
        {"seen": -1},
        {"open": [0, 9, 0, 5.0]},
        {"open": [0, 1, 0, 3.0]},
        {"open": [0, 1]},
        {"since": 0.5},
    ],
)
def test_a_state_that_is_none_is_refused(change):
    alarms = OnlineAlarms(4)
    alarms.update([5, 5])
    with pytest.raises((TypeError, ValueError)):
        OnlineAlarms.from_state({**alarms.state(), **change})
    with pytest.raises(ValueError, match=r"scores must be \(n,\), got shape \(1, 2\)"):
        alarms.update([[1, 2]])


@pytest.mark.parametrize(("law", "tolerance"), [(expon(), 0.1), (expon(scale=1e-6), 0.1)])
def test_peaks_follow_an_exponential_tail_beyond_what_was_seen(law, tolerance):
    scores = law.rvs(20_000, random_state=np.random.default_rng(0))
    expected = law.isf(1e-6)
    assert expected > scores.max()
    assert peaks_threshold(scores, 1e-6) == pytest.approx(expected, rel=2 * tolerance)


def test_peaks_hold_their_probability_on_new_data():
    rng = np.random.default_rng(1)
    threshold = peaks_threshold(norm.rvs(size=20_000, random_state=rng) ** 2, 1e-3)
    share = (norm.rvs(size=1_000_000, random_state=rng) ** 2 > threshold).mean()
    assert 0.5e-3 < share < 2e-3


def test_peaks_scale_with_the_scores():
    scores = expon.rvs(size=5000, random_state=np.random.default_rng(2))
    assert peaks_threshold(1e9 * scores) == pytest.approx(1e9 * peaks_threshold(scores), rel=1e-6)


@pytest.mark.parametrize(
    ("scores", "options", "message"),
    [
        (np.zeros(1000), {}, "0 different scores lie above"),
        (np.arange(50.0), {"initial": 0.98}, "at least 10 are needed"),
        (np.arange(9.0), {}, "at least 10 are needed"),
        (np.arange(5000.0), {"probability": 0.5}, "probability must lie in"),
        (np.arange(5000.0), {"initial": 1}, "initial must lie in"),
    ],
)
def test_peaks_refuse_what_has_no_tail(scores, options, message):
    with pytest.raises(ValueError, match=message):
        peaks_threshold(scores, **options)


@settings(max_examples=60)
@given(series, st.floats(0, 5), st.integers(1, 3), st.integers(0, 2))
def test_a_budget_is_kept_and_the_next_lower_score_would_break_it(scores, budget, length, join):
    counted = {"min_length": length, "join": join}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        threshold = budget_threshold(scores, budget, 20, max_share=0.5, **counted)
    found = {t: find_alarms(scores, t, **counted) for t in sorted(set(scores), reverse=True)}
    allowed = budget * len(scores) / 20
    share = {t: sum(a.stop - a.start for a in each) / len(scores) for t, each in found.items()}
    good = list(itertools.takewhile(lambda t: len(found[t]) <= allowed and share[t] <= 0.5, found))
    assert threshold in good
    after = [t for t in found if t < good[-1]]
    if after and len(found[after[0]]) > allowed:
        assert (threshold, caught) == (good[-1], [])
    else:  # more alarms are nowhere to be had
        assert len(found[threshold]) == max(len(found[t]) for t in good)
        assert "does not bind" in str(caught[0].message)


def test_a_budget_that_nothing_uses_up_is_no_permanent_alarm():
    hourly = np.random.default_rng(0).gamma(2, size=4320)  # half a year
    with pytest.warns(
        UserWarning, match=r"budget of 30 alarms a day does not bind: with at most 0\.05"
    ):
        threshold = budget_threshold(hourly, 30, 24, join=6)
    assert 0.01 < (hourly > threshold).mean() <= 0.05
    with pytest.warns(UserWarning, match="does not bind"):
        once = budget_threshold(np.repeat([0.0, 9.0, 0.0], 100), 5, 24, max_share=1)
    assert once == 0  # one alarm, of the rows that stand out


@pytest.mark.parametrize("max_share", [0, -0.1, 1.5, np.nan])
def test_a_share_of_the_rows_is_checked(max_share):
    with pytest.raises(ValueError, match="max_share must"):
        budget_threshold([1, 2], 1, 24, max_share=max_share)


def test_no_budget_is_the_highest_score():
    assert budget_threshold([1, 5, 2, 5], 0, rows_per_day=10) == 5


def test_false_alarms_are_those_that_touch_no_anomaly():
    scores, labels = [0, 9, 0, 9, 0, 9, 0, 0], [0, 0, 0, 1, 0, 0, 0, 0]
    assert false_alarms_per_day(scores, labels, 4, rows_per_day=7) == 2


def test_a_table_of_alarms_takes_the_index_of_the_rows():
    index = pd.date_range("2026-01-01", periods=5, freq="min")
    frame = as_frame(find_alarms([0, 5, 7, 6, 0], 4), index)
    assert list(frame.columns) == ["start", "end", "rows", "peak", "score"]
    assert frame.loc[0, "end"] == index[3]


@pytest.mark.parametrize("index", [None, pd.date_range("2026-01-01", periods=5), pd.RangeIndex(5)])
def test_no_alarms_are_a_table_of_the_same_form(index):
    none, some = as_frame([], index), as_frame([Alarm(1, 3, 2, 5.0)], index)
    assert none.dtypes.to_dict() == some.dtypes.to_dict()
    assert (len(none), len(some)) == (0, 1)


@pytest.mark.parametrize(
    ("rule", "arguments"),
    [
        ("quantile", {"contamination": 0.05}),
        ("peaks", {"probability": 1e-3, "initial": 0.9}),
        ("budget", {"alarms_per_day": 1, "rows_per_day": 500}),
    ],
)
def test_a_detector_is_calibrated_by_name(rule, arguments, tmp_path):
    data = synthetic(n_train=800, n_test=900, n_channels=4, seed=0)
    detector = MADCluster(epochs=1, stride=20).fit(data.train)
    before = detector.threshold_
    assert detector.calibrate(rule, **arguments) is detector
    assert detector.threshold_ != before
    predicted = detector.predict(data.test)
    expected = detector.decision_function(data.test) > detector.threshold_
    np.testing.assert_array_equal(predicted, expected.astype(int))
    detector.save(tmp_path / "d")
    assert MADCluster.load(tmp_path / "d").threshold_ == detector.threshold_


def test_an_unknown_rule_or_no_fit_is_refused():
    with pytest.raises(ValueError, match="not fitted"):
        MADCluster().calibrate("peaks")
    data = synthetic(n_train=800, n_test=900, n_channels=4, seed=0)
    with pytest.raises(ValueError, match="rule must be one of"):
        MADCluster(epochs=1, stride=50).fit(data.train).calibrate("best")


@settings(max_examples=100)
@given(series, st.integers(1, 4), st.integers(0, 4))
def test_alarms_are_counted_at_all_thresholds_at_once(scores, min_length, join):
    values = np.asarray(scores, dtype=float)
    thresholds = np.unique(values)[::-1]
    counted = {"min_length": min_length, "join": join}
    found = [find_alarms(values, t, **counted) for t in thresholds]
    counts, rows = _counts(values, thresholds, min_length, join)
    assert counts.tolist() == [len(alarms) for alarms in found]
    assert rows.tolist() == [sum(a.stop - a.start for a in alarms) for alarms in found]


def test_quantile_threshold_leaves_the_share_above():
    scores = np.arange(1000.0)
    assert (scores > quantile_threshold(scores, 0.05)).mean() == pytest.approx(0.05)
    for contamination in (0.0, 1.0):
        with pytest.raises(ValueError, match="contamination"):
            quantile_threshold(scores, contamination)


@pytest.mark.parametrize("n", [40, 100, 238, 999, 1000, 5000])
def test_the_tail_of_few_rows_begins_lower(n):
    scores = np.random.default_rng(0).exponential(size=n)
    by_itself = peaks_threshold(scores, 1e-3)
    assert by_itself == peaks_threshold(scores, 1e-3, initial=min(0.98, 1 - 20 / n))
    assert by_itself > np.quantile(scores, 0.9)


# --- conformal ------------------------------------------------------------------------------------


def test_conformal_by_hand():
    scores = np.arange(100.0)  # ten blocks of ten with peaks 9, 19 … 99
    assert conformal_threshold(scores, 0.1, block=10) == 99  # rank ⌈.9 · 11⌉ = 10
    assert conformal_threshold(scores, 0.5, block=10) == 59  # rank ⌈.5 · 11⌉ = 6
    assert conformal_threshold(np.append(1e9, scores), 0.1, block=10) == 99  # fills no block


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.sampled_from([0.05, 0.1, 0.3]))
def test_a_new_block_exceeds_it_as_seldom_as_promised(seed, block, probability):
    # exchangeable blocks whose rows are not independent: the guarantee is over the draw of all
    rng = np.random.default_rng(seed)
    draws, n = 300, 25
    common = rng.exponential(size=(draws, n + 1, 1))
    blocks = common + 0.1 * rng.random((draws, n + 1, block))
    exceeded = [
        b[-1].max() > conformal_threshold(b[:-1].ravel(), probability, block=block) for b in blocks
    ]
    # three standard errors of a share of 300
    assert np.mean(exceeded) <= probability + 3 * np.sqrt(probability / draws)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"block": 20}, "100 rows are 5 blocks of 20; a probability of 0.1 needs 9"),
        ({"block": 0}, "block must be a positive integer"),
        ({"probability": 1.0, "block": 1}, "probability must lie in"),
    ],
)
def test_conformal_refuses_what_it_cannot_promise(options, message):
    with pytest.raises(ValueError, match=message):
        conformal_threshold(np.arange(100.0), **{"probability": 0.1, **options})


@given(
    st.lists(st.integers(0, 6), min_size=8, max_size=40),
    st.integers(0, 2**32 - 1),
    st.integers(0, 3),
    st.integers(0, 2),
    st.sampled_from([0.0, 1.0, 3.0]),
)
def test_events_at_a_budget_by_hand(scores, seed, margin, join, budget):
    labels = np.random.default_rng(seed).random(len(scores)) < 0.2
    scores, n = np.array(scores, float), len(scores)
    near = np.array([labels[max(0, i - margin) : i + margin + 1].any() for i in range(n)])
    assume(labels.any() and not near.all())
    found = events_at_budget(
        scores, labels, alarms_per_day=budget, rows_per_day=10, margin=margin, join=join
    )
    above = segments(labels)
    late = [np.flatnonzero(scores[a:b] > found.threshold) for a, b in above]
    late = [each[0] for each in late if len(each)]
    assert found.share == len(late) / len(above)
    assert found.delay == np.median(late) if late else np.isnan(found.delay)
    # the budget is of normal rows, in days of them
    held = np.where(near, scores.min(), scores)
    alarms = find_alarms(held, found.threshold, join=join)
    assert len(alarms) <= budget * (~near).sum() / 10
    assert found.threshold in scores


@pytest.mark.parametrize(
    ("labels", "message"),
    [([0, 0, 0], "0 events"), ([1, 1, 1], "0 normal rows"), ([0, 1], "shape")],
)
def test_events_and_normal_rows_must_be_there(labels, message):
    with pytest.raises(ValueError, match=message):
        events_at_budget([1.0, 2.0, 3.0], labels, alarms_per_day=1, rows_per_day=1)
