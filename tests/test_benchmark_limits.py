"""What benchmarks/limits.py counts, on operations whose counts are known."""

import pytest
import torch
from scripts import script
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

for name in ("embedders", "metrics"):  # which it imports as its neighbors
    script(name)
limits = script("limits")


def counted(action):
    with limits.Operations() as found:
        action()
    return found


@pytest.mark.parametrize(
    ("action", "shape", "multiply_adds"),
    [
        (lambda: torch.ones(7, 3) @ torch.ones(3, 5), (1, 7, 3, 5), 105),
        (lambda: torch.ones(2, 7, 3) @ torch.ones(2, 3, 5), (2, 7, 3, 5), 210),
        # 4 outputs of each of 2 series, from 3 steps of 6 channels to 5
        (lambda: functional.conv1d(torch.ones(2, 6, 6), torch.ones(5, 6, 3)), (1, 8, 18, 5), 720),
        (
            lambda: functional.conv1d(torch.ones(2, 6, 6), torch.ones(4, 3, 3), groups=2),
            (2, 8, 9, 2),
            288,
        ),
        # every step of 6 channels is laid on 3 steps of 5
        (
            lambda: functional.conv_transpose1d(torch.ones(2, 6, 4), torch.ones(6, 5, 3)),
            (1, 8, 15, 6),
            720,
        ),
    ],
)
def test_products_by_their_shape(action, shape, multiply_adds):
    found = counted(action).multiply_adds
    assert found == {shape: multiply_adds}
    many, m, k, n = shape
    assert many * m * k * n == multiply_adds


@pytest.mark.parametrize("name", ["deepsvdd", "beatgan", "drnn"])
def test_all_multiply_adds_of_a_network_are_counted(name):
    model = limits.EMBEDDERS[name](5, window=40)
    x = torch.randn(2, 40, 5)
    found = counted(lambda: model(x))
    assert sum(found.multiply_adds.values()) == limits_of_torch(model, x)
    step = limits.train(model.requires_grad_(True), x)
    assert sum(counted(step).multiply_adds.values()) > 2 * sum(found.multiply_adds.values())


def limits_of_torch(model, x):
    model.requires_grad_(False)  # the counter hooks into gradients
    with FlopCounterMode(display=False) as counter:
        model(x)
    return counter.get_total_flops() // 2


def test_bytes_are_those_that_are_read_and_written():
    x, row = torch.ones(8, 4), torch.ones(4)
    ((_, _, moved),) = counted(lambda: x + row).each
    assert moved == 4 * (32 + 4 + 32)
    assert not counted(lambda: x.T[1:]).each  # a view moves nothing
    ((_, _, moved),) = counted(lambda: row.expand(8, 4).clone()).each
    assert moved == 4 * (4 + 32)


def test_the_least_bytes_of_a_step_are_twelve_times_its_parameters():
    model = nn.Linear(10, 10, bias=False)
    windows = 4 * limits.BATCH * limits.WINDOW * limits.MSL_CHANNELS
    assert limits.least_bytes(model, "step") - windows == 12 * 400
    assert limits.least_bytes(model, "inference") - windows == 400
