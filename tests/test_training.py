"""The training loop on toys: what it keeps, what it repeats, what it refuses."""

import copy
import inspect
import math
import random
import sys
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from madcluster import MADCluster
from madcluster.heads import Head, build
from madcluster.models import Embedder, Embedding
from madcluster.scoring import score
from madcluster.training import (
    Batches,
    Config,
    NonFiniteLossError,
    _Means,
    _optimizer,
    fit,
    flushed_denormals,
    resolve_device,
    seed_everything,
    split_tail,
)


def series(n=400, c=3, seed=0):
    rng = np.random.default_rng(seed)
    phase = np.arange(n)[:, None] / np.array([7.0, 11.0, 13.0])[:c]
    return (np.sin(phase) + 0.1 * rng.normal(size=(n, c))).astype(np.float32)


def small(head=True, **options):
    torch.manual_seed(0)
    return build(
        "deepsvdd",
        n_channels=3,
        window=20,
        head=partial(Head, **options) if head else None,
        options={"d": 8},
    )


CONFIG = Config(window=20, stride=2, epochs=3, batch_size=16)


class Scripted(Embedder):
    """Validation losses as given; the weight counts the epochs."""

    def __init__(self, losses):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.losses, self.epoch, self.d = losses, -1, 1

    def prepare(self, batches, epoch):
        self.epoch = epoch
        nn.init.constant_(self.weight, float(epoch))

    def forward(self, x):
        value = torch.tensor(self.losses[self.epoch])
        return Embedding(x, value + 0 * self.weight, x[..., 0])


def test_a_run_repeats_bit_for_bit_and_another_seed_differs():
    runs = []
    for seed in (0, 0, 1):
        model = small()
        history = fit(model, series(), Config(**{**vars(CONFIG), "seed": seed}))
        runs.append((model.state_dict(), history.frame().drop(columns="seconds")))
    assert all(torch.equal(runs[0][0][name], runs[1][0][name]) for name in runs[0][0])
    assert runs[0][1].equals(runs[1][1])
    assert not runs[0][1].equals(runs[2][1])


def test_fit_leaves_the_callers_random_state_alone():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    fit(small(), series(), CONFIG)  # `small` seeds with 0, so draw from there
    torch.manual_seed(3)
    assert torch.equal(torch.rand(2), expected)
    torch.manual_seed(3)
    model = small()
    state = torch.get_rng_state()
    fit(model, series(), CONFIG)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("losses", "best", "run", "stopped"),
    [
        ([3.0, 1.0, 2.0, 2.0, 0.5], 1, 4, "patience"),
        ([3.0, 2.0, 1.0, 0.5, 0.1], 4, 5, "epochs"),
        ([0.0, 0.0, 0.0, 0.0, 0.0], 4, 5, "epochs"),  # equal losses: the later epoch
    ],
)
def test_the_best_weights_are_kept(losses, best, run, stopped):
    model = Scripted(losses)
    history = fit(model, series(), Config(window=20, epochs=5, patience=2))
    assert (history.best_epoch, len(history.epochs), history.stopped) == (best, run, stopped)
    assert model.weight.item() == pytest.approx(best, abs=0.01)  # weight decay moves it a little
    assert not model.training


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_with_its_place(value):
    with pytest.raises(NonFiniteLossError, match="epoch 1, step 0"):
        fit(Scripted([1.0, value]), series(), Config(window=20, epochs=2))


@pytest.mark.parametrize(("device", "asked_at"), [("cpu", 41), ("cuda", 64)])
def test_a_device_that_works_ahead_is_asked_seldom(device, asked_at):
    means = _Means(2, torch.device(device))
    losses = [math.nan if step == 40 else 1.0 for step in range(70)]
    for step, loss in enumerate(losses, 1):
        if step == asked_at:
            with pytest.raises(NonFiniteLossError, match="nan in epoch 2, step 40"):
                means.add(1, torch.tensor(loss))
            break
        means.add(1, torch.tensor(loss))


