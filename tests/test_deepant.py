"""DeepAnT against the paper's network run anew on every history, in float64."""

import pytest
import torch
from torch import nn

from madcluster.models import DeepAnT

WINDOW, HISTORY = 20, 14


def model_and_batch(n_channels=3, *, window=WINDOW, history=HISTORY, b=4):
    torch.manual_seed(0)
    model = DeepAnT(n_channels, window=window, d=6, width=5, history=history).double()
    return model, torch.randn(b, window, n_channels).double()


def published(model, rows):
    """Convolution, maximum of two, both again, then dense, on one history (history c) → (d,).

    The poolings halve the length here.
    """
    w, c = model.first.out_channels, len(rows.T)
    first = nn.functional.conv1d(rows.T, model.first.weight, model.first.bias)
    maps = nn.functional.max_pool1d(first.relu(), 2)
    second = nn.functional.conv1d(maps, model.second.weight, model.second.bias)
    maps = nn.functional.max_pool1d(second.relu(), 2)
    assert (c, w, maps.shape[-1]) == (model.first.in_channels, len(maps), (len(rows) - 6) // 4)
    return (model.dense.weight.flatten(1) @ maps.flatten() + model.dense.bias).relu()


def literal(model, window):
    """Embeddings (t d) and scores (t,) of one window (t c), row by row."""
    embeddings, scores = [], []
    for t in range(len(window)):
        rows = [window[max(t - i, 0)] for i in range(model.history - 1, -1, -1)]
        embeddings.append(published(model, torch.stack(rows)))
        if t:
            forecast = model.predict.weight @ embeddings[t - 1] + model.predict.bias
            errors = [(forecast[j] - window[t, j]) ** 2 for j in range(len(forecast))]
            scores.append(sum(errors) / len(errors))
    return torch.stack(embeddings), torch.stack([scores[0], *scores])


@pytest.mark.parametrize("n_channels", [1, 3])
@pytest.mark.parametrize("history", [10, 14, 26])  # the last is longer than the window
def test_embedding_score_and_loss_are_those_of_the_published_network(n_channels, history):
    model, x = model_and_batch(n_channels, history=history)
    found = model(x)
    for i in range(len(x)):
        h, score = literal(model, x[i])
        torch.testing.assert_close(found.h[i], h)
        torch.testing.assert_close(found.score[i], score)
    torch.testing.assert_close(found.loss, found.score[:, 1:].mean())
    torch.testing.assert_close(found.parts["forecast"], found.loss.detach())
    torch.testing.assert_close((model.forecast(x) - x[:, 1:]).square().mean(-1), found.score[:, 1:])


def seen_by(value, x):
    """Rows of the first window on which the value depends."""
    (gradient,) = torch.autograd.grad(value, x, retain_graph=True)
    return gradient[0].abs().sum(-1).nonzero().flatten().tolist()


def test_an_embedding_sees_its_row_and_the_history_before_it():
    model, x = model_and_batch(window=40)
    with torch.no_grad():  # no unit is switched off, so that nothing in reach is overlooked
        for layer in (model.first, model.second, model.dense):
            layer.weight.abs_()
            layer.bias.fill_(10)
        x = torch.linspace(0, 1, 40).double()[None, :, None].repeat(1, 1, 3)
    rising, falling = x.clone().requires_grad_(), x.flip(1).requires_grad_()
    for t in (13, 25, 39):
        # of two neighbors the pooling hands on the greater
        rows = {*seen_by(model(rising).h[0, t].sum(), rising)}
        rows |= {*seen_by(model(falling).h[0, t].sum(), falling)}
        assert rows == set(range(t - HISTORY + 1, t + 1))


def test_a_forecast_does_not_see_its_row():
    model, x = model_and_batch()
    x.requires_grad_()
    forecast = model.forecast(x)
    for t in range(1, WINDOW):
        assert max(seen_by(forecast[0, t - 1].sum(), x)) < t
        assert max(seen_by(model(x).score[0, t], x)) == t


def test_the_first_step_takes_the_score_of_the_second_and_no_part_in_the_loss():
    model, x = model_and_batch()
    found = model(x)
    assert torch.equal(found.score[:, 0], found.score[:, 1])
    torch.testing.assert_close(found.loss, found.score[:, 1:].mean())


def test_a_forecast_that_is_right_scores_zero():
    model, _ = model_and_batch()
    row = torch.tensor([2.0, -1.0, 0.5]).double()
    with torch.no_grad():
        model.predict.weight.zero_()
        model.predict.bias.copy_(row)
    x = row.expand(2, WINDOW, 3).clone()
    assert not model(x).score.any()
    x[0, 7, 1] += 3
    expected = torch.zeros(2, WINDOW).double()
    expected[0, 7] = 9 / 3
    torch.testing.assert_close(model(x).score, expected)


def test_it_learns_a_forecast():
    torch.manual_seed(0)
    model = DeepAnT(1, window=40, d=8, width=8, history=14)
    start = torch.arange(0, 6.28, 0.1)
    x = torch.sin(start[:, None] + 0.5 * torch.arange(40.0))[..., None]  # (b t 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(150):
        loss = model(x).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    unchanged = (x[:, 1:] - x[:, :-1]).square().mean()  # the row before, as a forecast
    assert model(x).loss < 0.2 * unchanged


@pytest.mark.parametrize("window", [15, 20, 40])
def test_one_pass_over_last_steps_is_window_by_window(window):
    model, _ = model_and_batch(window=window)
    rows = torch.randn(60, 3).double()
    expected = model(rows.unfold(0, window, 1).transpose(1, 2))
    found = model.last_steps()(rows)
    assert found.h.shape == (1, 60 - HISTORY, 6)
    n = 60 - window + 1
    torch.testing.assert_close(found.h[0, -n:], expected.h[:, -1])
    torch.testing.assert_close(found.score[0, -n:], expected.score[:, -1])
    assert found.loss is None


def test_a_window_that_holds_no_history_and_the_next_row_goes_one_by_one():
    assert model_and_batch(window=HISTORY)[0].last_steps() is None


def test_sizes_of_tsb_ad_by_default():
    model = DeepAnT(38, window=100)
    assert (model.d, model.first.out_channels, model.history) == (40, 32, 46)
    sizes = [38 * 3 * 32 + 32, 32 * 3 * 32 + 32, 32 * 10 * 40 + 40, 40 * 38 + 38]
    assert sum(p.numel() for p in model.parameters()) == sum(sizes)


def test_bad_arguments():
    with pytest.raises(ValueError, match="window must have at least 2 steps, got 1"):
        DeepAnT(3, window=1)
    with pytest.raises(ValueError, match="width must be positive, got 0"):
        DeepAnT(3, window=10, width=0)
    for history in (6, 9, 11, 45):
        with pytest.raises(
            ValueError, match=f"history must be one of 10, 14, 18, …, got {history}"
        ):
            DeepAnT(3, window=10, history=history)
    with pytest.raises(ValueError, match="expected windows of 10 steps, got 9"):
        DeepAnT(3, window=10)(torch.zeros(1, 9, 3))
