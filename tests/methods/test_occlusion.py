"""Occlusion against a loop over single patches, and on a model whose answer is known."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mmexplain.errors import MethodError
from mmexplain.explainer import explain
from mmexplain.explanation import MapKey
from mmexplain.methods import select
from mmexplain.methods.occlusion import SIZES
from mmexplain.taps import INPUT
from tests.models import ModelTask, PlainCNN, classes, noise, seeded


class Sums(nn.Module):
    """Class 0 adds up all pixels, class 1 those of the left half, class 2 minus those of the right half."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        half = images.shape[-1] // 2
        left, right = images[..., :half].sum((1, 2, 3)), images[..., half:].sum((1, 2, 3))
        return torch.stack([left + right, left, -right], 1)


def test_a_sum_by_hand() -> None:
    """Covering a patch takes its pixels from the sum; where patches overlap, the mean of what each takes."""
    images = torch.arange(36.0).view(1, 1, 6, 6)
    task = ModelTask(Sums())
    (found,) = explain(task, task.prepare(images), [classes(0, 1, 2)], methods=["occlusion(patch=3, stride=3)"])
    maps = found.maps[MapKey(INPUT, "occlusion(patch=3, stride=3)")]
    quarters = images[0, 0].unfold(0, 3, 3).unfold(1, 3, 3).sum((2, 3))
    torch.testing.assert_close(maps[0], quarters.repeat_interleave(3, 0).repeat_interleave(3, 1))
    assert maps[1][:, 3:].abs().max() == 0 and maps[2].max() <= 0
    assert found.scores.tolist() == [630.0, float(images[..., :3].sum()), -float(images[..., 3:].sum())]


@pytest.mark.parametrize(("patch", "stride"), [(3, 1), (4, 3), (5, 0), (90, 0)])
def test_against_a_loop_over_patches(patch: int, stride: int) -> None:
    """One patch, one run of the model, one pixel at a time, in float64."""
    task = ModelTask(seeded(PlainCNN).double())
    images, targets = noise(2, 3, 16, 12).double(), classes(1, 3)
    name = f"occlusion(patch={patch}, stride={stride}, fill='black')"
    found = explain(task, task.prepare(images), [targets] * 2, methods=[name])
    height, width = min(patch, 16), min(patch, 12)
    step = stride or (patch + 1) // 2
    tops = [*range(0, 16 - height, step), 16 - height]
    lefts = [*range(0, 12 - width, step), 12 - width]
    for number, image in enumerate(images):
        with torch.no_grad():
            whole = task.model.eval()(image[None])[0, [1, 3]]
            drops: dict[tuple[int, int], list[torch.Tensor]] = {}
            for top in tops:
                for left in lefts:
                    covered = image.clone()
                    covered[:, top : top + height, left : left + width] = 0
                    drop = whole - task.model(covered[None])[0, [1, 3]]
                    for y in range(top, top + height):
                        for x in range(left, left + width):
                            drops.setdefault((y, x), []).append(drop)
        expected = torch.stack([torch.stack(drops[y, x]).mean(0) for y in range(16) for x in range(12)])
        (key,) = found[number].maps
        torch.testing.assert_close(found[number].maps[key], expected.T.unflatten(1, (16, 12)).float())


def test_a_clip_is_covered_for_some_frames() -> None:
    class Middle(nn.Module):
        def forward(self, clip: torch.Tensor) -> torch.Tensor:
            return clip[:, :, 4, 2, 2].sum(1, keepdim=True)

    task = ModelTask(Middle())
    clip = torch.ones(1, 3, 9, 6, 6)
    (found,) = explain(task, task.prepare(clip), [classes(0)], methods=["occlusion(patch=2, stride=2, frames=3)"])
    (value,) = found.maps.values()
    assert value.shape == (1, 9, 6, 6)
    # Patches of 3 frames start at 0, 2, 4 and 6: two of them cover frame 4, of the one or two on each frame.
    assert value[0, :, 2, 2].tolist() == [0.0, 0.0, 1.5, 3.0, 3.0, 3.0, 1.5, 0.0, 0.0]
    assert value[0, :, 0, 0].abs().max() == 0


def test_pixels_between_the_patches_have_the_value_of_the_nearest() -> None:
    images = torch.arange(64.0).view(1, 1, 8, 8)
    task = ModelTask(Sums())
    (found,) = explain(task, task.prepare(images), [classes(0)], methods=["occlusion(patch=2, stride=5)"])
    (value,) = found.maps.values()
    patches = torch.stack([images[0, 0, y : y + 2, x : x + 2].sum() for y in (0, 5, 6) for x in (0, 5, 6)]).view(3, 3)
    assert value.isfinite().all()
    assert value[0, 0, 0] == value[0, 1, 1] == value[0, 2, 3] == patches[0, 0], "pixel 3 is as near to 1 as to 5"
    assert value[0, 0, 4] == value[0, 3, 5] == patches[0, 1]
    assert value[0, 4, 4] == patches[1, 1] and value[0, 7, 7] == patches[2, 2]
    assert value[0, 6, 6] == patches[1:, 1:].mean()


def test_the_six_sizes_of_the_paper_in_one_call() -> None:
    methods = select(f"occlusion(patch={list(SIZES)})")
    assert [method.options.get("patch", 35) for method in methods] == list(SIZES)
    assert methods[3].name == "occlusion" and methods[0].name == "occlusion(patch=10)"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("occlusion(patch=0)", "covers 1 pixel"),
        ("occlusion(stride=-1)", "not by stride=-1"),
        ("occlusion(patch=3, patch=2)", "cannot read the method"),
        ("occlusion(**{'patch': 3})", "cannot read the method"),
        ("smoothgrad(noise=1e400)", "noise of 'smoothgrad' is like 0.15, not inf"),
        ("occlusion(fill='pink')", "'grey' or 'black'"),
        ("occlusion(size=3)", "no parameter 'size'.*patch=35"),
        ("occlusion(patch='3')", "patch of 'occlusion' is like 35, not '3'"),
        ("occlusion(3)", "cannot read the method"),
        ("gradcam(patch=3)", "it has none"),
    ],
)
def test_wrong_parameters_are_told(name: str, message: str) -> None:
    task = ModelTask(Sums())
    with pytest.raises(MethodError, match=message):
        explain(task, task.prepare(torch.ones(1, 1, 4, 4)), [classes(0)], methods=[name])
