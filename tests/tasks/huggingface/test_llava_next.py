"""LLaVA-NeXT: where in a photo the tokens of its tiles stand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from PIL import Image

import mmexplain
from tests.tasks.huggingface.planted import blocks_do_nothing, changed_at, only_token, photo, tokens_at
from tests.tasks.huggingface.ramps import SIZES, colours, expected, ramp


def look_of(task: Any, image: Image.Image) -> Any:
    return task.speaker.look(mmexplain.io.load_image(image), "what is on the table?")


@pytest.mark.parametrize("size", SIZES)
def test_what_llava_next_sees_at_each_place_is_there_in_the_photo(size: tuple[int, int], captioner: Any) -> None:
    """The model packs mean colours instead of features: each is that of the token's rectangle."""
    task, (width, height) = captioner("llava_next"), size
    look = look_of(task, ramp(width, height))
    model, (_, rows, columns) = task.speaker.model.model, look.views.shape
    means = colours(task.speaker.checkpoint.image_processor, look.image[0], 14)
    newline = torch.full((3,), -9.0)
    (packed,), _ = model.pack_image_features([means], look.arguments["image_sizes"], "default", newline)
    places = (look.prompt[0] == task.speaker.image_token).nonzero()[:, 0]
    assert len(places) == len(packed)
    order = look.context["order"][0]
    there = order[order >= 0]
    assert len(there.unique()) == len(there)
    ends = int((packed == newline).all(-1).sum())
    assert len(there) + ends == len(packed) and ends == int((order[1:] >= 0).any(2).sum()) // look.views.tiles[1]
    seen = dict(zip(places.tolist(), packed, strict=True))
    partly = 0
    for view, row, column in (order >= 0).nonzero().tolist():
        if view == 0:
            cell = (width / columns, height / rows)
            box = (column * cell[0], row * cell[1], (column + 1) * cell[0], (row + 1) * cell[1])
        else:
            down, right = divmod(view - 1, look.views.tiles[1])
            x, y = (right * columns + column) * 14.0, (down * rows + row) * 14.0
            box = (*look.geometry.point_to_original(x, y), *look.geometry.point_to_original(x + 14, y + 14))
        wanted = torch.tensor(expected(box, width, height))
        partly += 0.001 < float(wanted[2]) < 0.999
        assert torch.allclose(seen[int(order[view, row, column])], wanted, atol=0.02), (view, row, column, wanted)
    if size in ((160, 100), (100, 160)):
        assert partly  # cells that are padding in part were among them


def test_padding_of_either_axis_is_cut_off(captioner: Any) -> None:
    """A wide photo loses rows at both ends of the mosaic, a tall one columns; cells with some photo may be among
    them, and some with padding stay."""
    task = captioner("llava_next")
    mosaics = {}
    for size in ((300, 90), (90, 300), (120, 120)):
        look = look_of(task, photo(*size))
        mosaics[size] = look.views.lay_out((look.context["order"][0] >= 0).float())  # the first view adds 1
    wide, tall, square = mosaics.values()
    assert wide.shape == (4, 12) and tall.shape == (12, 4) and square.shape == (8, 8)
    assert torch.equal(wide, tall.T) and bool((square == 2).all())
    look = look_of(task, photo(200, 30))
    cells = look.views.lay_out(torch.cat([torch.zeros(1, 4, 4), (look.context["order"][0, 1:] >= 0).float()]))
    assert cells.shape == (4, 12) and cells[:, 0].tolist() == [0, 1, 1, 0]
    assert cells.amin(1).tolist() == cells.amax(1).tolist()
    look = look_of(task, photo(30, 200))
    other = look.views.lay_out(torch.cat([torch.zeros(1, 4, 4), (look.context["order"][0, 1:] >= 0).float()]))
    assert torch.equal(other, cells.T)


@pytest.mark.parametrize(
    ("size", "box"),
    [
        # 3 × 1 tiles, 168 × 50.4 pixels: 51 rows, 2 above and 3 below; and the same lying on its side
        ((300, 90), (0, 2 / 56, 1, 53 / 56)),
        ((90, 300), (2 / 56, 0, 53 / 56, 1)),
        # 2 × 2 tiles without padding
        ((120, 120), (0, 0, 1, 1)),
    ],
)
def test_where_the_photo_lies_in_the_mosaic(
    size: tuple[int, int], box: tuple[float, float, float, float], captioner: Any
) -> None:
    look = look_of(captioner("llava_next"), photo(*size))
    assert look.views.photo == pytest.approx(box) and look.views.thumbnail == "first"
    assert look.geometry.visible == pytest.approx((0, 0, *size))
    width, height = size
    left, top, right, bottom = look.geometry.box
    inside = [(side - low) / (high - low) for side, low, high in ((0, left, right), (0, top, bottom))]
    inside += [(side - low) / (high - low) for side, low, high in ((width, left, right), (height, top, bottom))]
    assert inside == pytest.approx(box)


@pytest.mark.parametrize("size", [(240, 100), (90, 260), (120, 120)])
@pytest.mark.parametrize("layer", ["model.vision_tower.encoder.layers.1", "model.multi_modal_projector"])
def test_a_tile_is_as_sharp_as_its_cells(size: tuple[int, int], layer: str, captioner: Any) -> None:
    task = captioner("llava_next")
    module, (width, height) = task.model.get_submodule(layer), size
    x, y = int(0.8 * width), int(0.3 * height)
    image = photo(width, height)

    def run(shown: Image.Image) -> None:
        look = look_of(task, shown)
        task.speaker.encode(look.image, look)

    with blocks_do_nothing(task.model.model.vision_tower.encoder.layers):
        differences = tokens_at(module, run, image, changed_at(image, x, y, 2))
    each = 17 if "tower" in layer else 16
    number = each + int(differences[each:].argmax())  # of the tiles: the whole photo comes first
    with only_token(module, number):
        found = task.explain(image, caption="a dog", methods=["gradcam-no-relu"], layers=[layer])
    (maps,) = found.maps.values()
    left, top, right, bottom = found.geometry.box
    for strengths in maps.abs():
        assert int((strengths > 0).sum()) == 1
        row, column = divmod(int(strengths.argmax()), strengths.shape[1])
        cell = (right - left) / strengths.shape[1], (bottom - top) / strengths.shape[0]
        assert abs(left + (column + 0.5) * cell[0] - x) <= cell[0] / 2 + 3
        assert abs(top + (row + 0.5) * cell[1] - y) <= cell[1] / 2 + 3


def test_a_prompt_with_a_token_of_a_photo_is_named(captioner: Any) -> None:
    with pytest.raises(mmexplain.InputError, match="holds '<image>', which stands for the photo"):
        captioner("llava_next").explain(photo(120, 120), caption="a dog", prompt="what is <image>?")
