"""What is drawn from a seed is the same in company, and leaves the generator as it was."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
import torch
from torch import nn

from madcluster import diagnostics
from madcluster.heads import check_embedder
from madcluster.models import DeepSVDD
from madcluster.randomness import seeded, undisturbed


def test_numbers_drawn_from_a_seed_leave_the_generator_as_it_was():
    state, draws = torch.get_rng_state(), []
    for seed in (0, 0, 1):
        with seeded(seed):
            draws.append(torch.rand(()).item())
        assert torch.equal(torch.get_rng_state(), state)
    assert draws[0] == draws[1] != draws[2]


def draw():
    with undisturbed():
        torch.rand(())


class Watched(DeepSVDD):
    """A network that says when it is asked."""

    def __init__(self, asked):
        super().__init__(3, d=4)
        self.asked = asked

    def forward(self, x):
        self.asked.set()
        return super().forward(x)


@pytest.mark.parametrize(
    "action",
    [
        lambda asked: (draw(), asked.set()),
        lambda asked: diagnostics.spread(Watched(asked), torch.zeros(2, 8, 3)),
        lambda asked: check_embedder(lambda c, t: asked.set() or nn.Conv1d(t, t, 3, padding=1)),
    ],
    ids=["undisturbed", "spread", "check_embedder"],
)
def test_who_puts_the_generator_back_waits_for_who_draws(action):
    asked = Event()
    with ThreadPoolExecutor(1) as pool, seeded(0):
        future = pool.submit(action, asked)
        assert not asked.wait(0.3)
    assert future.exception() is None
    assert asked.is_set()
