"""Streams give the scores of `decision_function`, however the rows are cut."""

import json
from functools import partial
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small import SMALL

from madcluster import MADCluster, synthetic
from madcluster.detectors import Mahalanobis
from madcluster.heads import HEADS, SCORES, ContrastiveHead, Head, build
from madcluster.service import checkpoints
from madcluster.service.alarms import OnlineAlarms, find_alarms
from madcluster.service.checkpoints import CheckpointError
from madcluster.service.groups import StreamGroup
from madcluster.service.streams import FORMAT, KIND, Stream, pieces

QUICK = {"epochs": 1, "stride": 10, "score_stride": 1, "window": 20, "batch_size": 32}


@pytest.fixture(scope="module")
def series():
    kinds = ("spike", "level_shift")
    return synthetic(n_train=400, n_test=300, n_channels=4, kinds=kinds, per_kind=1, seed=0)


@pytest.fixture(scope="module")
def fitted(series):
    def fit(embedder="deepsvdd", **options):
        arguments = {**QUICK, "options": SMALL.get(embedder), **options}
        return MADCluster(embedder, **arguments).fit(series.train)

    return fit


@pytest.fixture(scope="module")
def causal(fitted):
    return fitted(aggregate="last")


@pytest.fixture(scope="module")
def mean(fitted):
    return fitted(aggregate="mean")


@pytest.fixture(scope="module")
def strided(fitted):
    return {
        (stride, smooth): fitted(score_stride=stride, smooth=smooth)
        for stride in (2, 7, 10, 20)
        for smooth in ("off", 6)
    }


def cut(rows, places):
    places = sorted({p for p in places if 0 < p < len(rows)})
    return np.split(rows, places)


def fed(stream, rows, places=()):
    return np.concatenate([stream.update(part) for part in cut(rows, places)])


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 300), max_size=40))
def test_causal_scores_are_those_of_the_batch_however_the_rows_are_cut(series, causal, places):
    expected = causal.decision_function(series.test)
    found = fed(causal.stream(), series.test, places)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("stride", [2, 7, 10, 20])
@pytest.mark.parametrize("smooth", ["off", 6])
@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(0, 300), max_size=40), st.integers(20, 300))
def test_a_stream_has_the_windows_of_the_batch(series, strided, stride, smooth, places, n):
    detector, rows = strided[stride, smooth], series.test[:n]
    stream = detector.stream()
    found = fed(stream, rows, places)
    assert len(found) >= n - 20 - (0 if smooth == "off" else 3)
    assert stream._piece.rows.shape == (20, 4)
    found = np.append(found, stream.finish())
    np.testing.assert_allclose(found, detector.decision_function(rows), rtol=1e-5, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 300), max_size=40))
