"""Planted evidence: which token stands for a place of a photo is found out by changing the photo there, and the model
is then edited so that nothing but this token has a say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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


def blocks_around(model: nn.Module, layer: str) -> nn.ModuleList:
    """The blocks that a layer is one of, which keep the shape of what they are given; none for a layer of a CNN or one
    that stands alone, where tokens mix, but none so much as the one that stands for a place."""
    parent = model.get_submodule(layer.rpartition(".")[0])
    return parent if isinstance(parent, nn.ModuleList) else nn.ModuleList()


@contextmanager
def blocks_do_nothing(blocks: nn.ModuleList) -> Iterator[None]:
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
    one, two = (_channels_last(output_of(module, lambda shown=shown: run(shown))) for shown in (image, other))
    return (one - two).abs().flatten(0, -2).sum(-1)


def _channels_last(value: Tensor) -> Tensor:
    """Tokens as they are; a CNN's maps as tokens."""
    return value.movedim(1, -1) if value.ndim == 4 else value


@contextmanager
def only_token(module: nn.Module, number: int, *, every_row: bool = False) -> Iterator[None]:
    """The module puts out its token ``number`` (of all rows one after the other, or of each), and nothing beside it."""
    before = module.forward

    def run(*args: Any, **kwargs: Any) -> Any:
        output = before(*args, **kwargs)
        value = first_tensor(output)
        assert value is not None
        tokens = _channels_last(value)
        mask = torch.zeros(tokens.shape[:-1], dtype=tokens.dtype)
        mask.view(len(mask) if every_row else 1, -1)[:, number] = 1.0
        mask = mask.unsqueeze(1 if value.ndim == 4 else -1)
        return replace_tensor(output, value, value * mask)

    module.forward = run  # type: ignore[method-assign]
    try:
        yield
    finally:
        module.forward = before  # type: ignore[method-assign]
