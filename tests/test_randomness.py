"""What is drawn from a seed is the same in company, and leaves the generator as it was."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

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


def drawn():
    with undisturbed():
        torch.rand(())


@pytest.mark.parametrize(
    "action",
    [
        drawn,
        lambda: diagnostics.spread(DeepSVDD(3, d=4), torch.zeros(2, 8, 3)),
        lambda: check_embedder(lambda c, t: torch.nn.Conv1d(t, t, 3, padding=1)),
    ],
    ids=["drawn", "spread", "check_embedder"],
)
def test_who_puts_the_generator_back_waits_for_who_draws(action):
    with ThreadPoolExecutor(1) as pool, seeded(0):
        future = pool.submit(action)
        with pytest.raises(TimeoutError):
            future.result(timeout=0.2)
    assert future.exception() is None
