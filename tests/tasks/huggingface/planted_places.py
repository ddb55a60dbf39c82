"""Evidence that is planted: a model whose score depends on one place of the photo and on no other."""

import torch
from torch import nn

from mmexplain.engine import run
from mmexplain.problem import Problem
from mmexplain.taps import first_tensor, replace_tensor
from tests.tasks.huggingface import tiny


class Planted(nn.Module):
    """A layer of which all that follows sees one place only; what the layer puts out is that of ``inner``."""

    def __init__(self, inner, seen):
        super().__init__()
        self.inner = inner
        self.seen = seen  # output → bool, broadcast against it

    def __getattr__(self, name):
        return super().__getattr__(name) if name in ("inner", "_modules") else getattr(self.inner, name)

    def forward(self, *args, **kwargs):
        output = self.inner(*args, **kwargs)
        value = first_tensor(output)
        return replace_tensor(output, value, torch.where(self.seen(value), value, torch.zeros_like(value)))


class planted:
    """The model of a task with ``layer`` :class:`Planted`, for a while; gives the name of the layer within."""

    def __init__(self, model, layer, seen):
        parent, _, self.name = layer.rpartition(".")
        self.parent = model.get_submodule(parent)
        self.inner = self.parent._modules[self.name]
        self.layer, self.seen = layer, seen

    def __enter__(self):
        self.parent._modules[self.name] = Planted(self.inner, self.seen)
        return f"{self.layer}.inner"

    def __exit__(self, *_):
        self.parent._modules[self.name] = self.inner


def cell(pixels, grid):
    """``(row, column)`` of the cell of a grid over ``[3, h, w]`` in which a square is lit."""
    light = nn.functional.adaptive_avg_pool2d(pixels.mean(0, keepdim=True), grid)[0]
    row, column = divmod(int(light.argmax()), grid[1])
    return row, column


def tokens(index):
    """What sees one token of ``[B, T, C]``."""
    return lambda value: (torch.arange(value.shape[1]) == index)[None, :, None]


def places(row, column):
    """What sees one place of ``[B, C, h, w]``."""

    def seen(value):
        rows, columns = (torch.arange(side) for side in value.shape[2:])
        return ((rows == row)[:, None] & (columns == column)[None])[None, None]

    return seen


def lit_photo(width, height, x, y):
    """A photo with a lit square around ``(x, y)``."""
    return tiny.lit(width, height, x, y, min(width, height) // 20)


def sensitivity(task, photo, layer, targets):
    """Where each score depends on a layer: the length of the gradient at each place, ``[K, *S]``; and the geometry.

    A product with the activations would not do: behind a normalisation it is zero by Euler's theorem.
    """
    batch = task.prepare(photo)
    problem = Problem(
        task.model, task.encode, task.decode, task.score, batch.inputs, batch.context, batch.reader or task.reader
    )

    def lengths(_, __, gradients):
        return {"length": gradients.norm(dim=2)}

    (found,) = run(problem, targets, [layer], lengths).reduced.values()
    return found["length"][0], batch.geometries[0]


def require_peak(maps, geometry, x, y, box, grid):
    """No map has anything but at one place, and its peak is in the same cell of the photo as ``(x, y)``.

    Args:
        maps: ``[K, *S]``.
        geometry: how the input lies over the photo.
        x: pixels of the photo.
        y: pixels of the photo.
        box: ``(left, top, width, height)`` of the photo that the model sees, pixels.
        grid: rows and columns over it.
    """

    def cell_of(x, y):
        left, top, width, height = box
        return int((y + 0.5 - top) / height * grid[0]), int((x + 0.5 - left) / width * grid[1])

    for values in maps:
        assert tuple(values.shape) == tuple(grid)
        assert int((values != 0).sum()) == 1
        assert cell_of(*geometry.peak(values)) == cell_of(x, y)
