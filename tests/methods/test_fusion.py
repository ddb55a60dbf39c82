"""LayerCAM of several layers in one map: the formula, the way through the package, the disk and the command line."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mmexplain.explainer import explain
from mmexplain.explanation import Explanation, MapKey
from mmexplain.geometry import Geometry
from mmexplain.methods import fused
from mmexplain.methods.elementwise import GAMMA
from mmexplain.picture import Picture
from tests.command_line import record, run
from tests.models import ModelTask, PlainCNN, VideoNet, classes, noise, seeded

pytest_plugins = ["tests.command_line_fixtures"]

METHOD = "layercam-fused"


def at(value: Tensor, place: float, axis: int) -> Tensor:
    """Linear interpolation along an axis, held beyond the centres of the first and last cell."""
    place = min(max(place, 0.0), value.shape[axis] - 1.0)
    low = min(int(place), value.shape[axis] - 1)
    high = min(low + 1, value.shape[axis] - 1)
    return value.select(axis, low) * (1 - (place - low)) + value.select(axis, high) * (place - low)


def slow(maps: list[Tensor]) -> Tensor:
    """Eq. 9 and the maximum for photos ``[h, w]``, one pixel at a time in float64."""
    height, width = (max(one.shape[axis] for one in maps) for axis in range(2))
    coarsest = min(one.numel() for one in maps)
    found = torch.zeros(height, width, dtype=torch.float64)
    for one in maps:
        top = one.max().item()
        values = one.double() / top if top else one.double()
        if one.numel() > coarsest:
            values = torch.tensor([[math.tanh(GAMMA * value) for value in row] for row in values.tolist()])
            values = values.double()
        for y in range(height):
            row = at(values, (y + 0.5) / height * one.shape[0] - 0.5, 0)
            for x in range(width):
                pixel = at(row, (x + 0.5) / width * one.shape[1] - 0.5, 0).item()
                found[y, x] = max(found[y, x].item(), pixel)
    return found


def test_against_the_formula_pixel_by_pixel() -> None:
    maps = [noise(2, 3, *size, seed=n).relu() for n, size in enumerate([(8, 6), (4, 3), (4, 3), (5, 7)])]
    maps[1][0, 1] = 0
    found = fused(maps)
    assert found.shape == (2, 3, 8, 7)
    for b in range(2):
        for k in range(3):
            expected = slow([one[b, k] for one in maps])
            torch.testing.assert_close(found[b, k], expected, rtol=1e-6, atol=1e-6)


def test_by_hand() -> None:
    shallow = torch.tensor([[0.0, 2.0], [1.0, 4.0]])[None, None]
    deep = torch.tensor([[10.0]])[None, None]
    torch.testing.assert_close(fused([shallow, deep / 1e6]), torch.ones(1, 1, 2, 2))
    torch.testing.assert_close(fused([shallow, 0 * deep])[0, 0], torch.tanh(shallow[0, 0] / 2))
    # On grids of one size nothing is shallow.
    torch.testing.assert_close(fused([shallow, shallow.flip(3)])[0, 0], torch.tensor([[0.5, 0.5], [1.0, 1.0]]))


def test_one_layer_is_its_own_map() -> None:
    maps = noise(2, 3, 4, 5)
    assert fused([maps]) is maps
    task = ModelTask(seeded(PlainCNN))
    (found,) = explain(task, task.prepare(noise(1, 3, 8, 8)), [classes(1)], layers=["conv2"], methods=[METHOD])
    (expected,) = explain(task, task.prepare(noise(1, 3, 8, 8)), [classes(1)], layers=["conv2"], methods=["layercam"])
    assert list(found.maps) == [MapKey("conv2", METHOD)]
    assert torch.equal(*found.maps.values(), *expected.maps.values())


@pytest.mark.parametrize(
    ("make", "layers", "shape", "size"),
    [(PlainCNN, ["conv1", "conv2"], (3, 16, 12), (8, 6)), (VideoNet, ["conv1", "conv2"], (3, 4, 12, 8), (4, 6, 4))],
)
def test_batches_targets_and_chunks_are_as_one_by_one(make, layers, shape, size) -> None:
    task, images = ModelTask(seeded(make)), noise(2, *shape)

    def maps(rows: slice, targets: list[int], **options: int) -> Tensor:
        batch = task.prepare(images[rows])
        found = explain(
            task, batch, [classes(*targets)] * len(images[rows]), layers=layers, methods=[METHOD], **options
        )
        assert list(found[0].maps) == [MapKey("+".join(layers), METHOD)], "the maps it is made of were not asked for"
        return torch.stack([next(iter(one.maps.values())) for one in found])

    whole = maps(slice(None), [0, 3, 4])
    assert whole.shape == (2, 3, *size) and whole.min() >= 0 and whole.flatten(2).amax(2).min() > 0
    for b in range(2):
        torch.testing.assert_close(maps(slice(b, b + 1), [0, 3, 4])[0], whole[b])
    for k, number in enumerate([0, 3, 4]):
        torch.testing.assert_close(maps(slice(None), [number])[:, 0], whole[:, k])
    torch.testing.assert_close(maps(slice(None), [0, 3, 4], memory=1), whole)


def test_clips_are_interpolated_over_time() -> None:
    early, late = torch.zeros(1, 1, 4, 2, 2), torch.zeros(1, 1, 2, 1, 1)
    late[0, 0, 0] = 3.0
    expected = torch.tensor([1.0, 0.75, 0.25, 0.0])[:, None, None].expand(4, 2, 2)
    torch.testing.assert_close(fused([early, late])[0, 0], expected)


def test_it_can_be_trained_through() -> None:
    one, other = noise(1, 1, 4, 4).abs().requires_grad_(), noise(1, 1, 2, 2, seed=1).abs().requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: fused([a, b]), (one, other))


# -- on disk and on the command line ----------------------------------------------------------------------------------


@pytest.mark.parametrize("clip", [False, True], ids=["photo", "clip"])
def test_a_map_of_two_layers_is_saved_loaded_and_drawn(tmp_path: Path, clip: bool) -> None:
    task = ModelTask(seeded(VideoNet if clip else PlainCNN))
    image = noise(1, 3, *([4] if clip else []), 16, 12)
    (found,) = explain(task, task.prepare(image), [classes(0, 3)], layers=["conv1", "conv2"], methods=[METHOD])
    found.geometry = Geometry.identity(16, 12).resize(16, 12)
    found.picture = Picture(torch.zeros(16, 12, 3, dtype=torch.uint8), "photo.jpg")
    if clip:
        found.geometry = found.geometry.sample((0, 2, 4, 6), 8)
        found.picture = Picture(
            torch.zeros(4, 16, 12, 3, dtype=torch.uint8), "c.mp4", (0, 2, 4, 6), (0.0, 0.2, 0.4, 0.6)
        )
    loaded = Explanation.load(found.save(tmp_path / "e.safetensors"))
    key = MapKey("conv1+conv2", METHOD)
    assert list(loaded.maps) == [key] and torch.equal(loaded.maps[key], found.maps[key])
    assert loaded.to_json() == found.to_json()
    assert loaded.to_json()["targets"][0]["layer"] == "conv1+conv2"
    assert loaded.map(0, layer="conv1+conv2").shape == ((4, 8, 6) if clip else (8, 6))
    assert loaded.heatmap(0).shape == ((8, 16, 12) if clip else (16, 12))
    assert loaded.peak(0) is not None
    loaded.save(tmp_path / "e.html")
    assert "conv1+conv2" in (tmp_path / "e.html").read_text(encoding="utf-8")


def test_the_command_line_fuses_the_layers_that_are_named(
    tmp_path: Path, photo: Path, classifier: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["classify", photo, "--model", classifier, "--layer", "layer2", "--layer", "layer3"]
    found = record(*arguments, "--target", "cloud", "--method", METHOD)["targets"]
    assert [(target["layer"], target["method"]) for target in found] == [("layer2+layer3", METHOD)]
    arguments += ["--target", "0", "--target", "cloud", "--method", METHOD, "--method", "gradcam"]
    assert run(*arguments, "--out", tmp_path / "maps").exit_code == 0
    names = sorted(path.name for path in (tmp_path / "maps").rglob("*.png"))
    assert any("layercam-fused" in name for name in names), names
    assert run(*arguments, "--out", tmp_path / "report.html").exit_code == 0
    assert "layer2+layer3" in (tmp_path / "report.html").read_text(encoding="utf-8")