def test_means_are_those_of_the_batch_with_a_delay(series, mean, places):
    stream = mean.stream()
    found = fed(stream, series.test, places)
    assert len(found) == stream.scored == len(series.test) - QUICK["window"] + 1
    found = np.append(found, stream.finish())
    np.testing.assert_allclose(found, mean.decision_function(series.test), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("embedder", SMALL)
@pytest.mark.parametrize("head", [*HEADS, "none"])
def test_every_embedder_streams(series, fitted, embedder, head):
    """In blocks, one row at a time, and beside other streams, with any aggregate."""
    detector = fitted(embedder, head=head).as_fitted
    rows = series.test[:60]
    for aggregate in ("last", "window", "mean"):
        detector.aggregate = aggregate
        group = StreamGroup({name: detector.stream() for name in ("whole", "late", "rows")})
        cuts = {"whole": [1, 19, 20, 21, 50], "late": [30, *range(31, 60)], "rows": range(60)}
        parts = {name: [] for name in group}
        for start in range(60):
            now = {
                name: rows[start : min((c for c in cuts[name] if c > start), default=60)]
                for name in group
                if start == 0 or start in cuts[name]
            }
            for name, scores in group.update(now).items():
                parts[name].append(scores)
        alone = detector.stream()
        parts["alone"] = [alone.update(row) for row in rows]
        for name, stream in {**group, "alone": alone}.items():
            found = np.append(np.concatenate(parts[name]), stream.finish())
            np.testing.assert_allclose(
                found, detector.decision_function(rows), rtol=1e-4, atol=1e-5, err_msg=name
            )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n_layers", [0, 1, 2, 4])
@pytest.mark.parametrize("objective", ["one-class", "soft-boundary"])
def test_a_memory_of_many_series_is_window_by_window(dtype, n_layers, objective):
    torch.manual_seed(0)
    rtol = 1e-9 if dtype == torch.float64 else 1e-4
    options = {"d": 6, "n_layers": n_layers, "objective": objective}
    paper = partial(Head, threshold=0.3)
    cases = [(None, "head")]
    cases += [(paper, score) for score in SCORES] + [(ContrastiveHead, "head")]
    for head, score in cases:
        model = build("deepsvdd", n_channels=3, window=20, head=head, score=score, options=options)
        model.to(dtype).prepare([torch.randn(20, 20, 3, dtype=dtype)], 0)
        model.eval().finish([torch.randn(20, 20, 3, dtype=dtype)])
        x = torch.randn(5, 60, 3, dtype=dtype)
        with torch.no_grad():
            out = model(x.unfold(1, 20, 1).transpose(2, 3).flatten(0, 1))
        h, score = (each.unflatten(0, (5, 41))[:, :, -1] for each in (out.h, out.score))
        memory, seen = model.memory(5), np.zeros(5, int)
        for turn in range(145):  # some of them at a time, in any order
            series = np.random.default_rng(turn).permutation(5)[: 1 + turn % 3]
            series = series[seen[series] < 60]
            found_h, found = memory.step(series, x.numpy()[series, seen[series]])
            seen[series] += 1
            whole = seen[series] >= 20
            places = series[whole], seen[series][whole] - 20
            np.testing.assert_allclose(found_h[whole], h[places], rtol=rtol, atol=rtol)
            np.testing.assert_allclose(found[whole], score[places], rtol=rtol, atol=rtol)
        assert seen.min() > 45


@pytest.mark.parametrize("place", [20, 21, 25, 150])
def test_rows_one_at_a_time_go_on_from_a_file_to_the_bit(series, causal, tmp_path, place):
    stream = causal.stream()
    stream.update(series.test[:place])
    for row in series.test[place : place + 3]:
        stream.update(row)
    stream.save(tmp_path / "state")
    again = Stream.load(tmp_path / "state", causal)
    rows = series.test[place + 3 : place + 30]
    for start, stop in pairwise([0, 1, 2, 9, 10, 13, 14, 20, 27]):  # alone, few and many
        found = (each.update(rows[start:stop]) for each in (stream, again))
        np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("n_layers", [1, 2, 4])
@pytest.mark.parametrize("objective", ["one-class", "soft-boundary"])
@pytest.mark.parametrize("score", ["head", "distance", "cluster", "mahalanobis"])
def test_one_pass_over_last_steps_is_window_by_window(series, fitted, n_layers, objective, score):
    detector = fitted(
        objective=objective, score_from=score, window=40, options={"d": 6, "n_layers": n_layers}
    )
    model = detector.model_.double()
    x = torch.tensor(series.test[:120]).double()
    windows = x.unfold(0, 40, 1).transpose(1, 2)
    with torch.no_grad():
        expected = model(windows)
        found = model.last_steps()(x)
    n = len(windows)
    torch.testing.assert_close(found.h[0, -n:], expected.h[:, -1], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found.score[0, -n:], expected.score[:, -1], rtol=1e-9, atol=1e-9)


def test_more_clusters_look_at_the_whole_window(series, fitted):
    detector = fitted(k=3, aggregate="last")
    assert detector.model_.last_steps() is None
    found = fed(detector.stream(), series.test[:60], [30])
    np.testing.assert_allclose(
        found, detector.decision_function(series.test[:60]), rtol=1e-5, atol=1e-6
    )


def test_one_row_may_be_given_as_it_is(series, causal):
    stream = causal.stream()
    stream.update(series.test[:50])
    assert stream.update(series.test[50]).shape == (1,)
    assert (stream.seen, stream.scored) == (51, 51)


def test_rows_of_a_frame_are_checked_by_name(series, causal):
    names = ["inflow", "outflow", "level", "heat"]
    frame = pd.DataFrame(series.test, columns=names)
    detector = MADCluster(**QUICK, options={"d": 8}, aggregate="last")
    stream = detector.fit(pd.DataFrame(series.train, columns=names)).stream()
    stream.update(frame[:50])
    for row in (frame.iloc[50, ::-1], frame.iloc[50, :3]):
        with pytest.raises(ValueError, match="feature names should match"):
            stream.update(row)
    assert stream.seen == 50
    found = np.concatenate([stream.update(frame.iloc[50]), stream.update(frame[51:60])])
    expected = detector.decision_function(frame[:60])[50:]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"score_stride": 7}, {"smooth": 6}])
