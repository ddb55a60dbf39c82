"""Geometry against an independent, slow, float64 account of the same operations."""

import json
import math
import time

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from mmexplain import geometry as geometry_module
from mmexplain.geometry import Geometry, fit
from mmexplain.preprocess import Preprocess

SIDE = st.integers(1, 150)
SHIFT = st.integers(-60, 60)
resizes = st.tuples(st.just("resize"), SIDE, SIDE)
crops = st.tuples(st.just("crop"), SHIFT, SHIFT, SIDE, SIDE)
pads = st.tuples(st.just("pad"), *[st.integers(0, 40)] * 4)
histories = st.lists(st.one_of(resizes, crops, pads), max_size=5)


def compose(height, width, history):
    """The geometry, and what happened told step by step: a matrix (input ← original) and one slice of photo per
    axis, in input pixels."""
    geometry = Geometry.identity(height, width)
    matrix = np.eye(3)
    size = np.array([width, height], dtype=float)
    photo = np.array([[0.0, width], [0.0, height]])
    for name, *values in history:
        geometry = getattr(geometry, name)(*values)
        if name == "resize":
            scale, shift = np.array(values[::-1]) / size, np.zeros(2)
            size = np.array(values[::-1], dtype=float)
        else:
            scale = np.ones(2)
            if name == "crop":
                top, left, h, w = values
                shift, size = -np.array([left, top], dtype=float), np.array([w, h], dtype=float)
            else:
                left, top, right, bottom = values
                shift, size = np.array([left, top], dtype=float), size + np.array([left + right, top + bottom])
        matrix = np.diag([*scale, 1.0]) @ matrix
        matrix[:2, 2] += shift
        photo = photo * scale[:, None] + shift[:, None]
        photo = np.stack([photo[:, 0].clip(0, size), photo[:, 1].clip(0, size)], axis=1)
    return geometry, matrix, photo