def test_means_are_over_windows_and_a_loss_at_the_end_is_looked_at():
    means = _Means(0, torch.device("cuda"))
    means.add(3, torch.tensor(1.0), {"part": torch.tensor(2.0)})
    means.add(1, torch.tensor(5.0), {"part": torch.tensor(4.0), "seldom": torch.tensor(7.0)})
    assert means.of() == (2.0, {"part": 2.5, "seldom": 7.0})
    means.add(1, torch.tensor(math.inf))
    with pytest.raises(NonFiniteLossError, match="inf in epoch 0, step 2"):
        means.of()


def test_the_test_of_the_tail_sees_no_training_row():
    x = series(400)
    seen = []

    class Spy(Scripted):
        def forward(self, x):
            seen.append((self.training, x[..., 0].min().item(), x[..., 0].max().item()))
            return super().forward(x)

    x[:, 0] = np.arange(400)
    fit(Spy([1.0]), x, Config(window=20, epochs=1, validation=0.25))
    assert max(high for training, _, high in seen if training) == 299
    assert min(low for training, low, _ in seen if not training) == 300


class Mean(Scripted):
    """The loss of a batch is the mean of the first channel at its windows' starts."""

    def forward(self, x):
        return Embedding(x, x[:, 0, 0].mean() + 0 * self.weight, x[..., 0])


def test_losses_are_means_over_windows_whatever_the_last_batch_holds():
    x = series(100)
    x[:, 0] = np.arange(100) ** 2
    config = Config(window=20, stride=1, epochs=1, batch_size=16, validation=0.4)
    row = fit(Mean([0.0]), x, config).epochs[0]  # 41 windows and 21: 9 and 5 in the last batches
    assert row["train"] == pytest.approx(np.mean(np.arange(41.0) ** 2))
    assert row["validation"] == pytest.approx(np.mean(np.arange(60.0, 81) ** 2))


def test_rows_to_validate_on_can_be_given_and_all_of_train_is_trained_on():
    tail = series(seed=1)
    given = fit(small(), series(), CONFIG, held_out=tail)
    assert given.epochs[0]["validation"] != fit(small(), series(), CONFIG).epochs[0]["validation"]
    again = fit(small(), series(), CONFIG, held_out=tail + 5)
    assert given.epochs[0]["train"] == again.epochs[0]["train"]
    assert given.epochs[0]["validation"] < again.epochs[0]["validation"]
    with pytest.raises(ValueError, match=r"held_out must be .* window of 20 rows"):
        fit(small(), series(), CONFIG, held_out=tail[:10])


def test_a_fit_is_its_loop_written_out():
    x = series(100)
    config = Config(
        window=20, stride=2, epochs=4, batch_size=8, lr=0.03, lr_decay=0.5, validation=0.4, seed=3
    )
    ours, theirs = small(), small()
    history = fit(ours, x, config)
    train, tail = (torch.as_tensor(v).unfold(0, 20, 2).mT for v in (x[:60], x[60:]))
    rest = [p for name, p in theirs.named_parameters() if name != "head.theta"]
    groups = [{"params": rest, "weight_decay": 1e-5}, {"params": [theirs.head.theta]}]
    optimizer = torch.optim.Adam(groups, lr=0.03, amsgrad=True)
    generator = torch.Generator().manual_seed(3)
    rows = []
    for epoch in range(4):
        optimizer.param_groups[0]["lr"] = 0.03 * 0.5**epoch
        theirs.prepare([train], epoch)
        losses = []
        for index in torch.randperm(len(train), generator=generator).split(8):
            optimizer.zero_grad()
            value = theirs.train()(train[index]).loss
            value.backward()
            optimizer.step()
            losses += [value.item()] * len(index)
        with torch.no_grad():
            held_out = theirs.eval()(tail[:8]).loss * 8 + theirs(tail[8:]).loss * 3
        state = {name: value.clone() for name, value in theirs.state_dict().items()}
        rows.append((np.mean(losses), held_out.item() / 11, state))
    got = history.frame()[["train", "validation"]].to_numpy()
    np.testing.assert_allclose(got, [row[:2] for row in rows], rtol=1e-4)
    torch.testing.assert_close(dict(ours.state_dict()), rows[history.best_epoch][2])


class Noisy(Scripted):
    """A network that draws while it trains, as one with dropout does."""

    def forward(self, x):
        return Embedding(x, torch.rand(()) + 0 * self.weight, x[..., 0])