@pytest.mark.parametrize("aggregate", ["last", "window", "mean"])
def test_a_block_larger_than_the_work_in_hand_is_the_same(
    series, fitted, monkeypatch, aggregate, options
):
    detector = fitted(aggregate=aggregate, **options)
    expected = detector.decision_function(series.test)
    for block in (7, 33):
        monkeypatch.setattr("madcluster.service.streams.BLOCK", block)
        stream = detector.stream()
        found = np.append(fed(stream, series.test), stream.finish())
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_memory_holds_a_window_and_no_more(series, causal):
    stream = causal.stream()
    for _ in range(5):
        stream.update(series.test)
    for row in series.test:
        stream.update(row)
    assert stream._piece.rows.shape == (QUICK["window"] - 1, 4)
    assert stream._piece.rows.base.shape == (2 * (QUICK["window"] - 1), 4)


@pytest.mark.parametrize("aggregate", ["last", "mean"])
@pytest.mark.parametrize("place", [5, 19, 20, 150])
def test_a_stream_goes_on_from_a_file(series, fitted, tmp_path, aggregate, place):
    detector = fitted(aggregate=aggregate)
    whole, first = detector.stream(), detector.stream()
    expected = fed(whole, series.test, [place])
    begun = first.update(series.test[:place])
    first.save(tmp_path / "state")
    detector.save(tmp_path / "detector")
    second = Stream.load(tmp_path / "state", MADCluster.load(tmp_path / "detector"))
    found = np.concatenate([begun, second.update(series.test[place:])])
    np.testing.assert_array_equal(found, expected)
    assert not list(tmp_path.glob("*.part"))


def test_a_stream_of_another_detector_is_refused(series, fitted, causal, tmp_path):
    stream = causal.stream()
    stream.update(series.test[:30])
    stream.save(tmp_path / "state")
    with pytest.raises(CheckpointError, match="has window 20, expected 30"):
        Stream.load(tmp_path / "state", fitted(window=30))
    for other in ({"seed": 1}, {"scaler": "standard"}, {"clip": 2.0}, {"score_from": "distance"}):
        with pytest.raises(CheckpointError, match="another scaler or other weights"):
            Stream.load(tmp_path / "state", fitted(aggregate="last", **other))
    again = fitted(aggregate="last").calibrate("quantile", contamination=0.1)
    assert Stream.load(tmp_path / "state", again).seen == 30
    with pytest.raises(FileNotFoundError, match="there is no file"):
        Stream.load(tmp_path / "other", causal)


@pytest.mark.parametrize("damage", [b"", b"\x00" * 64, b"{}"])
def test_a_damaged_file_is_refused(causal, tmp_path, damage):
    (tmp_path / "state").write_bytes(damage)
    with pytest.raises(CheckpointError, match="not a whole file of kind"):
        Stream.load(tmp_path / "state", causal)


def test_a_checkpoint_is_no_stream(causal, tmp_path):
    causal.save(tmp_path / "detector")
    with pytest.raises(CheckpointError, match="not a whole file of kind"):
        Stream.load(tmp_path / "detector", causal)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.zeros((2, 3)), "rows has 3 features, but MADCluster is expecting 4"),
        (np.array([[1, 2, np.nan, 4]]), "rows holds NaN in row 0, channel 2"),
        (np.zeros((2, 0)), "rows is empty"),
    ],
)
def test_bad_rows_are_refused_and_none_is_taken(series, causal, rows, message):
    stream = causal.stream()
    stream.update(series.test[:30])
    with pytest.raises(ValueError, match=message):
        stream.update(rows)
    assert stream.seen == 30


def test_arguments_are_checked(causal):
    with pytest.raises(ValueError, match="not fitted"):
        MADCluster().stream()
    with pytest.raises(ValueError, match="aggregate must be one of"):
        causal.stream(aggregate="median")
    with pytest.raises(ValueError, match="less than a window"):
        causal.stream(aggregate="mean").finish()


