"""A copy of a model whose layers can be given random weights, one by one or all."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from mmexplain.errors import ModelError

Found = TypeVar("Found")


class RandomWeights:
    """A task with a copy of its model, and random weights for every layer of it.

    A layer is a module with parameters of its own. Its random weights are drawn once, by its own ``reset_parameters``:
    the initialisation that PyTorch's and timm's layers were trained from. That sets the running mean and variance of a
    batch normalisation to 0 and 1 too. What has none, or is left as it was by it (class tokens, position embeddings),
    is drawn from a normal distribution cut off at two deviations, with the parameter's own mean and deviation. They
    are drawn on the CPU, so that devices agree. The user's model and the state of all random generators stay as they
    are.

    Args:
        task: whose model is copied; the copy takes as much memory again, and the random weights as much on the CPU.
        seed: of the draws.

    Attributes:
        task: the copy; its model has the trained weights until :meth:`randomise` is called.
        layers: names of the layers; :meth:`traced` puts them in the order in which they run.

    Raises:
        ModelError: the model cannot be copied, or has no parameter.
    """

    def __init__(self, task: Any, seed: int = 0) -> None:
        try:
            self.task = copy.deepcopy(task)
            drawn = copy.deepcopy(self.task.model).cpu()
        except (RuntimeError, TypeError, NotImplementedError) as error:
            reason = str(error).partition("\n")[0]
            raise ModelError(
                f"model {task.model_id!r} cannot be copied, so it cannot be randomised ({reason})"
            ) from None
        self.layers = [name for name, module in drawn.named_modules() if _own(module)]
        if not self.layers:
            raise ModelError(f"model {task.model_id!r} has no parameter that could be randomised")
        with torch.random.fork_rng([]):
            torch.default_generator.manual_seed(seed)
            for name in self.layers:
                _draw(drawn.get_submodule(name))
        self._random = {name: _tensors(drawn.get_submodule(name)) for name in self.layers}
        self._trained = {
            name: {key: value.detach().clone() for key, value in _tensors(self.task.model.get_submodule(name)).items()}
            for name in self.layers
        }

    def randomise(self, layers: Iterable[str]) -> None:
        """Give random weights to these layers of the copy, and the trained ones to all others."""
        chosen = set(layers)
        with torch.inference_mode(False), torch.no_grad():
            # The random ones last: a tensor that two layers share is random if one of them is.
            for name in sorted(self.layers, key=chosen.__contains__):
                source = (self._random if name in chosen else self._trained)[name]
                for key, tensor in _tensors(self.task.model.get_submodule(name)).items():
                    tensor.copy_(source[key])

    def traced(self, call: Callable[[Any], Found]) -> Found:
        """Run ``call(task)`` on the copy and order :attr:`layers` by when they were first called in it.

        A layer that is never called itself (its parameters are used by the module around it) takes the place of the
        nearest module around it that is; where none is, it comes first, farthest from the head.
        """
        order: dict[str, int] = {}
        names = {module: name for name, module in self.task.model.named_modules()}

        def note(module: nn.Module, _: Any) -> None:
            order.setdefault(names[module], len(order))

        handles = [module.register_forward_pre_hook(note) for module in names]
        try:
            found = call(self.task)
        finally:
            for handle in handles:
                handle.remove()
        self.layers.sort(key=lambda name: _place(name, order))
        return found

    def stages(self, most: int = 16) -> list[tuple[str, list[str]]]:
        """Layers in groups, from the input to the head: name → layers.

        A group is a module at one depth of the model's tree: the greatest at which there are no more than ``most``.
        """
        found = _grouped(self.layers, 1)
        for depth in range(2, 1 + max(name.count(".") + 1 for name in self.layers)):
            finer = _grouped(self.layers, depth)
            if len(finer) > most:
                break
            found = finer
        return list(found.items())


def _grouped(layers: Sequence[str], depth: int) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in layers:
        found.setdefault(".".join(name.split(".")[:depth]) or "the model itself", []).append(name)
    return found


def _place(name: str, order: dict[str, int]) -> int:
    while name and name not in order:
        name = name.rpartition(".")[0]
    return order.get(name, -1)


def _own(module: nn.Module) -> list[nn.Parameter]:
    """Floating parameters of the module itself."""
    return [p for p in module._parameters.values() if p is not None and p.is_floating_point() and p.numel()]


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers of the module itself."""
    held = {**module._parameters, **module._buffers}
    return {name: value for name, value in held.items() if value is not None}


def _draw(module: nn.Module) -> None:
    parameters = _own(module)
    before = [parameter.detach().clone() for parameter in parameters]
    reset: Any = getattr(module, "reset_parameters", None)
    with torch.no_grad():
        if callable(reset):
            try:
                reset()
            except (TypeError, RuntimeError, NotImplementedError):
                # One that wants arguments, or cannot reset in this precision: drawn below.
                for parameter, value in zip(parameters, before, strict=True):
                    parameter.copy_(value)
        for parameter, value in zip(parameters, before, strict=True):
            if torch.equal(parameter, value) and parameter.numel() > 1:
                mean, deviation = float(value.double().mean()), float(value.double().std())
                noise = nn.init.trunc_normal_(torch.empty(value.shape), 0.0, 1.0, -2.0, 2.0)
                parameter.copy_(mean + deviation * noise)
