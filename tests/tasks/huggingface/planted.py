"""Planted evidence: which token stands for a place of a photo is found out by changing the photo there, and the model
is then edited so that nothing but this token has a say."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from mmexplain.taps import first_tensor, replace_tensor


def photo(width: int, height: int, seed: int = 0) -> Image.Image:
    """Noise of large grains, which every patch has its own part of."""
    grains = np.random.default_rng(seed).integers(60, 190, (max(2, height // 8), max(2, width // 8), 3), dtype=np.uint8)
    return Image.fromarray(grains).resize((width, height), Image.Resampling.BICUBIC)


def changed_at(image: Image.Image, x: int, y: int, radius: int) -> Image.Image:
    """The photo with a white and black square around a pixel."""
    pixels = np.array(image)
    pixels[max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1] = (255, 0, 255)
    return Image.fromarray(pixels)


def tower_blocks(model: nn.Module, layer: str) -> list[nn.Module]:
    """All blocks of the tower that ``layer`` is one of: of all stages, where they are lists in a list."""
    name = layer.rpartition(".")[0]
    while isinstance(model.get_submodule(name.rpartition(".")[0]), nn.ModuleList):
        name = name.rpartition(".")[0]
    children = model.get_submodule(name).children()
    return [block for child in children for block in (child if isinstance(child, nn.ModuleList) else [child])]


def _last(output: Tensor) -> Tensor:
    """The same with the channels last; in maps ``[B, C, h, w]`` they come before the places."""
    return output.movedim(1, -1) if output.ndim == 4 else output


@contextmanager
def blocks_do_nothing(blocks: Sequence[nn.Module]) -> Iterator[None]:
    """The tower's blocks hand on what they are given, so that tokens do not mix."""
    before = [block.forward for block in blocks]

    def identity(forward: Callable[..., Any]) -> Callable[..., Any]:
        def run(hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
            output = forward(hidden, *args, **kwargs)
            found = first_tensor(output)
            return replace_tensor(output, found, hidden) if found is not None else output

        return run

    for block, forward in zip(blocks, before, strict=True):
        block.forward = identity(forward)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for block, forward in zip(blocks, before, strict=True):
            block.forward = forward  # type: ignore[method-assign]


def output_of(module: nn.Module, run: Callable[[], Any]) -> Tensor:
    """What a module puts out while something runs: of several calls the last one."""
    seen: list[Tensor] = []
    handle = module.register_forward_hook(lambda *call: seen.append(first_tensor(call[-1])))  # type: ignore[arg-type,func-returns-value]
    try:
        with torch.no_grad():
            run()
    finally:
        handle.remove()
    return seen[-1].float()


def tokens_at(module: nn.Module, run: Callable[[Image.Image], Any], image: Image.Image, other: Image.Image) -> Tensor:
    """How much each token of a module's output differs between two photos: ``[N]``, all rows one after the other."""
    one, two = (output_of(module, lambda shown=shown: run(shown)) for shown in (image, other))
    return _last((one - two).abs()).sum(-1).flatten()


@contextmanager
def only_token(module: nn.Module, number: int, *, each: bool = False) -> Iterator[None]:
    """The module puts out its token ``number`` (of all rows one after the other, or of each), and nothing beside it."""
    before = module.forward

    def run(*args: Any, **kwargs: Any) -> Any:
        output = before(*args, **kwargs)
        value = first_tensor(output)
        assert value is not None
        places = _last(value).shape[1 if each else 0 : -1]
        mask = torch.zeros(places.numel(), dtype=value.dtype)
        mask[number] = 1.0
        return replace_tensor(output, value, value * mask.view(places).unsqueeze(-3 if value.ndim == 4 else -1))

    module.forward = run  # type: ignore[method-assign]
    try:
        yield
    finally:
        module.forward = before  # type: ignore[method-assign]