# --- rows as they are -----------------------------------------------------------------------------

MINUTE = pd.Timedelta("1min")
POLICIES = [("hold", 0), ("hold", 2), ("mask", 0)]
WAYS = [
    {"aggregate": "last"},
    {"aggregate": "last", "smooth": 4},
    {"aggregate": "mean"},
    {"aggregate": "mean", "smooth": 5},
    {"score_stride": 4},
]


def in_pieces(detector, frame, missing, max_hold, max_step):
    """What the docstring of Stream promises, by `decision_function` of each piece alone."""
    scores, marked = np.full(len(frame), np.nan), np.zeros(len(frame), bool)
    steps = frame.index.to_series().diff() > max_step
    for _, rows in frame.groupby(steps.cumsum().to_numpy()):
        absent = rows.isna()
        if missing == "hold":
            whole = rows.ffill(limit=max_hold) if max_hold else rows
            usable = whole.notna().all(axis=1)
        else:
            scaler = detector.scaler_
            whole = rows.fillna(pd.Series(detector.median_ * scaler.scale + scaler.shift))
            usable = ~absent.all(axis=1)
        marked[frame.index.get_indexer(rows.index)] = usable & absent.any(axis=1)
        for _, run in whole.groupby((usable != usable.shift()).cumsum()):
            if usable[run.index[0]] and len(run) >= detector.window:
                scores[frame.index.get_indexer(run.index)] = detector.decision_function(run)
    return scores, marked


@pytest.fixture(scope="module")
def ways(series):
    options = {**QUICK, "window": 6, "stride": 5, "options": {"d": 4, "n_layers": 2}}
    network = 0, len(WAYS) - 1
    made = [
        MADCluster(**{**options, **way}) if i in network else Mahalanobis(window=6, **way)
        for i, way in enumerate(WAYS)
    ]
    return [detector.fit(series.train) for detector in made]


def as_they_come(series, gaps, holes):
    """Rows with gaps before some and values missing from some."""
    steps = np.ones(120)
    steps[[g for g in gaps if g]] = 60
    x = series.test[:120].astype(float).copy()
    for row, channel, length in holes:
        x[row : row + length, channel] = np.nan
    return pd.DataFrame(x, pd.Timestamp("2026-03-01") + np.cumsum(steps) * MINUTE)


@pytest.mark.parametrize(("missing", "max_hold"), POLICIES)
@pytest.mark.parametrize("way", range(len(WAYS)))
@settings(max_examples=15, deadline=None)
@given(
    gaps=st.lists(st.integers(0, 119), max_size=6),
    holes=st.lists(
        st.tuples(st.integers(0, 119), st.integers(0, 3), st.integers(1, 4)), max_size=8
    ),
    places=st.lists(st.integers(0, 120), max_size=10),
)
def test_a_piece_is_scored_as_a_series_of_its_own(
    series, ways, way, missing, max_hold, gaps, holes, places
):
    frame, detector = as_they_come(series, gaps, holes), ways[way]
    alarms = OnlineAlarms(detector.threshold_, join=2)
    stream = detector.stream(missing=missing, max_hold=max_hold, max_step=MINUTE, alarms=alarms)
    parts, marks, events = [], [], []
    cuts = sorted(places)
    for start, stop in pairwise([0, *cuts, 120]):
        parts.append(stream.update(frame.iloc[start:stop]))
        marks.append(stream.marked)
        events += stream.events
    parts.append(stream.finish())
    marks.append(stream.marked)
    events += stream.events
    found, marked = np.concatenate(parts), np.concatenate(marks)
    expected, put = in_pieces(detector, frame, missing, max_hold, MINUTE)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(marked, put)
    assert (stream.seen, stream.scored, stream.unscored) == (120, 120, np.isnan(expected).sum())
    assert stream.filled == frame.isna().to_numpy()[put].sum()
    assert stream.gaps == len(set(gaps) - {0})
    ended = sorted((e.alarm for e in events if e.kind == "ended"), key=lambda a: a.start)
    assert ended == find_alarms(found, detector.threshold_, join=2)


