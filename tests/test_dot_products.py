"""Attention by scaled dot products: values and gradients beside PyTorch's in float64."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from mmexplain import dot_products
from mmexplain.dot_products import DotProducts
from mmexplain.fast_layers import fast_layers
from mmexplain.gradients import at_once

QUERIES, KEYS, WIDTH, VALUES = 7, 5, 6, 4


def masks():
    torch.manual_seed(1)
    boolean = torch.rand(QUERIES, KEYS) > 0.4
    boolean[:, 0] = True
    return {
        "none": None,
        "boolean": boolean,
        "added": torch.randn(2, 1, QUERIES, KEYS),
        "for all queries": torch.tensor([True, True, False, True, False]).expand(2, 1, 1, KEYS),
    }


@pytest.fixture(params=["none", "boolean", "added", "for all queries"])
def mask(request):
    return masks()[request.param]


def inputs():
    torch.manual_seed(0)
    shapes = ((QUERIES, WIDTH), (KEYS, WIDTH), (KEYS, VALUES))
    return [torch.randn(2, 3, *shape, requires_grad=True) for shape in shapes]


@pytest.mark.parametrize("queries", [slice(None), slice(0, 1), slice(2, 5), slice(0, 0)])
@pytest.mark.parametrize("count", [1, 4])
def test_as_in_float64(mask, queries, count):
    """Gradients of all queries, of some, and of none."""
    leaves, scale = inputs(), 0.3
    vectors = torch.zeros(count, 2, 3, QUERIES, VALUES)
    vectors[..., queries, :] = torch.randn_like(vectors[..., queries, :])
    exact = [leaf.detach().double().requires_grad_() for leaf in leaves]
    wide = mask.double() if mask is not None and mask.is_floating_point() else mask
    expected = functional.scaled_dot_product_attention(*exact, wide, scale=scale)
    found = DotProducts.apply(*leaves, mask, scale)
    assert torch.allclose(found.double(), expected, atol=1e-5)
    gradients = [torch.autograd.grad(expected, exact, vector.double(), retain_graph=True) for vector in vectors]
    wanted = [torch.stack(parts) for parts in zip(*gradients, strict=True)]
    singly = [torch.autograd.grad(found, leaves, vector, retain_graph=True) for vector in vectors]
    for together, one, reference in zip(
        at_once([found], [vectors], leaves), map(torch.stack, zip(*singly, strict=True)), wanted, strict=True
    ):
        assert together.shape == reference.shape
        assert torch.allclose(together.double(), reference, atol=1e-5)
        assert torch.allclose(one.double(), reference, atol=1e-5)


class Attends(nn.Module):
    """PyTorch's attention layer."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(256, 4, batch_first=True)

    def forward(self, rows, **options):
        return self.attention(rows, rows, rows, need_weights=False, **options)[0]


class OwnAttention(nn.Module):
    """As timm and transformers have it."""

    def __init__(self):
        super().__init__()
        self.qkv, self.proj = nn.Linear(256, 768), nn.Linear(256, 256)

    def forward(self, rows):
        q, k, v = self.qkv(rows).unflatten(-1, (3, 4, 64)).permute(2, 0, 3, 1, 4)
        return self.proj(functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


def test_within_attention_of_others(monkeypatch):
    torch.manual_seed(0)
    model, rows, vectors = OwnAttention().eval(), torch.randn(2, QUERIES, 256), torch.randn(3, 2, QUERIES, 256)
    leaf = rows.clone().requires_grad_()
    expected = model(leaf)
    wanted = torch.stack([torch.autograd.grad(expected, leaf, v, retain_graph=True)[0] for v in vectors])
    used = []
    monkeypatch.setattr(dot_products, "_back", lambda *a, real=dot_products._back: used.append(1) or real(*a))
    with fast_layers(nn.Sequential(model)):
        found = model(leaf)
        (many,) = at_once([found], [vectors], [leaf])
    assert used and torch.allclose(found, expected, atol=1e-5) and torch.allclose(many, wanted, atol=1e-4)


CAUSAL = nn.Transformer.generate_square_subsequent_mask(QUERIES)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"attn_mask": CAUSAL},
        {"attn_mask": CAUSAL, "is_causal": True},
        {"key_padding_mask": torch.arange(QUERIES).expand(2, -1) > 4},
    ],
)
def test_within_attention_layers(options, monkeypatch):
    torch.manual_seed(0)
    model, rows, vectors = Attends().eval(), torch.randn(2, QUERIES, 256), torch.randn(3, 2, QUERIES, 256)
    exact, wide = Attends().double().eval(), rows.double().requires_grad_()
    exact.load_state_dict(model.state_dict())
    doubled = {n: v.double() if torch.is_tensor(v) and v.is_floating_point() else v for n, v in options.items()}
    expected = exact(wide, **doubled)
    wanted = [torch.autograd.grad(expected, wide, vector.double(), retain_graph=True)[0] for vector in vectors]
    used = []
    monkeypatch.setattr(dot_products, "_back", lambda *a, real=dot_products._back: used.append(1) or real(*a))
    leaf = rows.clone().requires_grad_()
    with fast_layers(model):
        found = model(leaf, **options)
        (many,) = at_once([found], [vectors], [leaf])
    assert torch.allclose(found.double(), expected, atol=1e-5)
    assert torch.allclose(many.double(), torch.stack(wanted), atol=1e-5)
    # A causal one without its mask is left to PyTorch.
    assert bool(used) != bool(options.get("is_causal"))


def test_what_drops_is_left_to_pytorch(monkeypatch):
    monkeypatch.setattr(dot_products, "_back", lambda *_: pytest.fail("exchanged"))
    torch.manual_seed(0)
    model = nn.MultiheadAttention(256, 4, dropout=0.5, batch_first=True).train()
    rows = torch.randn(2, QUERIES, 256, requires_grad=True)
    with fast_layers(model):
        model(rows, rows, rows, need_weights=False)[0].sum().backward()
    assert rows.grad.any()
