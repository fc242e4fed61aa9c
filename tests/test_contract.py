"""All embedders, and networks of one's own, keep the contract; those that break it are named."""

import numpy as np
import pytest
import torch
from small import SMALL
from torch import nn

from madcluster import MADCluster, synthetic
from madcluster.data import Scaler, entities, load
from madcluster.heads import ContractError, build, check_embedder
from madcluster.models import EMBEDDERS, DeepSVDD, Embedder, Embedding

# what comes after h, or acts on the embedder's own loss alone
BESIDE = {
    "usad": ("decoder.", "critic."),
    "beatgan": ("last.", "features.", "judge."),
    "omnianomaly": ("mean.", "scale.", "flows.", "generation.", "reading."),
    "thoc": ("predict.",),
    "anomaly_transformer": ("width.", "decode."),
    "deepant": ("predict.",),
}


class Autoencoder(Embedder):
    """A network of one's own, as in the book: an LSTM that reconstructs."""

    def __init__(self, n_channels, d=8):
        super().__init__()
        self.d = d
        self.encoder = nn.LSTM(n_channels, d, batch_first=True)
        self.decoder = nn.Linear(d, n_channels)

    def forward(self, x):
        h = self.encoder(x)[0]
        error = (self.decoder(h) - x).square().mean(-1)
        return Embedding(h, error.mean(), error)


class Recurrent(nn.Module):
    """Neither a loss nor a score, and not even an `Embedder`."""

    def __init__(self, n_channels):
        super().__init__()
        self.gru = nn.GRU(n_channels, 8, batch_first=True)

    def forward(self, x):
        return self.gru(x)[0]


def small(name):
    return lambda c, t: build(name, n_channels=c, window=t, head=None, options=SMALL[name])


OWN = {
    "an autoencoder": lambda c, t: Autoencoder(c),
    "a plain module": lambda c, t: Recurrent(c),
}
ALL = {name: small(name) for name in EMBEDDERS} | OWN


@pytest.mark.parametrize("name", ALL)
def test_contract(name):
    out_of_reach = check_embedder(ALL[name])
    beside = {**BESIDE, "an autoencoder": ("decoder.",)}.get(name, ())
    parameters = [n for n, _ in ALL[name](3, 32).named_parameters()]
    assert out_of_reach == [n for n in parameters if any(part in n for part in beside)]


@pytest.mark.parametrize(("c", "window"), [(1, 100), (2, 200), (38, 50), (128, 32)])
@pytest.mark.parametrize("name", ALL)
def test_contract_at_other_sizes(name, c, window):
    check_embedder(ALL[name], n_channels=c, window=window)


def test_it_leaves_the_random_state_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    check_embedder(OWN["a plain module"])
    assert torch.equal(torch.rand(1), expected)


# --- networks that break one promise each ---------------------------------------------------------


class Broken(Autoencoder):
    def __init__(self, n_channels, fault):
        super().__init__(n_channels)
        self.fault = fault
        self.hidden = torch.randn(())  # a state that no buffer holds

    def forward(self, x):
        h, loss, score, _ = super().forward(x)
        return {
            "h": Embedding(h[:, 1:], loss, score),
            "d": Embedding(h[..., 1:], loss, score),
            "loss": Embedding(h, score, score),
            "score": Embedding(h, loss, score.mean(1)),
            "no score": Embedding(h, loss),
            "part": Embedding(h, loss, score, {"loss": loss}),
            "nan": Embedding(h, loss * torch.nan, score),
            "dtype": Embedding(h, loss, score.float()),
            "order": Embedding(h, loss, score * torch.arange(1, len(x) + 1).to(x)[:, None]),
            "random": Embedding(h, loss, score + torch.rand_like(score)),
            "constant": Embedding(h, loss, torch.ones_like(score)),
            "state": Embedding(h, loss, score * self.hidden),
            "detached": Embedding(h.detach(), loss, score),
        }[self.fault]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("h", "h must be"),
        ("d", "h must be"),
        ("loss", "the loss must be one number"),
        ("score", "the score must be"),
        ("no score", "the score must be"),
        ("part", "without gradient"),
        ("nan", "the loss must be finite"),
        ("dtype", "the score must be torch.float64"),
        ("order", "another order"),
        ("random", "the same input"),
        ("constant", "must not be a constant"),
        ("state", "must survive"),
        ("detached", "gradient of the head must reach"),
    ],
)
def test_what_is_broken_is_named(fault, message):
    with pytest.raises(ContractError, match=message):
        check_embedder(lambda c, t: Broken(c, fault))


