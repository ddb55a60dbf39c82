"""Relevance and LeGrad's variant against loops over the papers' formulas and against autograd on explicit matrices."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mmexplain.explainer import explain
from mmexplain.explanation import MapKey
from mmexplain.methods.attention import relevance, sensitivity
from tests.models import ModelTask, TokenNet, classes, noise, seeded

NAMES = ("attention-relevance", "legrad-final")


def slow_relevance(layers: list[Tensor], gradients: list[Tensor]) -> Tensor:
    """R of Chefer et al., eqs 5 and 6, from R = I: ``[N, N]`` for ``[heads, N, N]`` of each layer."""
    size = layers[0].shape[-1]
    total = torch.eye(size, dtype=torch.float64)
    for matrix, gradient in zip(layers, gradients, strict=True):
        mean = torch.zeros(size, size, dtype=torch.float64)
        for i in range(size):
            for j in range(size):
                products = [(gradient[h, i, j] * matrix[h, i, j]).item() for h in range(len(matrix))]
                mean[i, j] = sum(max(product, 0.0) for product in products) / len(products)
        total = total + mean @ total
    return total


def slow_sensitivity(gradients: list[Tensor]) -> Tensor:
    """(1/L) Σ_l 1/(heads · N) Σ_h Σ_i (∂S/∂A_hij)⁺ for each j."""
    layers = []
    for gradient in gradients:
        heads, rows, columns = gradient.shape
        line = [
            sum(max(gradient[h, i, j].item(), 0.0) for h in range(heads) for i in range(rows)) for j in range(columns)
        ]
        layers.append(torch.tensor(line, dtype=torch.float64) / (heads * rows))
    return torch.stack(layers).mean(0)


def test_the_formulas() -> None:
    layers = [noise(2, 1, 3, 5, 5, seed=seed).softmax(-1) for seed in range(3)]
    gradients = [noise(2, 2, 3, 5, 5, seed=10 + seed) for seed in range(3)]
    start = torch.zeros(2, 2, 5, dtype=torch.float64)
    start[:, 0, 0] = 1
    start[:, 1, 1:] = 0.25
    related, sensed = relevance(layers, gradients, start), sensitivity(gradients)
    for b in range(2):
        for k in range(2):
            slopes = [gradient[b, k] for gradient in gradients]
            rows = slow_relevance([layer[b, 0] for layer in layers], slopes) - torch.eye(5, dtype=torch.float64)
            torch.testing.assert_close(related[b, k], start[b, k] @ rows)
            torch.testing.assert_close(sensed[b, k], slow_sensitivity(slopes))


def test_two_tokens_by_hand() -> None:
    """One layer: E_h[(∇A ⊙ A)⁺] with heads .5 · 2 and .5 · -4 from token 0 to token 1 is (1 + 0) / 2."""
    matrix = torch.full((1, 1, 2, 2, 2), 0.5)
    gradient = torch.zeros(1, 1, 2, 2, 2)
    gradient[0, 0, :, 0, 1] = torch.tensor([2.0, -4.0])
    start = torch.tensor([[[1.0, 0.0]]])
    assert relevance([matrix], [gradient], start).tolist() == [[[0.0, 0.5]]]
    # A second layer the same: (I + Ā)² − I = 2 Ā, as Ā² = 0.
    assert relevance([matrix] * 2, [gradient] * 2, start).tolist() == [[[0.0, 1.0]]]
    assert sensitivity([gradient]).tolist() == [[[0.0, 0.5]]]


class Explicit(nn.Module):
    """The same network as a TokenNet, with matrices that are given in place of its own."""

    def __init__(self, net: TokenNet) -> None:
        super().__init__()
        self.net = net

    def matrices(self, image: Tensor) -> list[Tensor]:
        net, found = self.net, list[Tensor]()
        x = net.patch_embed(image).flatten(2).transpose(1, 2)
        x = torch.cat([net.prefix.expand(len(x), -1, -1), x], 1)
        for block in net.blocks:
            b, n, c = x.shape
            q, k, _ = block.attn.qkv(block.norm1(x)).reshape(b, n, 3, 2, c // 2).permute(2, 0, 3, 1, 4)
            found.append((q @ k.mT * (c // 2) ** -0.5).softmax(-1).detach())
            x = block(x)
        return found

    def score(self, image: Tensor, own: list[Tensor], target: int) -> Tensor:
        """The score when each layer's matrix is its own plus what is added to it; later layers follow suit."""
        net = self.net
        x = net.patch_embed(image).flatten(2).transpose(1, 2)
        x = torch.cat([net.prefix.expand(len(x), -1, -1), x], 1)
        for block, added in zip(net.blocks, own, strict=True):
            b, n, c = x.shape
            q, k, v = block.attn.qkv(block.norm1(x)).reshape(b, n, 3, 2, c // 2).permute(2, 0, 3, 1, 4)
            matrix = (q @ k.mT * (c // 2) ** -0.5).softmax(-1) + added
            x = x + block.attn.proj((matrix @ v).transpose(1, 2).reshape(b, n, c))
            x = x + block.mlp(block.norm2(x))
        x = net.norm(x)
        return net.head(x[:, 0] if net.prefix.shape[1] else x.mean(1))[0, target]


@pytest.mark.parametrize("prefix", [0, 1, 3])
def test_a_model_against_derivatives_by_what_is_added_to_a_matrix(prefix: int) -> None:
    net, images = seeded(TokenNet, prefix), noise(2, 3, 16, 16)
    task = ModelTask(net)
    found = explain(task, task.prepare(images), [classes(1, 4)] * 2, methods=NAMES)
    explicit = Explicit(net)
    for b, image in enumerate(images):
        matrices = explicit.matrices(image[None])
        for k, target in enumerate((1, 4)):
            added = [torch.zeros_like(matrix, requires_grad=True) for matrix in matrices]
            gradients = torch.autograd.grad(explicit.score(image[None], added, target), added)
            layers, slopes = [m[0] for m in matrices], [g[0] for g in gradients]
            whole = slow_relevance(layers, slopes) - torch.eye(16 + prefix, dtype=torch.float64)
            row = whole[0] if prefix else whole.mean(0)
            expected = (row[prefix:].view(4, 4), slow_sensitivity(slopes)[prefix:].view(4, 4))
            for name, value in zip(NAMES, expected, strict=True):
                torch.testing.assert_close(found[b].maps[MapKey("attention", name)][k], value)


class TwoHalves(nn.Module):
    """A class token that attends to every patch alike; class 0 is read off the left half, class 1 off the right."""

    def forward(self, x: Tensor) -> Tensor:
        patches = nn.functional.avg_pool2d(x, 4).flatten(2).transpose(1, 2)
        left = (torch.arange(16, device=x.device) % 4 < 2).to(x)
        values = torch.stack([left, 1 - left], 1).expand(len(x), -1, -1) * patches[..., :1].square()
        tokens = torch.cat([torch.zeros_like(values[:, :1]), values], 1).unsqueeze(1)
        flat = torch.zeros_like(tokens)
        return nn.functional.scaled_dot_product_attention(flat, flat, tokens)[:, 0, 0]


def test_only_the_half_that_speaks_for_the_class() -> None:
    task = ModelTask(TwoHalves())
    (found,) = explain(task, task.prepare(noise(1, 3, 16, 16)), [classes(0, 1)], methods=[*NAMES, "attention-rollout"])
    for name in NAMES:
        left, right = found.maps[MapKey("attention", name)]
        assert left[:, :2].min() > 0 and left[:, 2:].abs().max() == 0
        assert right[:, 2:].min() > 0 and right[:, :2].abs().max() == 0
    # Rollout looks at no score: every patch has its share of the half that is not the token's own.
    rolled = found.maps[MapKey("attention", "attention-rollout")]
    torch.testing.assert_close(rolled, torch.full((2, 4, 4), 0.5 / 17, dtype=torch.float64))
