"""How the tokens of video transformers lie over a clip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from mmexplain.errors import LayerError
from mmexplain.reader import Reader


@dataclass(frozen=True)
class Tubelets:
    """A clip cut into t × h × w tubelets, and their tokens in a model.

    Attributes:
        grid: ``(h, w)``.
        steps: t, each of them one or more frames; None if the model takes clips of any length.
        prefix: leading tokens that are no place in the clip.
        divided: TimeSformer's order (Bertasius et al. 2021): the step changes fastest, and attention goes over the
            steps of one place and over the places of one step in turn. Otherwise steps, rows and columns follow each
            other.
    """

    grid: tuple[int, int]
    steps: int | None
    prefix: int = 0
    divided: bool = False

    def reader(self, layer: str, shape: Sequence[int]) -> Reader | None:
        """How a layer that puts out ``shape`` is read; see :meth:`mmexplain.tasks.base.Task.reader`.

        Raises:
            LayerError: as many tokens are no grid.
        """
        if len(shape) > 3 and tuple(shape[-2:]) != self.grid:
            raise LayerError(f"layer {layer!r} puts out shape {tuple(shape)}, which is no grid over the clip")
        if len(shape) != 3:
            return None
        found = self._divided(layer, shape[1]) if self.divided else self._in_turn(shape[1])
        if found is None:
            raise LayerError(
                f"layer {layer!r} puts out {shape[1]} token(s), which are no grid over the clip; choose one that "
                "`mmexplain layers` lists with a map"
            )
        return found

    def _in_turn(self, tokens: int) -> Reader | None:
        places = self.grid[0] * self.grid[1]
        for prefix in dict.fromkeys((self.prefix, 0)):
            steps, rest = divmod(tokens - prefix, places)
            if rest == 0 and steps > 0 and self.steps in (None, steps):
                return Reader("tokens", prefix, (steps, *self.grid))
        return None

    def _divided(self, layer: str, tokens: int) -> Reader | None:
        """All tokens together, or those of one step or one place as a row of their own."""
        assert self.steps is not None
        places = self.grid[0] * self.grid[1]
        grid = (self.steps, *self.grid)
        place, step = torch.arange(places).view(1, *self.grid), torch.arange(self.steps).view(-1, 1, 1)
        over_time = any(part.startswith(("temporal", "time_")) for part in layer.split("."))
        for prefix in (self.prefix, 0):
            if tokens == prefix + places * self.steps:
                return Reader("tokens", prefix, grid, order=prefix + place * self.steps + step)
        if tokens == self.steps and over_time:
            return Reader("tokens", 0, grid, rows=places, order=place * self.steps + step)
        for prefix in (self.prefix, 0):
            if tokens == prefix + places and not over_time:
                return Reader("tokens", prefix, grid, rows=self.steps, order=step * tokens + prefix + place)
        return None


def tubelet_of(config: Any) -> tuple[int, int, int]:
    """Frames, rows and columns of a tubelet, as a model's configuration has them."""
    size = getattr(config, "tubelet_size", 1)
    if isinstance(size, (list, tuple)):
        frames, rows, columns = size
        return frames, rows, columns
    return size, *pair(config.patch_size)


def pair(size: Any) -> tuple[int, int]:
    """Height and width, of a number that stands for both or of two."""
    height, width = size if isinstance(size, (list, tuple)) else (size, size)
    return height, width
