"""A model's own way back to the mean of its features: when it is asked for, and what is made of what it says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from mmexplain.engine import run
from mmexplain.errors import ModelError
from mmexplain.methods.class_activation import gradcam
from mmexplain.methods.registry import METHODS
from mmexplain.problem import Choice, PooledVJP, Problem, Result
from mmexplain.targets import Target

POOLED = [method for method in METHODS.values() if method.pooled]


class Net(nn.Module):
    """A convolution, its mean, and a linear layer that mixes it with a question."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU())
        self.head = nn.Linear(5, 4)

    def encode(self, inputs: dict[str, Tensor]) -> Tensor:
        """``[B, 5, h, w]``."""
        features: Tensor = self.conv(inputs["image"])
        return features

    def decode(self, features: Tensor, context: dict[str, Tensor]) -> Tensor:
        """Logits ``[R, 4]``, not linear in the features."""
        logits: Tensor = self.head(features.mean((2, 3)).tanh() * context["question"])
        return logits


class Short:
    """The net's own way back, by hand, and how often it was gone."""

    def __init__(self, net: Net) -> None:
        self.net = net
        self.decoded = 0
        self.targets: list[int] = []

    def __call__(self, features: Tensor, context: dict[str, Tensor], begun: Any) -> PooledVJP | None:
        """See ``Problem.pooled_vjp``."""
        assert not torch.is_grad_enabled()
        self.decoded += 1
        output = self.net.decode(features, context)
        return PooledVJP(output, output, lambda vectors: self.back(features, context, vectors))

    def back(self, features: Tensor, context: dict[str, Tensor], vectors: Tensor) -> Tensor:
        """``[B, K, 4]`` → ``[B, K, 5]``."""
        self.targets.append(int((vectors != 0).any(-1).sum()))
        slope = (1 - features.mean((2, 3)).tanh().square()) * context["question"]
        gradients: Tensor = (vectors @ self.net.head.weight) * slope[:, None]
        return gradients


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net().eval()


def score(output: Tensor, rows: Any) -> Tensor:
    return torch.stack([output[r, [target.ids[0] for target in row]] for r, row in enumerate(rows)])


ROWS = [[Target(str(c), "class", (c,)) for c in row] for row in ([2, 0, 1], [3], [1, 1])]


def problem(net: Net, pooled: Callable[..., PooledVJP | None] | None = None, **changed: Any) -> Problem:
    random = torch.Generator().manual_seed(1)
    inputs = {"image": torch.rand(3, 3, 8, 10, generator=random)}
    parts: dict[str, Any] = {"encode": net.encode, "decode": net.decode, "score": score, **changed}
    context = {"question": torch.rand(3, 5, generator=random)}
    return Problem(net, **parts, inputs=inputs, context=context, pooled_vjp=pooled)


def explained(of: Problem, layer: str = "conv", **options: Any) -> Result:
    return run(of, Choice(ROWS), [layer], lambda _, a, g: {"map": gradcam(a, g, relu=False)}, **options)


def assert_same(found: Result, expected: Result) -> None:
    assert torch.equal(found.scores, expected.scores)
    for layer, named in expected.reduced.items():
        assert torch.allclose(found.reduced[layer]["map"], named["map"], atol=1e-6)


def test_it_is_taken_for_reducers_that_need_the_mean_only(net: Net) -> None:
    short = Short(net)
    expected = explained(problem(net), strategy="loop")
    assert_same(explained(problem(net, short)), expected)
    assert short.decoded == 0
    found = explained(problem(net, short), pooled=True)
    assert_same(found, expected)
    # Rows that are filled up with their last target have it pulled back once; two alike are two.
    assert short.decoded == 1 and short.targets == [3 + 1 + 2]
    assert found.features is not None


def test_memory_bounds_the_targets_at_once(net: Net) -> None:
    short = Short(net)
    assert_same(explained(problem(net, short), pooled=True, memory=1), explained(problem(net), strategy="loop"))
    assert short.decoded == 1 and short.targets == [3, 3, 3]


@pytest.mark.parametrize("strategy", ["expand", "vjp", "loop"])
def test_a_strategy_asked_for_is_the_one_taken(net: Net, strategy: Any) -> None:
    short = Short(net)
    assert_same(explained(problem(net, short), pooled=True, strategy=strategy), explained(problem(net)))
    assert short.decoded == 0


@pytest.mark.parametrize(
    "options",
    [{"create_graph": True}, {"rule": "guided"}, {"layer": "conv.0"}],
    ids=str,
)
def test_it_is_not_taken_elsewhere(net: Net, options: dict[str, Any]) -> None:
    short = Short(net)
    explained(problem(net, short), pooled=True, **options)
    assert short.decoded == 0


def test_features_that_are_not_the_layers_output_are_not_taken_for_it(net: Net) -> None:
    short = Short(net)
    changed = problem(net, short, encode=lambda inputs: net.encode(inputs) * 2)
    assert_same(explained(changed, pooled=True), explained(changed, strategy="loop"))
    assert short.decoded == 0


def test_a_model_may_have_none_to_offer(net: Net) -> None:
    assert_same(explained(problem(net, lambda *_: None), pooled=True), explained(problem(net), strategy="loop"))


def test_outputs_that_cannot_be_repeated_go_by_autograd(net: Net) -> None:
    class Odd:
        def __init__(self, logits: Tensor) -> None:
            self.logits = logits

    def decode(features: Tensor, context: dict[str, Tensor]) -> Odd:
        return Odd(net.decode(features, context))

    def pooled(features: Tensor, context: dict[str, Tensor], begun: Any) -> PooledVJP:
        output = decode(features, context)
        return PooledVJP(output, output.logits, lambda _: pytest.fail("there is no gradient to pull back"))

    odd = problem(net, pooled, decode=decode, score=lambda output, rows: score(output.logits, rows))
    assert_same(explained(odd, pooled=True), explained(problem(net), strategy="loop"))


def test_gradients_that_are_not_finite_are_told_with_the_layer(net: Net) -> None:
    def pooled(features: Tensor, context: dict[str, Tensor], begun: Any) -> PooledVJP:
        output = net.decode(features, context)
        return PooledVJP(output, output, lambda vectors: vectors.new_full((*vectors.shape[:2], 5), torch.nan))

    with pytest.raises(ModelError, match="gradients at layer 'conv' are not"):
        explained(problem(net, pooled), pooled=True)


def test_scores_that_are_not_finite_are_told_with_the_layer(net: Net) -> None:
    with torch.no_grad():
        net.conv[0].bias.fill_(torch.inf)
        net.head.weight.fill_(torch.inf)
    with pytest.raises(ModelError, match="not finite"):
        explained(problem(net, Short(net)), pooled=True)


@given(seed=st.integers(0, 1000), method=st.sampled_from(POOLED), clip=st.booleans())
def test_pooled_methods_read_the_mean_only(seed: int, method: Any, clip: bool) -> None:
    random = torch.Generator().manual_seed(seed)
    space = (2, 3, 4) if clip else (3, 4)
    activations = torch.rand(2, 1, 5, *space, generator=random, dtype=torch.float64)
    gradients = torch.randn(2, 3, 5, *space, generator=random, dtype=torch.float64)
    mean = gradients.mean(tuple(range(3, gradients.ndim)), keepdim=True)
    whole, pooled = (method.function(activations, g) for g in (gradients, mean))
    assert whole.shape == pooled.shape and torch.allclose(whole, pooled, rtol=1e-9, atol=1e-12)
