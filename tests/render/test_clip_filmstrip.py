"""A clip's figure is the strip of its decisive frames, each in the right place with the right time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mmexplain.explanation import MapKey
from mmexplain.render import figure, save_figure
from mmexplain.render.filmstrip import decisive_frames
from tests.render.clips import clip, write_video

KEY = MapKey("conv", "gradcam")


def texts(drawn: Any) -> list[str]:
    return [text.get_text() for text in drawn.axes[0].texts]


def test_decisive_frames_are_peaks_apart_in_time() -> None:
    curve = torch.zeros(60)
    curve[[10, 11, 12]] = torch.tensor([8.0, 9.0, 7.0])
    curve[[40, 41]] = torch.tensor([5.0, 6.0])
    # With three of 60, frames are at least 10 apart: 11 and 41, then the first of the zeros that is far from both.
    assert decisive_frames(curve, 3) == [0, 11, 41]
    assert decisive_frames(curve[2:], 3) == [9, 19, 39]
    assert decisive_frames(curve, 2) == [11, 41]
    assert decisive_frames(curve, 1) == [11]


def test_decisive_frames_were_seen_and_can_be_had() -> None:
    curve = torch.full((30,), torch.nan)
    curve[[4, 8, 12, 16]] = torch.tensor([1.0, 4.0, 3.0, 2.0])
    assert decisive_frames(curve, 6) == [4, 8, 12, 16]
    assert decisive_frames(curve, 2, among=[0, 4, 16]) == [4, 16]
    assert decisive_frames(curve, 2, among=[0, 1]) == [0, 1], "of frames that were not seen, any"
    assert decisive_frames(torch.full((3,), torch.nan), 6) == [0, 1, 2]


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_a_flat_curve_gives_frames_spread_evenly(value: float) -> None:
    assert decisive_frames(torch.full((101,), value), 6) == [0, 20, 40, 60, 80, 100]
    assert decisive_frames(torch.full((2,), value), 6) == [0, 1]


def test_greedy_choice_against_a_slow_one() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        curve = torch.rand(50, generator=generator)
        left, expected = dict(enumerate(curve.tolist())), []
        while left and len(expected) < 5:
            best = max(left, key=lambda number: left[number])
            expected.append(best)
            left = {number: value for number, value in left.items() if abs(number - best) >= 5}
        assert decisive_frames(curve, 5) == sorted(expected)


def test_a_row_for_every_target_with_times_and_the_peak_in_bold(tmp_path) -> None:
    times = [number / 10 for number in range(20)]
    explanation = clip(write_video(tmp_path / "v.mkv", times), times, 20, kept=(0,))
    drawn = figure(explanation, legend=False)
    axes = drawn.axes[0]
    assert len(axes.images) == 12
    assert {"v.mkv", "jumping", "running", "50%", "0.00 s", "1.90 s"} <= set(texts(drawn))
    chosen = decisive_frames(explanation.importance(0))
    stamps = [f"{number / 10:.2f} s" for number in chosen]
    assert [text for text in texts(drawn) if text.endswith(" s")][:6] == stamps
    bold = [text.get_text() for text in axes.texts if text.get_weight() == "bold" and text.get_text().endswith(" s")]
    peak = explanation.peak(0)
    assert peak is not None and bold[0] == f"{peak[2] / 10:.2f} s" == "1.70 s"
    assert len(figure(explanation, targets=["running"], columns=3, legend=False).axes[0].images) == 3


def test_pictures_show_the_heat_of_their_frame(tmp_path) -> None:
    times = [number / 10 for number in range(8)]
    explanation = clip(write_video(tmp_path / "v.mkv", times), times, 8, cropped=False)
    drawn = figure(explanation, targets=[0], legend=False)
    shown = [np.asarray(image.get_array()).astype(int) for image in drawn.axes[0].images]
    last = np.abs(shown[-1] - np.median(shown[-1])).sum(axis=2)
    rows, columns = np.nonzero(last > 0.8 * last.max())
    # Step 3 of 4: the middle of cell (4, 1) of 6 x 6.
    high, wide = last.shape
    assert abs((rows.mean() + 0.5) / high - 4.5 / 6) <= 0.03 and abs((columns.mean() + 0.5) / wide - 1.5 / 6) <= 0.03


def test_clips_without_clock_and_several_methods() -> None:
    explanation = clip(None, None, 9)
    explanation.maps[MapKey("conv2", "gradcam++")] = explanation.maps[KEY]
    drawn = figure(explanation, legend=False)
    assert {"frame 0", "frame 8", "gradcam · conv", "gradcam++ · conv2"} <= set(texts(drawn))
    assert len(drawn.axes[0].images) == 4 * 6


@pytest.mark.parametrize(
    "value,note", [(0.0, "flat map: zero everywhere"), (torch.nan, "the whole map is NaN or infinite")]
)
def test_maps_that_say_nothing_say_so(value: float, note: str) -> None:
    explanation = clip(None, None, 9)
    explanation.maps[KEY][0] = value
    assert note in texts(figure(explanation))


def test_a_single_frame_and_foreign_labels_are_drawn(tmp_path) -> None:
    path = save_figure(clip(None, None, 1, labels=("$x_2$ 日本 \n<b>",)), tmp_path / "f.png")
    with Image.open(path) as picture:
        assert picture.width > 500
    assert [found.name for found in tmp_path.iterdir()] == ["f.png"], "no partial file stays behind"