@pytest.mark.parametrize("way", range(len(WAYS)))
@settings(max_examples=15, deadline=None)
@given(gaps=st.lists(st.integers(0, 119), max_size=8), number=st.booleans())
def test_the_batch_knows_gaps_as_the_stream_does(series, ways, way, gaps, number):
    frame, step = as_they_come(series, gaps, []), MINUTE
    if number:
        frame.index, step = (frame.index - frame.index[0]) / MINUTE, 1.5
    stream = ways[way].stream(max_step=step)
    found = np.append(stream.update(frame), stream.finish())
    batch = ways[way].decision_function(frame, max_step=step)
    assert batch.index.equals(frame.index)
    np.testing.assert_allclose(found, batch, rtol=1e-4, atol=1e-5)
    flagged = ways[way].predict(frame, max_step=step)
    np.testing.assert_array_equal(flagged, (batch > ways[way].threshold_) | batch.isna())
    if not set(gaps) - {0}:
        np.testing.assert_array_equal(batch, ways[way].decision_function(frame))
    table = ways[way].alarms(frame, max_step=step)
    assert table["score"].isna().sum() == sum(a.score != a.score for a in find_alarms(batch, 1))


def test_no_window_reaches_across_a_gap(series, ways):
    frame = as_they_come(series, [60], [])
    frame.iloc[:60] += 1e3  # before the gap all is far off
    detector = ways[2]
    across, apart = (detector.decision_function(frame, max_step=s) for s in (None, MINUTE))
    fresh = detector.decision_function(frame.iloc[60:])
    np.testing.assert_allclose(apart[60:], fresh, rtol=1e-5)
    assert (across[60:65] > 2 * fresh[:5]).all()


@pytest.mark.parametrize("place", [3, 31, 34, 50, 61, 119])
@pytest.mark.parametrize("way", range(len(WAYS)))
def test_all_of_it_goes_on_from_a_file(series, ways, tmp_path, way, place):
    holes = [(30, 1, 3), (33, 2, 9), (48, 0, 4), (100, 3, 1)]
    frame = as_they_come(series, [60, 62], holes).tz_localize("Europe/Vienna")
    detector = ways[way]

    def begun():
        alarms = OnlineAlarms(detector.threshold_ / 2, join=3, cooldown=5)
        options = {"missing": "hold", "max_hold": 4, "max_step": MINUTE, "late": "drop"}
        return detector.stream(alarms=alarms, **options)

    def used(stream, rows):
        return stream.update(rows), stream.marked, stream.events

    whole, first = begun(), begun()
    expected = [used(whole, frame.iloc[:place]), used(whole, frame.iloc[place:])]
    found = [used(first, frame.iloc[:place])]
    first.save(tmp_path / "state")
    second = Stream.load(tmp_path / "state", detector)
    assert len(second.update(frame.iloc[:place])) == 0  # sent again
    found.append(used(second, frame.iloc[place:]))
    for one, other in zip(
        [*expected, used(whole, None)], [*found, used(second, None)], strict=True
    ):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])
        assert one[2] == other[2]
    assert (second.dropped, whole.dropped) == (place, 0)
    counts = [(s.seen, s.scored, s.unscored, s.filled, s.gaps) for s in (whole, second)]
    assert counts[0] == counts[1]
    assert whole.alarms.state() == second.alarms.state()
    np.testing.assert_array_equal(whole.finish(), second.finish())
    assert whole.events == second.events


@pytest.mark.parametrize("poll", [None, [], (), np.zeros((0, 4)), pd.DataFrame()])
def test_a_poll_may_bring_nothing(series, causal, poll):
    stream = causal.stream(missing="hold", max_step=1.5, alarms=OnlineAlarms(1))
    for _ in range(2):
        assert stream.update(poll).shape == (0,)
        stream.update(series.test[:30], time=np.arange(30) + stream.seen)
    assert (stream.seen, stream.scored, stream.gaps) == (60, 60, 0)