def test_what_a_network_draws_is_seeded_too():
    runs = []
    for outside, seed in ((1, 0), (2, 0), (1, 1)):
        torch.manual_seed(outside)
        history = fit(Noisy([0.0]), series(), Config(window=20, epochs=1, seed=seed))
        runs.append(history.epochs[0]["train"])
    assert runs[0] == runs[1] != runs[2]


@pytest.mark.parametrize("terms", ["distance", "cluster", "both"])
def test_the_head_trains_on_the_terms_it_is_asked_for(terms):
    model = small(terms=terms, outer_log=False).train()
    out = model(torch.as_tensor(series())[None, :20])
    expected = {"distance": 0.0, "cluster": 0.0} | (
        out.parts if terms == "both" else {terms: out.parts[terms]}
    )
    assert out.loss.item() == pytest.approx(float(expected["distance"] + expected["cluster"]))


def test_smoothing_is_for_training_alone():
    hard, smooth = small().eval(), small(label_smoothing=0.3).eval()
    x = torch.as_tensor(series())[None, :20]
    torch.testing.assert_close(hard(x).score, smooth(x).score)
    assert hard.train()(x).loss.item() > smooth.train()(x).loss.item()


def test_history_holds_every_part():
    history = fit(small(), series(), CONFIG)
    frame = history.frame()
    assert {"train", "validation", "distance", "cluster", "threshold", "lr", "seconds"} <= set(
        frame.columns
    )
    assert len(frame) == 3
    assert frame["lr"].to_list() == pytest.approx([1e-3, 9e-4, 8.1e-4])


def test_the_threshold_takes_no_decay():
    model = small()
    optimizer, _ = _optimizer(model, Config(weight_decay=0.1))
    assert [p is model.head.theta for p in optimizer.param_groups[1]["params"]] == [True]
    assert optimizer.param_groups[1]["weight_decay"] == 0
    assert all(p is not model.head.theta for p in optimizer.param_groups[0]["params"])


def test_any_decay_shrinks_what_sees_a_channel_that_stands_still():
    x = np.pad(np.random.default_rng(0).normal(size=(600, 2)), ((0, 0), (0, 1)))  # the third is 0

    def weights(decay, train=True):
        made = MADCluster(
            window=20, stride=10, epochs=3, options={"d": 8}, weight_decay=decay, train=train
        )
        first = next(p for p in made.fit(x).model_.parameters() if p.ndim == 3)
        return first[:, 2].detach()

    start = weights(0.0, train=False)
    assert torch.equal(weights(0.0), start)
    small, large = weights(1e-5).norm(), weights(1e-3).norm()
    assert small < 0.99 * start.norm()
    assert small == pytest.approx(large.item(), rel=0.05)


def test_the_rate_of_the_threshold_does_not_decay():
    optimizer, scheduler = _optimizer(small(), Config(lr=1e-2, lr_decay=0.5))
    for epoch in range(4):
        rates = [group["lr"] for group in optimizer.param_groups]
        assert rates == pytest.approx([1e-2 * 0.5**epoch, 1e-2])
        optimizer.step()
        scheduler.step()


def test_the_step_is_that_of_amsgrad():
    """The largest second moment so far divides: one large gradient is never forgotten."""
    model, rate, decay = Scripted([0.0]), 0.1, 0.01
    optimizer, _ = _optimizer(model, Config(lr=rate, weight_decay=decay))
    weight = first = second = largest = 0.0
    for step, slope in enumerate([10.0] + [0.1] * 50, start=1):
        model.weight.grad = torch.tensor(slope)
        optimizer.step()
        gradient = slope + decay * weight
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        largest = max(largest, second)
        moments = first / (1 - 0.9**step), math.sqrt(largest / (1 - 0.999**step))
        weight -= rate * moments[0] / (moments[1] + 1e-8)
        assert model.weight.item() == pytest.approx(weight, rel=1e-4)


@pytest.mark.parametrize("objective", ["one-class", "soft-boundary"])
@pytest.mark.parametrize(("head", "k"), [(True, 1), (True, 3), (False, 1)])
def test_every_objective_trains(objective, head, k):
    model = small(head, k=k, objective=objective, nu=0.1)
    frame = fit(model, series(), Config(window=20, stride=2, epochs=4)).frame()
    assert frame["train"].iloc[-1] < frame["train"].iloc[0]


