"""The written-out way back through an LSTM against autograd's, target by target in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mmexplain.gradients import at_once
from mmexplain.lstm import LSTM, pull_back


def by_autograd(layer, steps, hidden, cell, gradients, of_cell):
    """``[B, K, ...]`` gradients of steps, hidden and cell, one backward pass for each target."""
    leaves = [value.clone().requires_grad_() for value in (steps, hidden, cell)]
    found, (_, last) = layer(leaves[0], (leaves[1][None], leaves[2][None]))
    columns = [
        torch.autograd.grad([found, last], leaves, [gradients[:, k], of_cell[:, k][None]], retain_graph=True)
        for k in range(gradients.shape[1])
    ]
    return found.detach(), [torch.stack(values, 1) for values in zip(*columns, strict=True)]


def case(batch, count, length, bias, sparse, cells, dtype=torch.float64):
    layer = nn.LSTM(5, 4, batch_first=True, bias=bias).to(dtype)
    with torch.no_grad():
        for weight in layer.parameters():
            weight.mul_(2)
    steps, hidden, cell = (torch.randn(*shape).to(dtype) for shape in ((batch, length, 5), (batch, 4), (batch, 4)))
    gradients = torch.randn(batch, count, length, 4).to(dtype)
    if sparse:
        gradients *= torch.rand(batch, count, length, 1) < 0.3
    of_cell = torch.randn(batch, count, 4).to(dtype) * cells
    return layer, steps, hidden, cell, gradients, of_cell


@settings(deadline=None, max_examples=80)
@given(
    st.integers(1, 3), st.integers(1, 4), st.integers(1, 5), st.booleans(), st.booleans(), st.booleans(), st.integers()
)
def test_as_autograd(batch, count, length, bias, sparse, cells, seed):
    torch.manual_seed(seed % 2**31)
    layer, *given_ = case(batch, count, length, bias, sparse, cells)
    found, expected = by_autograd(layer, *given_)
    steps, hidden, cell, gradients, of_cell = given_
    with torch.no_grad():
        outputs, _, gates = LSTM.forward(steps, hidden, cell, *layer.all_weights[0])
        own = pull_back(gradients, of_cell, gates, cell, *layer.all_weights[0][:2])
    assert torch.allclose(outputs, found, atol=1e-12)
    for value, reference in zip(own, expected, strict=True):
        assert torch.allclose(value, reference, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_in_a_graph_with_all_targets_at_once(dtype):
    torch.manual_seed(0)
    layer, steps, hidden, cell, gradients, of_cell = case(2, 3, 4, True, True, True, dtype)
    found, expected = by_autograd(layer, steps, hidden, cell, gradients, of_cell)
    leaves = [value.clone().requires_grad_() for value in (steps, hidden, cell)]
    outputs = LSTM.apply(*(leaf * 1.0 for leaf in leaves), *layer.all_weights[0])
    assert torch.allclose(outputs[0], found, atol=1e-6)
    outputs = outputs[:2]
    many = at_once(list(outputs), [gradients.transpose(0, 1), of_cell.transpose(0, 1)], leaves)
    single = torch.autograd.grad(outputs, leaves, [gradients[:, 1], of_cell[:, 1]])
    for own, alone, reference in zip(many, single, expected, strict=True):
        assert torch.allclose(own.transpose(0, 1), reference, atol=1e-5)
        assert torch.allclose(alone, reference[:, 1], atol=1e-5)