@given(SIDE, SIDE, histories, st.floats(-500, 900), st.floats(-500, 900))
def test_points_follow_every_step_and_come_back(height, width, history, x, y):
    geometry, matrix, _ = compose(height, width, history)
    expected = matrix @ [x, y, 1.0]
    there = geometry.point_to_input(x, y)
    np.testing.assert_allclose(there, expected[:2], rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(geometry.point_to_original(*there), (x, y), atol=1e-4)
    tensors = geometry.point_to_input(*torch.tensor([x, y], dtype=torch.float64))
    np.testing.assert_allclose([float(value) for value in tensors], there, atol=1e-9)


@given(SIDE, SIDE, histories)
def test_what_was_seen_is_what_no_step_cut_away(height, width, history):
    geometry, matrix, photo = compose(height, width, history)
    seen = geometry.seen().numpy()
    assert seen.shape == (height, width)
    for axis, (mask, count) in enumerate(((seen.any(0), width), (seen.any(1), height))):
        centre = matrix[axis, axis] * (np.arange(count) + 0.5) + matrix[axis, 2]
        if not seen.any():
            continue
        for value, flag in zip(centre, mask, strict=True):
            if min(abs(value - photo[axis])) > 1e-6:  # on the very edge either is right
                assert flag == (photo[axis, 0] < value < photo[axis, 1])


def test_border_cropped_away_and_padded_again_stays_unseen():
    geometry = Geometry.identity(10, 20).crop(2, 5, 6, 10).pad(5, 2, 5, 2)
    assert geometry.box == (0, 0, 20, 10)
    assert geometry.visible == (5, 2, 15, 8)
    assert geometry.seen().sum() == 60
    whole = Geometry.identity(10, 20).pad(5, 2, 5, 2).crop(2, 5, 10, 20)
    assert whole == Geometry.identity(10, 20)


def slow_map(geometry, values, size):
    """Bilinear at pixel centres, one pixel at a time, in float64."""
    rows, columns = values.shape
    left, top, right, bottom = geometry.box
    out = np.full(size, np.nan)
    for i in range(size[0]):
        for j in range(size[1]):
            y = (i + 0.5) * geometry.original[0] / size[0]
            x = (j + 0.5) * geometry.original[1] / size[1]
            if not (max(top, 0) <= y < min(bottom, geometry.original[0])):
                continue
            if not (max(left, 0) <= x < min(right, geometry.original[1])):
                continue
            u = min(max((x - left) / (right - left) * columns - 0.5, 0), columns - 1)
            v = min(max((y - top) / (bottom - top) * rows - 0.5, 0), rows - 1)
            a, b = math.floor(v), math.floor(u)
            c, d = min(a + 1, rows - 1), min(b + 1, columns - 1)
            fy, fx = v - a, u - b
            out[i, j] = (values[a, b] * (1 - fx) + values[a, d] * fx) * (1 - fy) + (
                values[c, b] * (1 - fx) + values[c, d] * fx
            ) * fy
    return out


CASES = {
    "whole": Geometry.identity(30, 41).resize(16, 16),
    "wide, cropped": Geometry.identity(20, 50).resize(16, 40).crop(0, 12, 16, 16),
    "tall, cropped": Geometry.identity(47, 21).resize(36, 16).crop(10, 0, 16, 16),
    "padded": Geometry.identity(20, 50).resize(10, 25).pad(0, 7, 0, 8),
    "cropped and padded": Geometry.identity(23, 37).crop(-3, 8, 29, 20).resize(16, 16),
}


@pytest.mark.parametrize("geometry", CASES.values(), ids=CASES)
@pytest.mark.parametrize("cells", [(5, 7), (1, 3), (16, 16)])
@pytest.mark.parametrize("size", [None, (9, 14)])
def test_maps_agree_with_a_slow_implementation(geometry, cells, size):
    values = torch.randn(cells, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    result = geometry.to_original(values, size)
    assert result.dtype == torch.float32
    expected = slow_map(geometry, values.numpy(), size or geometry.original)
    np.testing.assert_allclose(result.numpy(), expected, atol=1e-5)
    assert torch.equal(result.isnan(), ~geometry.seen(size))


def test_whole_photo_is_torch_interpolate():
    maps = torch.randn(2, 3, 7, 7)
    expected = F.interpolate(maps, (60, 83), mode="bilinear", align_corners=False)
    torch.testing.assert_close(Geometry.identity(60, 83).resize(224, 224).to_original(maps), expected)


def test_cropped_photo_is_torch_grid_sample():
    geometry = CASES["cropped and padded"]
    maps = torch.randn(1, 1, 6, 5)
    height, width = geometry.original
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    u, v = geometry.point_to_input(x, y)
    grid = torch.stack((u / geometry.input[1], v / geometry.input[0]), -1)[None] * 2 - 1
    expected = F.grid_sample(maps, grid, padding_mode="border", align_corners=False)[0, 0]
    expected[~geometry.seen()] = torch.nan
    torch.testing.assert_close(geometry.to_original(maps)[0, 0], expected, equal_nan=True)


@settings(deadline=None)
@given(SIDE, SIDE, histories, st.integers(2, 30), st.integers(2, 30))
def test_a_linear_ramp_comes_back_exactly(height, width, history, rows, columns):
    geometry, _, _ = compose(height, width, history)
    left, top, right, bottom = geometry.box
    # Each cell holds the original's own coordinate at its centre.
    x = left + (torch.arange(columns).double() + 0.5) / columns * (right - left)
    y = top + (torch.arange(rows).double() + 0.5) / rows * (bottom - top)
    scale = max(1.0, float(x.abs().max()), float(y.abs().max()))
    back = geometry.to_original(torch.stack((x.expand(rows, -1), y[:, None].expand(-1, columns))))
    # Beyond the outermost centres the border is held.
    expected_x = (torch.arange(width).double() + 0.5).clamp(x[0], x[-1]).expand(height, -1)
    expected_y = (torch.arange(height).double() + 0.5).clamp(y[0], y[-1])[:, None].expand(-1, width)
    seen = geometry.seen()
    assert torch.equal(back[0].isnan(), ~seen)
    for axis, expected in zip(back, (expected_x, expected_y), strict=True):
        assert ((axis[seen] - expected[seen]).abs() <= 2e-6 * scale).all()


SHAPES = {"wide": (60, 200), "tall": (210, 70), "square": (90, 90), "tiny": (5, 9)}
WAYS = {
    "cropped": Preprocess(64, (56, 56)),
    "squashed": Preprocess((56, 56)),
    "enlarged": Preprocess(None, (300, 300)),
    "as it is": Preprocess(),
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_one_bright_input_pixel_is_found_in_the_photo(shape, way):
    from PIL import Image

    _, geometry = way(Image.new("RGB", shape[::-1]))
    height, width = geometry.input
    generator = np.random.default_rng(0)
    for _ in range(20):
        row, column = int(generator.integers(height)), int(generator.integers(width))
        hot = torch.zeros(height, width)
        hot[row, column] = 1.0
        x, y = geometry.point_to_original(column + 0.5, row + 0.5)
        in_photo = 0 <= x < shape[1] and 0 <= y < shape[0]
        # Padding is not a place in the photo: with its only bright pixel there, the map is flat.
        assert geometry.peak(hot) == ((math.floor(x), math.floor(y)) if in_photo else None)


@given(SIDE, SIDE, histories, st.integers(1, 14), st.integers(1, 14), st.integers(0, 2**16))
@settings(deadline=None)
def test_the_peak_is_where_the_brightest_input_pixel_lies(height, width, history, rows, columns, seed):
    geometry, _, _ = compose(height, width, history)
    values = torch.rand(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    upsampled = F.interpolate(values[None, None], geometry.input, mode="bilinear", align_corners=False)[0, 0]
    rows_at, columns_at = np.indices(geometry.input) + 0.5
    x, y = (places.ravel() for places in geometry.point_to_original(columns_at, rows_at))
    left, top, right, bottom = geometry.visible
    inside = (x >= left) & (x < right) & (y >= top) & (y < bottom)
    heights = upsampled.numpy().ravel()[inside]
    peak = geometry.peak(values)
    if peak is None:
        assert not heights.size or np.ptp(heights) < 1e-9
    else:
        highest = heights >= heights.max() - 1e-9
        places = zip(np.floor(x[inside][highest]), np.floor(y[inside][highest]), strict=True)
        assert peak in set(places)
        assert 0 <= peak[0] < width and 0 <= peak[1] < height


def test_peak_of_ties_flat_and_broken_maps():
    geometry = Geometry.identity(4, 6)
    tied = torch.zeros(4, 6)
    tied[1, 4] = tied[2, 0] = 1.0
    assert geometry.peak(tied) == (4, 1)
    assert geometry.peak(torch.ones(4, 6)) is None
    assert geometry.peak(torch.full((2, 2), torch.nan)) is None
    assert geometry.peak(torch.tensor([[0.0, torch.inf]])) is None
    assert Geometry.identity(4, 6).crop(10, 10, 4, 4).peak(torch.rand(4, 4)) is None
    assert geometry.peak(-tied.bfloat16().requires_grad_()) == (3, 1), "the middle of all that is 0"


def test_boxes():
    geometry = Geometry.identity(100, 200).resize(50, 50).crop(10, 5, 30, 40)
    boxes = torch.tensor([[20.0, 20.0, 180.0, 80.0]])
    assert geometry.box_to_input(boxes).tolist() == [[0.0, 0.0, 40.0, 30.0]]


def test_large_photos_are_rendered_small():
    geometry = Geometry.identity(10_000, 10_000).resize(256, 256).crop(16, 16, 224, 224)
    size = geometry.display_size(100)
    assert size == (100, 100)
    back = geometry.to_original(torch.rand(12, 7, 7), size)
    assert back.shape == (12, 100, 100)
    assert back[0, 50].isnan().sum() == 12  # 6.25 of 100 columns cropped on each side
    assert fit((3, 5000), 1600) == (1, 1600)
    assert fit((300, 500), 1600) == (300, 500)


def test_maps_stay_differentiable():
    maps = torch.rand(2, 3, 3, dtype=torch.float64, requires_grad=True)
    geometry = CASES["padded"]
    geometry.to_original(maps).nansum().backward()
    assert maps.grad.shape == (2, 3, 3) and float(maps.grad.sum()) == pytest.approx(2 * 20 * 50)


@given(SIDE, SIDE, histories, st.lists(st.integers(0, 50), max_size=4))
def test_survives_json(height, width, history, frames):
    geometry, _, _ = compose(height, width, history)
    if frames:
        geometry = geometry.sample(tuple(frames))
    assert Geometry.from_dict(json.loads(json.dumps(geometry.to_dict()))) == geometry


@pytest.mark.parametrize(
    "build",
    [
        lambda: Geometry.identity(0, 5),
        lambda: Geometry.identity(5, 5).resize(5, 0),
        lambda: Geometry((5, 5), (5, 5), (3.0, 0.0, 3.0, 5.0)),
        lambda: Geometry.identity(5, 5).sample(()),
        lambda: Geometry.identity(5, 5).sample((3, 9), 9),
        lambda: Geometry.identity(5, 5).to_original(torch.rand(5)),
        lambda: Geometry.identity(5, 5).to_original(torch.rand(3, 0, 5)),
        lambda: Geometry.identity(5, 5).seen_frames(),
        lambda: Geometry.identity(5, 5).sample((0, 1)).to_original(torch.rand(5, 5)),
    ],
)
def test_nonsense_is_refused(build):
    with pytest.raises(ValueError, match=r"\w"):
        build()


@pytest.mark.cuda
def test_maps_on_a_gpu_stay_there():
    maps = torch.randn(3, 7, 7)
    for geometry in CASES.values():
        result = geometry.to_original(maps.cuda())
        assert result.is_cuda
        torch.testing.assert_close(result.cpu(), geometry.to_original(maps), equal_nan=True)
        assert geometry.peak(maps[0].cuda()) == geometry.peak(maps[0])
    clip = Geometry.identity(9, 9).sample((0, 2, 4))
    assert clip.to_original(maps.cuda()).is_cuda and clip.peak_in_clip(maps.cuda()) == clip.peak_in_clip(maps)


# -- clips ---------------------------------------------------------------------------------------------------------


def test_every_frame_of_a_clip_is_torch_trilinear():
    geometry = Geometry.identity(12, 10).resize(8, 8).sample(tuple(range(8)), 8)
    maps = torch.randn(2, 4, 3, 3)
    expected = F.interpolate(maps[:, None], (8, 12, 10), mode="trilinear", align_corners=False)[:, 0]
    torch.testing.assert_close(geometry.to_original(maps), expected)


def test_skipped_frames_are_unseen_unless_asked_for():
    geometry = Geometry.identity(4, 4).sample((1, 3, 7), 9)
    maps = torch.tensor([10.0, 20.0, 40.0]).view(3, 1, 1).expand(3, 2, 2)
    back = geometry.to_original(maps)
    assert back.shape == (9, 4, 4)
    assert torch.equal(~back.isnan().all(-1).all(-1), geometry.seen_frames())
    assert geometry.seen_frames().nonzero().flatten().tolist() == [1, 3, 7]
    np.testing.assert_allclose(
        geometry.to_original(maps, between=True)[:, 0, 0], [np.nan, 10, 15, 20, 25, 30, 35, 40, np.nan]
    )
    small = dict(geometry.each_frame(maps, size=(2, 3)))
    assert list(small) == list(range(9)) and small[3].shape == (2, 3) and float(small[3][0, 0]) == 20


def test_a_frame_taken_twice_shows_the_mean():
    geometry = Geometry.identity(2, 2).sample((0, 2, 2, 2), 3)
    maps = torch.tensor([0.0, 3.0, 6.0, 9.0]).view(4, 1, 1)
    assert geometry.to_original(maps, between=True)[:, 0, 0].tolist() == [0.0, 1.5, 6.0]


def test_peak_of_a_clip():
    geometry = Geometry.identity(20, 30).resize(10, 10).sample((4, 8, 12, 16))
    values = torch.zeros(4, 10, 10)
    values[2, 3, 7] = 1.0
    assert geometry.peak_in_clip(values) == (22, 7, 12)
    assert geometry.peak_in_clip(torch.zeros(4, 10, 10)) is None
    assert geometry.peak_in_clip(values[1::2]) is None
    # Two cells over four frames: the second cell is read most strongly from the last frame.
    assert geometry.peak_in_clip(values[:1] * 0 + torch.tensor([0.0, 1.0]).view(2, 1, 1) * values[2])[2] == 16


@pytest.mark.parametrize("seed", range(8))
def test_the_peak_of_a_clip_is_the_maximum_of_all_its_frames(seed):
    """Against trilinear interpolation of everything at once; a grid whose time axis is finer, as fine and coarser."""
    values = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    for count in (2, 3, 11):
        numbers = tuple(range(1, 3 * count, 3))
        geometry = Geometry.identity(18, 20).resize(9, 10).sample(numbers, 40)
        everything = F.interpolate(values[None, None], (count, 9, 10), mode="trilinear", align_corners=False)[0, 0]
        place, row, column = np.unravel_index(int(everything.argmax()), everything.shape)
        assert geometry.peak_in_clip(values) == (2 * column + 1, 2 * row + 1, numbers[place])


def test_of_equal_peaks_the_earliest_counts():
    geometry = Geometry.identity(4, 4).sample(tuple(range(6)))
    values = torch.zeros(6, 4, 4)
    values[2, 1, 3] = values[2, 3, 0] = values[5, 0, 0] = 1.0
    assert geometry.peak_in_clip(values) == (3, 1, 2)


def test_importance_over_time_is_the_mean_of_the_takes_of_each_frame():
    geometry = Geometry.identity(2, 2).sample((3, 0, 3, 1), 5)
    values = torch.tensor([[8.0, 1.0, 4.0, 5.0], [0.0, 0.0, 1.0, 0.0]])
    expected = [[1.0, 5.0, np.nan, 6.0, np.nan], [0.0, 0.0, np.nan, 0.5, np.nan]]
    np.testing.assert_array_equal(geometry.over_time(values), expected)


def test_ten_minutes_of_video_take_neither_long_nor_much_memory():
    """15,000 frames: a peak is found without interpolating all of them, a curve without going through them in turn."""
    geometry = Geometry.identity(240, 320).resize(128, 171).crop(8, 29, 112, 112).sample(tuple(range(15_000)))
    values = torch.rand(1_875, 7, 7, generator=torch.Generator().manual_seed(0))
    values[1_000, 3, 3] = 2.0
    started = time.process_time()
    assert geometry.peak_in_clip(values)[2] // 8 == 1_000
    assert geometry.over_time(values.mean((1, 2))).shape == (15_000,)
    numbers = [number for number, _ in zip(geometry.each_frame(values, (6, 8)), range(1_000), strict=False)]
    assert len(numbers) == 1_000
    assert time.process_time() - started < 5


@pytest.mark.parametrize("seed", range(8))
def test_the_range_of_a_clip_is_that_of_all_its_frames(seed: int) -> None:
    random = np.random.default_rng(seed)
    frames = tuple(sorted(random.integers(0, 12, 6).tolist()))
    geometry = Geometry.identity(37, 53).resize(16, 23).crop(-2, 5, 18, 15).sample(frames, 12)
    maps = torch.from_numpy(random.normal(size=(3, 5, 4)))
    for size in ((37, 53), (9, 14)):
        shown = geometry.to_original(maps, size)
        seen = shown[~shown.isnan()]
        assert geometry.range_in_clip(maps, size) == pytest.approx((float(seen.min()), float(seen.max())), abs=1e-6)


def test_the_peak_of_a_clip_that_stands_still_is_found_at_once() -> None:
    maps = torch.rand(1, 7, 7, generator=torch.Generator().manual_seed(0)).expand(3000, 7, 7)
    geometry = Geometry.identity(240, 320).resize(224, 224)
    clip = geometry.sample(tuple(range(3000)))
    place = geometry.peak(maps[0])
    assert place is not None
    assert clip.peak_in_clip(maps) == (*place, 0)


@pytest.mark.parametrize("seed", range(6))
def test_the_peak_of_a_clip_is_that_of_its_heatmap(seed: int) -> None:
    """Frames that were held or taken out of turn have the mean of their takes, in both."""
    random = np.random.default_rng(seed)
    frames = tuple(sorted(random.integers(0, 6, 9).tolist()))
    geometry = Geometry.identity(16, 20).sample(frames, 7)
    maps = torch.from_numpy(random.normal(size=(4, 3, 5)))
    shown = geometry.to_original(maps).nan_to_num(-torch.inf)
    frame, pixel = divmod(int(shown.argmax()), 16 * 20)
    assert geometry.peak_in_clip(maps) == (pixel % 20, pixel // 20, frame)


def test_the_peak_of_a_plateau_is_its_middle():
    """Of the plateaus that are highest the first in reading order; places that touch by a corner hang together."""
    values = torch.zeros(40, 60)
    values[10:19, 20:31] = 2.0
    values[30:33, 2:5] = 2.0
    assert Geometry.identity(40, 60).peak(values) == (25, 14)
    values[9, 19] = 2.0
    x, y = Geometry.identity(40, 60).peak(values)
    assert (x, y) == (25, 14), "one pixel more does not move it"
    ring = torch.zeros(9, 9)
    ring[[2, 2, 2, 3, 3, 4, 4, 4], [2, 3, 4, 2, 4, 2, 3, 4]] = 1.0
    x, y = Geometry.identity(9, 9).peak(ring)
    assert ring[y, x] == 1.0, "the middle of a ring is not on it"


def test_the_peak_of_a_plateau_does_not_depend_on_how_the_map_is_cut(monkeypatch):
    values = torch.zeros(40, 60)
    values[10:19, 20:31] = 2.0
    monkeypatch.setattr(geometry_module, "_PIXELS_AT_ONCE", 130)
    assert Geometry.identity(40, 60).peak(values) == (25, 14)