def test_batches_hold_every_window_once():
    x = torch.arange(30.0)[:, None]
    generator = torch.Generator().manual_seed(0)
    for shuffle in (None, generator):
        batches = Batches(x, window=5, stride=2, batch_size=4, generator=shuffle)
        firsts = torch.cat([batch[:, 0, 0] for batch in batches])
        assert sorted(firsts.tolist()) == list(range(0, 26, 2))
        assert len(batches) == sum(1 for _ in batches)


@pytest.mark.parametrize(("n", "firsts"), [(1, [0]), (2, [0, 14]), (4, [0, 8, 16, 24]), (99, None)])
def test_a_sample_of_batches_is_evenly_spread(n, firsts):
    batches = Batches(torch.arange(30.0)[:, None], window=5, stride=2, batch_size=4)  # 13 windows
    found = batches.sample(n)[:, 0, 0].tolist()
    assert found == (list(range(0, 25, 2)) if firsts is None else firsts)


@pytest.mark.parametrize(
    ("n", "expected"), [(1000, 800), (200, 100), (300, 200), (220, 120), (450, 350)]
)
def test_split_tail_keeps_a_window_on_either_side(n, expected):
    assert split_tail(n, window=100, fraction=0.2) == expected


def test_a_large_tail_leaves_a_window_to_train_on():
    assert split_tail(300, window=100, fraction=0.9) == 100


def test_split_tail_of_a_short_series_warns():
    with pytest.warns(UserWarning, match="less than two windows"):
        assert split_tail(199, window=100, fraction=0.2) == 199


def test_a_fit_without_a_tail_goes_by_the_training_loss():
    model = Scripted([3.0, 1.0, 2.0])
    with pytest.warns(UserWarning, match="less than two windows"):
        history = fit(model, series(39), Config(window=20, epochs=3))
    assert history.frame()["validation"].equals(history.frame()["train"])
    assert history.best_epoch == 1
    assert not model.training


def test_no_loss_is_refused():
    model = build(nn.Linear(3, 4), n_channels=3, window=20, head=None)
    with pytest.raises(ValueError, match="no loss of its own"):
        fit(model, series(), CONFIG)


def test_one_window_is_enough():
    config = Config(window=20, epochs=1)
    with pytest.warns(UserWarning, match="less than two windows"):
        fit(small(), series(20), config)
    assert len(fit(small(), series(20), config, held_out=series(20, seed=1)).epochs) == 1


def test_a_short_series_is_refused():
    with pytest.raises(ValueError, match="at least one window of 20"):
        fit(small(), series(19), CONFIG)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("window", 0),
        ("stride", 1.5),
        ("stride", 101),
        ("epochs", True),
        ("batch_size", -1),
        ("patience", 0),
        ("lr", 0.0),
        ("lr", math.nan),
        ("lr", math.inf),
        ("lr_decay", 1.1),
        ("lr_decay", 0.0),
        ("weight_decay", -1.0),
        ("validation", 1.0),
        ("validation", 0.0),
    ],
)
def test_config_refuses(argument, value):
    with pytest.raises(ValueError, match=argument):
        Config(**{argument: value})


def test_config_takes_the_ends_of_its_ranges():
    ends = {"stride": 1, "window": 1, "epochs": 1, "batch_size": 1, "patience": 1}
    config = Config(**ends, lr=1e-9, lr_decay=1.0, weight_decay=0.0, validation=1e-9)
    assert ends.items() <= vars(config).items()
    assert Config(window=7, stride=7).stride == 7


def test_config_starts_from_the_values_that_the_book_names():
    schedule = {"window": 100, "stride": 10, "epochs": 10, "batch_size": 32, "patience": 5}
    rates = {"lr": 1e-3, "lr_decay": 0.9, "weight_decay": 1e-5, "validation": 0.2}
    assert vars(Config()) == {**schedule, **rates, "seed": 0, "device": "auto", "train": True}
    assert [Config(window=window).stride for window in (1, 9, 25, 300)] == [1, 1, 2, 30]


def test_a_detector_and_a_config_start_from_the_same():
    detector = inspect.signature(MADCluster).parameters
    own = inspect.signature(Config).parameters
    assert {n: detector[n].default for n in own} == {n: p.default for n, p in own.items()}
    assert MADCluster()._config() == Config()