def test_rows_may_be_dicts_in_any_order(series):
    names = ["inflow", "outflow", "level", "heat"]
    train, test = (pd.DataFrame(x, columns=names) for x in (series.train, series.test))
    detector = Mahalanobis(window=1).fit(train)
    expected = detector.decision_function(test)
    rows = [{name: row[name] for name in names[::-1]} for row in test.to_dict("records")]
    stream = detector.stream()
    found = np.concatenate([stream.update(rows[0]), stream.update(rows[1:50])])
    np.testing.assert_allclose(found, expected[:50])
    for wrong, message in (
        ({**rows[0], "flow": 1.0}, "rows has 'flow' in row 0, which is none of"),
        ([rows[0], {"level": 1.0}], "rows has no '(inflow|outflow|heat)' in row 1"),
        ([{**rows[0], "level": None}], "rows holds NaN in row 0, channel 2"),
        ([{**rows[0], "level": "low"}], "rows must be numbers"),
        ([rows[0], [1, 2, 3, 4]], "rows holds dicts, but row 1 is of type list"),
    ):
        with pytest.raises(ValueError, match=message):
            stream.update(wrong)
    assert stream.seen == 50
    mask = detector.stream(missing="mask")
    lacking = [{"level": row["level"], "heat": None, "inflow": np.inf} for row in rows[:3]]
    assert np.isfinite(mask.update(lacking)).all()
    assert mask.marked.all()
    assert mask.filled == 9
    assert np.isnan(mask.update({})).all()  # a row without any value
    assert (mask.seen, mask.unscored, mask.marked.tolist()) == (4, 1, [False])


def test_channels_without_names_are_known_by_their_numbers(series):
    detector = Mahalanobis(window=1).fit(series.train)
    rows = [dict(enumerate(row)) for row in series.test[:9]]
    np.testing.assert_allclose(
        detector.stream().update(rows), detector.decision_function(series.test[:9])
    )


def test_what_is_masked_counts_as_nothing_unusual(series):
    detector = Mahalanobis(window=1).fit(series.train)
    scaler = detector.scaler_
    row = detector.median_ * scaler.scale + scaler.shift
    usual, broken = row.copy(), row.copy()
    broken[2] = np.nan
    stream = detector.stream(missing="mask")
    np.testing.assert_allclose(stream.update(broken), detector.decision_function(usual[None]))


def test_late_rows_are_refused_or_dropped_and_counted(series, causal):
    expected = causal.decision_function(series.test[:60])
    time = pd.date_range("2026-03-01", periods=60, freq="min")
    twice = np.r_[0:30, 20:30, 30:60, 59]
    for places in ([], [1, 29, 31, 45]):
        stream = causal.stream(late="drop")
        parts = zip(cut(series.test[twice], places), cut(time[twice], places), strict=True)
        found = np.concatenate([stream.update(rows, t) for rows, t in parts])
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
        assert (stream.seen, stream.dropped) == (60, 11)
    stream = causal.stream()
    stream.update(series.test[:30], time[:30])
    with pytest.raises(ValueError, match=r"row 1 is of 2026-03-01 00:29:00, not later than 2026"):
        stream.update(series.test[[30, 29]], time[[30, 29]])
    with pytest.raises(ValueError, match=r"row 0 is of 2026-03-01 00:29:00.*1 such rows"):
        stream.update(pd.DataFrame(series.test[29:40], time[29:40]))  # its index is its time
    np.testing.assert_allclose(stream.update(series.test[30], time[30]), expected[30:31], rtol=1e-5)
    with pytest.raises(ValueError, match="time holds numbers, expected dates"):
        stream.update(series.test[31], 31)
    with pytest.raises(ValueError, match="dates with a zone, but dates came before"):
        stream.update(series.test[31], time[31].tz_localize("UTC"))
    assert (stream.seen, stream.dropped, stream.time) == (31, 0, time[30])


@pytest.mark.parametrize(
    ("time", "message"),
    [
        (None, "rows need times"),
        ([1, 2, 3], r"time has shape \(3,\) for 2 rows"),
        ([1, np.nan], "a number that is not finite"),
        (["a", "b"], "time must hold dates or numbers"),
        (pd.to_datetime(["2026-03-01", None]), "time holds a date that is missing"),
        (pd.to_datetime(["2026-03-01", "2026-03-02"]), "time holds dates, expected numbers"),
    ],
)
def test_times_that_say_nothing_are_refused(series, causal, time, message):
    stream = causal.stream(max_step=1.5)
    with pytest.raises(ValueError, match=message):
        stream.update(series.test[:2], time)
    assert (stream.seen, stream.gaps) == (0, 0)


