"""Functions of gradients that decide by their values, which vmap cannot look into: they are given all at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.autograd import Function


def of_all(function: Callable[..., Any], gradients: Tensor, *others: Any) -> Any:
    """``function(gradients, *others)``; under vmap its gradients have the targets' axis in front, and so has every
    tensor that it returns. It is not differentiated.

    Args:
        function: takes gradients with or without that axis.
        gradients: of one target, or of all under vmap.
        others: alike for all targets.
    """
    return _OfAll.apply(function, gradients, *others)  # type: ignore[no-untyped-call, unused-ignore]


class _OfAll(Function):
    """See :func:`of_all`."""

    @staticmethod
    def forward(function: Callable[..., Any], gradients: Tensor, *others: Any) -> Any:
        return function(gradients, *others)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def vmap(info: Any, in_dims: Any, function: Callable[..., Any], gradients: Tensor, *others: Any) -> tuple[Any, Any]:
        found = _OfAll.apply(function, gradients.movedim(in_dims[1], 0), *others)
        return found, (0,) * len(found) if isinstance(found, tuple) else 0
