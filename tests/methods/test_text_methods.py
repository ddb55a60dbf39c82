"""The list of text methods, and the points on the path at which they look."""

from __future__ import annotations

import math

import pytest

from mmexplain.errors import MethodError
from mmexplain.methods.text import TEXT_METHODS, select


def integral(name: str, steps: int, function: object) -> float:
    assert callable(function)
    return sum(weight * function(alpha) for alpha, weight in TEXT_METHODS[name].points(steps))


@pytest.mark.parametrize("steps", [1, 2, 5, 16])
def test_integrated_gradients_average_over_the_path(steps: int) -> None:
    """Gauss-Legendre: exact up to degree 2·steps − 1, and not beyond."""
    for degree in range(2 * steps):
        assert integral("integrated-gradients", steps, lambda a, n=degree: a**n) == pytest.approx(1 / (degree + 1))
    if steps < 5:
        assert integral("integrated-gradients", steps, lambda a: a ** (2 * steps)) != pytest.approx(1 / (2 * steps + 1))


def test_gradient_x_embedding_looks_at_the_end_only() -> None:
    assert integral("gradient-x-embedding", 16, math.exp) == math.e


def test_selecting() -> None:
    assert [method.name for method in select("all")] == list(TEXT_METHODS)
    names = ["integrated-gradients", "all", "integrated-gradients"]
    assert [method.name for method in select(names)] == ["integrated-gradients", "gradient-x-embedding"]
    assert select(()) == []
    with pytest.raises(MethodError, match=r"unknown text method 'shap'; there are: gradient-x-embedding, .*all"):
        select(["shap"])