def test_pieces_are_between_gaps():
    days = pd.to_datetime(["2026-03-01", "2026-03-02", "2026-03-05"])
    assert pieces(days, pd.Timedelta("1D")) == [(0, 2), (2, 3)]
    assert pieces(days.tz_localize("UTC"), np.timedelta64(1, "D")) == [(0, 2), (2, 3)]
    assert pieces(days, pd.Timedelta("3D")) == [(0, 3)]
    with pytest.raises(ValueError, match="row 1 is of 2, not later than 2"):
        pieces([2, 2, 3], 1)
    with pytest.raises(ValueError, match="time holds dates, expected numbers"):
        pieces(days, 1)
    with pytest.raises(ValueError, match="max_step must be positive"):
        pieces(days, pd.Timedelta(0))
    with pytest.raises(ValueError, match="max_step must be positive"):
        pieces([1, 2], -1)


def test_gaps_in_a_batch_need_times(series, causal):
    with pytest.raises(ValueError, match="max_step needs a DataFrame whose index is the time"):
        causal.decision_function(series.test, max_step=1.5)
    with pytest.raises(ValueError, match="less than a window"):
        Mahalanobis().fit(series.train).decision_function(
            pd.DataFrame(series.test[:5]), max_step=1.5
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"missing": "fill"}, "missing must be one of"),
        ({"late": "sort"}, "late must be one of"),
        ({"max_hold": -1}, "max_hold must be an integer of at least 0"),
        ({"max_step": 0}, "max_step must be positive"),
        ({"max_step": pd.Timedelta(0)}, "max_step must be positive"),
    ],
)
def test_options_are_checked(causal, options, message):
    with pytest.raises(ValueError, match=message):
        causal.stream(**options)


class Garbage(Mahalanobis):
    """Has no score for a row whose first channel is far off."""

    def window_scores(self, z, starts):
        return np.where(z[starts, :1] > 50, np.nan, super().window_scores(z, starts))


def test_a_score_that_is_none_is_an_alarm_and_does_not_break_a_file(series, tmp_path):
    detector = Garbage(window=1, aggregate="mean", smooth=3).fit(series.train)
    rows = series.test[:40].copy()
    rows[10, 0] = 1e9
    alarms = OnlineAlarms(1e9)
    stream = detector.stream(alarms=alarms)
    stream.update(rows[:11])
    stream.save(tmp_path / "state")
    stream = Stream.load(tmp_path / "state", detector)
    found = stream.update(rows[11:])
    assert np.isfinite(found[3:]).all()
    ended = [event.alarm for event in stream.events if event.kind == "ended"]
    assert [(a.start, a.stop, a.scored) for a in ended] == [(9, 12, False)]


@pytest.mark.parametrize("version", [FORMAT - 1, FORMAT + 1])
def test_a_file_of_another_format_is_refused(causal, tmp_path, version):
    stream = causal.stream()
    stream.save(tmp_path / "state")
    about, arrays = checkpoints.read(tmp_path / "state", KIND, version=FORMAT)
    about.pop("format")
    checkpoints.write(tmp_path / "state", KIND, about, arrays, version=version)
    with pytest.raises(
        CheckpointError, match=rf"has format {version}.*which reads format {FORMAT}"
    ):
        Stream.load(tmp_path / "state", causal)


@pytest.mark.parametrize(
    "change",
    [
        {"seen": 31},
        {"scored": -1},
        {"time": ["years", 1]},
        {"time": ["numbers", "one"]},
        {"max_step": [1]},
        {"piece": {"seen": 30}},
        {"piece": {"seen": 30, "made": 30, "smoothed": 5}},
        {"alarms": {}},
        {"missing": "fill"},
        {"piece": 5},
        {"alarms": "all"},
    ],
)
def test_a_state_that_contradicts_itself_is_refused(series, causal, tmp_path, change):
    stream = causal.stream(max_step=1.5, missing="hold", alarms=OnlineAlarms(1))
    stream.update(series.test[:30], np.arange(30))
    path = tmp_path / "state"
    stream.save(path)
    about, arrays = checkpoints.read(path, KIND, version=FORMAT)
    about = json.loads(json.dumps({**about, **change}))
    checkpoints.write(path, KIND, about, arrays, version=FORMAT)
    with pytest.raises(CheckpointError, match="does not describe a stream"):
        Stream.load(path, causal)
