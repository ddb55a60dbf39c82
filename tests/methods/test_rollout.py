"""Attention rollout by hand, against the paper's product of whole matrices, and on models whose answer is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mmexplain.attention import explicit_attention
from mmexplain.errors import MethodError
from mmexplain.explainer import explain
from mmexplain.explanation import MapKey
from mmexplain.methods.attention import rollout
from tests.models import ModelTask, TokenNet, classes, noise, seeded


def matrices(*shape: int, seed: int = 0) -> Tensor:
    return noise(*shape, seed=seed).softmax(-1)


def slow_rollout(layers: list[Tensor], row: int, heads: str = "mean") -> list[float]:
    """Ã_L ⋯ Ã_1 for one input, ``[heads, N, N]`` each, one number at a time, as the paper has it."""
    size = layers[0].shape[-1]
    product = [[float(i == j) for j in range(size)] for i in range(size)]
    for layer in layers:
        joined = []
        for i in range(size):
            line = []
            for j in range(size):
                values = [layer[h, i, j].item() for h in range(len(layer))]
                one = {"mean": sum(values) / len(values), "max": max(values), "min": min(values)}[heads]
                line.append(0.5 * one + 0.5 * (i == j))
            joined.append([value / sum(line) for value in line])
        product = [[sum(joined[i][m] * product[m][j] for m in range(size)) for j in range(size)] for i in range(size)]
    return product[row]


@pytest.mark.parametrize("heads", ["mean", "max", "min"])
def test_against_the_product_of_whole_matrices(heads: str) -> None:
    layers = [matrices(2, 1, 3, 6, 6, seed=seed) for seed in range(4)]
    start = torch.zeros(2, 3, 6, dtype=torch.float64)
    start[:, 0, 0] = 1  # the class token
    start[:, 1, 4] = 1
    start[:, 2] = 1 / 6  # the mean over all
    found = rollout(layers, start, heads=heads)
    for b in range(2):
        rows = [torch.tensor(slow_rollout([layer[b, 0] for layer in layers], i, heads)) for i in range(6)]
        expected = torch.stack([rows[0], rows[4], torch.stack(rows).mean(0)])
        torch.testing.assert_close(found[b], expected.double())
    torch.testing.assert_close(found.sum(-1), torch.ones(2, 3, dtype=torch.float64))


def test_two_tokens_by_hand() -> None:
    """A = [[0, 1], [1, 0]] twice: Ã is 1/2 everywhere, and so is its square."""
    swap = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).view(1, 1, 1, 2, 2)
    start = torch.tensor([[[1.0, 0.0]]])
    assert rollout([swap], start).tolist() == [[[0.5, 0.5]]]
    # A second layer in which nothing moves: (A + I) / 2 = I.
    assert rollout([swap, torch.eye(2).view(1, 1, 1, 2, 2)], start).tolist() == [[[0.5, 0.5]]]


class Pointing(nn.Module):
    """A class token that looks at the brightest of 16 patches and at nothing else."""

    def forward(self, x: Tensor) -> Tensor:
        patches = nn.functional.avg_pool2d(x, 4).flatten(2).transpose(1, 2)
        tokens = torch.cat([torch.zeros_like(patches[:, :1]), patches], 1).unsqueeze(1)
        keys = tokens.mean(-1, keepdim=True)
        mixed = nn.functional.scaled_dot_product_attention(torch.full_like(keys, 1000.0), keys, tokens)
        return (tokens + mixed)[:, 0, 0]


def test_a_token_that_looks_at_one_patch() -> None:
    image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    image[:, :, 8:12, 4:8] += 2
    task = ModelTask(Pointing())
    (found,) = explain(task, task.prepare(image), [classes(0)], methods=["attention-rollout"])
    (value,) = found.maps.values()
    expected = torch.zeros(1, 4, 4)
    expected[0, 2, 1] = 0.5  # the other half is the token's own
    torch.testing.assert_close(value, expected)


@pytest.mark.parametrize("prefix", [0, 1, 3])
def test_a_model_against_its_own_matrices(prefix: int) -> None:
    model, images = seeded(TokenNet, prefix), noise(2, 3, 16, 16)
    task = ModelTask(model)
    name = "attention-rollout(heads='max')"
    found = explain(task, task.prepare(images), [classes(1, 4)] * 2, methods=["attention-rollout", name])
    with explicit_attention(2, (16, 16)) as attention:
        model(images)
    for b in range(2):
        for heads, key in (("mean", "attention-rollout"), ("max", name)):
            layers = [matrix[b].detach() for matrix in attention.matrices]
            rows = [0] if prefix else range(16)
            lines = [torch.tensor(slow_rollout(layers, row, heads), dtype=torch.float64) for row in rows]
            expected = torch.stack(lines).mean(0)[prefix:].view(1, 4, 4).expand(2, 4, 4)
            torch.testing.assert_close(found[b].maps[MapKey("attention", key)], expected)


def test_wrong_parameters_are_told() -> None:
    task = ModelTask(seeded(TokenNet))
    with pytest.raises(MethodError, match="joins heads by 'mean', 'max', 'min', not 'median'"):
        explain(task, task.prepare(noise(1, 3, 16, 16)), [classes(0)], methods=["attention-rollout(heads='median')"])
