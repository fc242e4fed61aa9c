"""Dilated recurrent layers against a cell that is called step by step."""

import pytest
import torch

from madcluster.models.layers import DilatedGRU, DilatedStack


def step_by_step(layer, x):
    """States (b t d) of a cell that goes on from its state of `dilation` steps ago, zeros at first."""
    cell = torch.nn.GRUCell(layer.gru.input_size, layer.gru.hidden_size).to(x.dtype)
    cell.load_state_dict({n.removesuffix("_l0"): p for n, p in layer.gru.state_dict().items()})
    states = []
    for t in range(x.shape[1]):
        before = states[t - layer.dilation] if t >= layer.dilation else None
        states.append(cell(x[:, t], before))
    return torch.stack(states, 1)


@pytest.mark.parametrize("dilation", [1, 2, 3, 4, 10, 11, 12])
def test_dilated_gru_is_a_cell_with_the_state_of_some_steps_ago(dilation):
    torch.manual_seed(0)
    layer, x = DilatedGRU(2, 5, dilation), torch.randn(3, 11, 2)
    torch.testing.assert_close(layer(x), step_by_step(layer, x))


@pytest.mark.parametrize("dilations", [(1,), (1, 2, 4), (2, 3), (3, 10)])
def test_a_stack_hands_the_states_of_each_layer_to_the_next(dilations):
    torch.manual_seed(0)
    stack, x = DilatedStack(2, 5, dilations, window=11), torch.randn(3, 11, 2)
    states, below = stack(x), x
    assert stack.dilations == dilations
    assert len(states) == len(stack) == len(dilations)
    for layer, dilation, found in zip(stack, dilations, states, strict=True):
        assert layer.dilation == dilation
        below = step_by_step(layer, below)
        torch.testing.assert_close(found, below)


@pytest.mark.parametrize(
    "dilations", [(), (0, 1), (-1, 2), (1, 1), (4, 2), (1, 11), (12,), (1, 2, 2, 4)]
)
def test_dilations_that_are_not_possible_are_named(dilations):
    with pytest.raises(
        ValueError, match=r"dilations must be positive, grow and .* 11 steps, got"
    ) as e:
        DilatedStack(2, 5, dilations, window=11)
    assert str(list(dilations)) in str(e.value)