class Hasty(DeepSVDD):
    """Embeds in another way than the class that it inherits the shorter ways from."""

    def __init__(self, n_channels, way):
        super().__init__(n_channels, d=8)
        self.way = way

    def embed(self, x):
        return super().embed(x).tanh()

    def last_steps(self):
        return super().last_steps() if self.way == "last_steps" else None

    def memory(self, n):
        return super().memory(n) if self.way == "memory" else None


@pytest.mark.parametrize("way", ["last_steps", "memory"])
def test_a_shorter_way_that_leads_elsewhere_is_named(way):
    with pytest.raises(ContractError, match=f"{way} must give the h and the score of forward"):
        check_embedder(lambda c, t: Hasty(c, way))
    check_embedder(lambda c, t: Hasty(c, "none"))


class Stubborn(Autoencoder):
    """Its gradient points the wrong way."""

    def forward(self, x):
        h, loss, score, _ = super().forward(x)
        h = 2 * h.detach() - h
        return Embedding(h, 100 * (2 * loss.detach() - loss), score)


def test_a_loss_that_rises_is_named():
    with pytest.raises(ContractError, match="the loss must fall"):
        check_embedder(lambda c, t: Stubborn(c))


# --- labels and real series ----------------------------------------------------------------------


@pytest.mark.parametrize("name", EMBEDDERS)
def test_labels_teach_nothing(name):
    series = synthetic(n_train=900, n_test=900, seed=0)
    options = {"stride": 20, "epochs": 1, "window": 40, "options": SMALL[name]}
    labels = np.arange(900) % 2
    blind, told = (MADCluster(name, **options).fit(series.train, y) for y in (None, labels))
    assert np.array_equal(blind.decision_function(series.test), told.decision_function(series.test))


@pytest.mark.parametrize("dataset", ["MSL", "SMAP", "SMD"])
def test_no_score_is_a_constant_on_any_real_series(dataset, data_root):
    window, seen = 100, 0
    for entity in entities(dataset, data_root):
        series = load(dataset, entity, data_root)
        x = torch.as_tensor(Scaler("minmax").fit(series.train).transform(series.test).copy())
        windows = x[: len(x) // window * window].unflatten(0, (-1, window))[:64]  # (b t c)
        for name in EMBEDDERS:
            torch.manual_seed(0)
            model = build(
                name, n_channels=x.shape[1], window=window, options=SMALL[name], score="head"
            )
            with torch.no_grad():
                model.prepare([windows], 0)
                model.eval()
                own, with_head = model.embedder(windows).score, model(windows).score
            assert own.std() > 0, (entity, name)
            assert with_head.std() > 0, (entity, name)
            seen += 1
    assert seen >= len(EMBEDDERS) * 19


@pytest.mark.parametrize("name", EMBEDDERS)
def test_the_gradient_of_a_score_is_that_of_its_values(name):
    """What `explain` rests on: in eval mode no part is held, and no gradient turned round."""
    torch.manual_seed(0)
    model = build(name, n_channels=3, window=20, head=None, options=SMALL[name]).double().eval()
    x = torch.randn(1, 20, 3, dtype=torch.float64, requires_grad=True)
    if model(x).score is None:
        pytest.skip("no score of its own")
    (gradient,) = torch.autograd.grad(model(x).score.sum(), x)
    step = 1e-5 * torch.randn_like(x)
    with torch.no_grad():
        change = model(x + step).score.sum() - model(x - step).score.sum()
    torch.testing.assert_close(2 * (gradient * step).sum(), change, rtol=1e-3, atol=1e-12)
