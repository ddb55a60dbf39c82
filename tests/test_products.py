"""Products by another library, and the gradients of linear layers, against float64."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from mmexplain.gradients import at_once
from mmexplain.products import Linear, product, product_back


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize("rows", [(1,), (12,), (2, 5), (0,)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("transposed", [True, False])
def test_products_are_those_of_float64(rows, bias, transposed):
    values = torch.randn(*rows, 37)
    weight = torch.randn(37, 300).mT if transposed else torch.randn(300, 37)
    offset = torch.randn(300) if bias else None
    expected = functional.linear(values.double(), weight.double(), None if offset is None else offset.double())
    assert torch.allclose(product(values, weight, offset).double(), expected, atol=1e-4)


@pytest.mark.parametrize("kind", ["dense", "one", "none", "two"])
@pytest.mark.parametrize("width", [40, 700])
def test_the_way_back_of_few_and_many(kind, width):
    gradients = torch.zeros(3, 4, width)
    if kind == "dense":
        gradients.normal_()
    elif kind != "none":
        gradients[0, 1, 7] = 2.0
        gradients[2, 3, width - 1] = -0.5
        gradients[1, 1, [3, 9] if kind == "two" else [3]] = 1.5
    weight = torch.randn(width, 21)
    expected = gradients.double() @ weight.double()
    assert torch.allclose(product_back(gradients, weight).double(), expected, atol=1e-4)


def test_gradients_one_by_one_and_at_once():
    layer = nn.Linear(30, 400)
    rows = torch.randn(2, 5, 30, requires_grad=True)
    vectors = torch.randn(7, 2, 5, 400)
    found = Linear.apply(rows * 1.0, layer.weight, layer.bias)
    (many,) = at_once([found], [vectors], [rows])
    assert many is not None
    for vector, own in zip(vectors, many, strict=True):
        (single,) = torch.autograd.grad(found, rows, vector, retain_graph=True)
        expected = vector.double() @ layer.weight.double()
        assert torch.allclose(own.double(), expected, atol=1e-4)
        assert torch.allclose(single.double(), expected, atol=1e-4)
    assert torch.allclose(found, layer(rows), atol=1e-5)


def test_what_is_trained_through_is_refused_instead_of_wrong():
    rows = torch.randn(2, 30, requires_grad=True)
    (grad,) = torch.autograd.grad(Linear.apply(rows, torch.randn(9, 30), None).square().sum(), rows, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


@pytest.mark.parametrize("targets", [1, 2])
def test_a_single_row_without_an_axis(targets):
    weight, bias = torch.randn(300, 37), torch.randn(300)
    row, vectors = torch.randn(37, requires_grad=True), torch.randn(targets, 300)
    found = Linear.apply(row, weight, bias)
    gradients = [torch.autograd.grad(found, row, vector, retain_graph=True)[0] for vector in vectors]
    assert torch.allclose(torch.stack(gradients), vectors @ weight, atol=1e-4)
    (many,) = at_once([found], [vectors], [row])
    assert torch.allclose(many, vectors @ weight, atol=1e-4)