def test_seed_everything_seeds_all_three():
    draws = []
    for seed in (0, 0, 1):
        seed_everything(seed)
        draws.append((random.random(), np.random.rand(), torch.rand(()).item()))  # noqa: NPY002
    assert draws[0] == draws[1]
    assert all(a != b for a, b in zip(draws[1], draws[2], strict=True))


def test_cuda_is_taken_where_it_is_present(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto").type == resolve_device("cuda:1").type == "cuda"
    assert resolve_device("cpu").type == "cpu"


def test_devices():
    assert resolve_device("cpu").type == "cpu"
    with pytest.raises(ValueError, match="device must be"):
        resolve_device("gpu")
    if not torch.cuda.is_available():
        assert resolve_device("auto").type == "cpu"
        with pytest.raises(ValueError, match="no CUDA"):
            resolve_device("cuda")


def flushing():
    return sys.float_info.min / 2 == 0


class Watcher(Embedder):
    """Remembers whether denormal numbers counted as 0 while it worked."""

    def __init__(self):
        super().__init__()
        self.d = 2
        self.scale, self.seen = nn.Parameter(torch.ones(())), []

    def forward(self, x):
        self.seen.append(flushing())
        tiny = self.scale * 1e-39 * x  # below the smallest normal float32
        if len(self.seen) > 1:
            raise KeyError("stopped on the way")
        return Embedding(x, loss=self.scale.square() + tiny.sum(), score=tiny[..., 0])


def test_denormal_numbers_count_as_zero_in_fit_and_score_and_not_after():
    x = np.ones((40, 2), dtype=np.float32)
    model = Watcher()
    scores = score(model, x, window=40)
    assert not scores.any()
    assert not flushing()
    with pytest.raises(KeyError, match="stopped"):
        fit(Watcher(), x, Config(window=10, epochs=1, device="cpu"))
    assert model.seen == [True]
    assert not flushing()


def test_flushing_that_was_on_stays_on():
    torch.set_flush_denormal(True)
    try:
        with flushed_denormals():
            assert flushing()
        assert flushing()
    finally:
        torch.set_flush_denormal(False)
    assert not flushing()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": -1}, "seed must be an integer of at least 0"),
        ({"seed": 1.5}, "seed must be an integer of at least 0"),
        ({"device": 5}, "device must be 'auto', 'cpu' or 'cuda', got 5"),
    ],
)
def test_a_seed_and_a_device_are_looked_at(changes, message):
    with pytest.raises(ValueError, match=message):
        Config(window=20, **changes)


class Recording(Embedder):
    """Notes whether gradients are kept, in training and out of it."""

    def __init__(self):
        super().__init__()
        self.weight, self.d, self.kept = nn.Parameter(torch.ones(())), 1, {}

    def forward(self, x):
        self.kept.setdefault(self.training, set()).add(torch.is_grad_enabled())
        return Embedding(self.weight * x[..., :1], (self.weight * x).mean(), x[..., 0])


def test_gradients_are_kept_in_training_alone():
    model = Recording()
    fit(model, series(), Config(window=20, epochs=1))
    assert model.kept == {True: {True}, False: {False}}


def test_without_a_training_no_weight_moves_and_all_else_is_done():
    torch.manual_seed(0)
    model = small()
    before = copy.deepcopy(dict(model.named_parameters()))
    history = fit(model, series(), Config(window=20, train=False))
    frame = history.frame()
    assert (history.best_epoch, history.stopped, len(frame)) == (0, "untrained", 1)
    assert frame["variance_ratio"].item() == 1
    assert np.isfinite(frame[["train", "validation"]]).all(axis=None)
    for name, weights in model.named_parameters():
        if name != "head.centers":  # they are placed on the embeddings
            assert torch.equal(weights, before[name])
    assert not model.training
    still = small()
    still.load_state_dict({**still.state_dict(), **before})
    slow = fit(still, series(), Config(window=20, epochs=1, lr=1e-12, weight_decay=0.0))
    assert slow.frame()["validation"].item() == pytest.approx(frame["validation"].item(), rel=1e-5)
    with pytest.raises(ValueError, match="train must be True or False"):
        Config(train="auto")
