"""All frames of a clip share one scale; skipped frames lie between their neighbours; memory stays small."""

from __future__ import annotations

import resource

import numpy as np
import pytest
import torch

from mmexplain.errors import InputError
from mmexplain.explanation import MapKey
from mmexplain.picture import Picture
from mmexplain.render import overlay
from mmexplain.render.clip_heat import ClipHeat
from mmexplain.render.heat import heat
from tests.render.clips import clip, grey, write_video

KEY = MapKey("conv", "gradcam")


def test_frames_share_the_scale_of_the_strongest_of_them() -> None:
    explanation = clip(None, None, 4, cropped=False)
    heats = dict(ClipHeat(explanation, "jumping").frames())
    # Four frames and four steps: each frame is a step, and step k's strongest cell is k + 1 of 4.
    assert [float(heats[number].values.max()) for number in range(4)] == pytest.approx([0.25, 0.5, 0.75, 1.0], abs=0.01)
    whole = explanation.heatmap("jumping").numpy()
    for number, shown in heats.items():
        assert np.allclose(shown.values, whole[number] / whole.max(), atol=1e-6)


def test_skipped_frames_lie_between_and_the_ends_are_unseen() -> None:
    explanation = clip(None, None, 11, taken=(2, 4, 6, 8))
    heats = dict(ClipHeat(explanation, 0, size=(60, 90)).frames())
    columns = explanation.geometry.seen().numpy()
    for number in (0, 1, 9, 10):
        assert not heats[number].seen.any() and not heats[number].values.any()
    for number in range(2, 9):
        assert (heats[number].seen == columns).all()
    assert np.allclose(heats[3].values, (heats[2].values + heats[4].values) / 2, atol=1e-6)


def test_frames_come_in_the_order_asked_for() -> None:
    explanation = clip(None, None, 9)
    every = dict(ClipHeat(explanation).frames())
    some = list(ClipHeat(explanation).frames([7, 2]))
    assert [number for number, _ in some] == [7, 2]
    assert all((shown.values == every[number].values).all() for number, shown in some)


def test_signed_and_pixel_maps_have_one_scale_too() -> None:
    explanation = clip(None, None, 4, cropped=False)
    explanation.maps[KEY][0, 3] *= -1
    heats = dict(ClipHeat(explanation, 0, signed=True).frames())
    assert heats[3].values.min() == pytest.approx(-1) and heats[0].values.max() == pytest.approx(0.25, abs=0.01)
    explanation.maps[MapKey("input", "guided-backprop")] = torch.full((2, 3, 4, 48, 48), 0.5)
    explanation.maps[MapKey("input", "guided-backprop")][:, :, 2] = -1.0
    explanation.pixel_methods = frozenset({"guided-backprop"})
    heats = dict(ClipHeat(explanation, 0, method="guided-backprop").frames())
    assert heats[0].values.shape == (60, 90, 3)
    assert np.allclose(heats[0].values, 0.5) and np.allclose(heats[2].values, -1)


@pytest.mark.parametrize(
    "value,note",
    [(0.0, "flat map: zero"), (3.0, "flat map: the same"), (-1.0, "flat map"), (torch.nan, "the whole map is NaN")],
)
def test_maps_that_say_nothing_say_so(value: float, note: str) -> None:
    explanation = clip(None, None, 4)
    explanation.maps[KEY][0] = value
    shown = ClipHeat(explanation, 0)
    assert (shown.scale.note or "").startswith(note)
    assert not any(heat.values.any() for _, heat in shown.frames())


def test_a_long_clip_takes_the_memory_of_a_frame() -> None:
    explanation = clip(None, None, 15_000, taken=range(0, 15_000, 500), kept=(0,))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    shown = ClipHeat(explanation, 0, size=(256, 340))
    frames = sum(1 for _ in shown.frames(range(0, 15_000, 50)))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert frames == 300
    assert grown < 100 * 1024, "KiB; the whole heatmap takes 5 GB, the 300 frames 100 MB"


def test_an_overlay_shows_the_frame_of_the_peak_unless_told() -> None:
    explanation = clip(None, None, 4)
    peak = explanation.peak(0)
    assert peak is not None and peak[2] == 3
    assert (
        overlay(explanation).tobytes()
        == overlay(explanation, frame=3).tobytes()
        != overlay(explanation, frame=0).tobytes()
    )
    change = np.abs(np.asarray(overlay(explanation, frame=3)).astype(int) - grey(3)).sum(axis=2)
    change[~explanation.geometry.seen().numpy()] = 0
    y, x = np.unravel_index(change.argmax(), change.shape)
    # Cell (4, 1) of 6 x 6 over the crop, whose left edge is at 15 of 90 and which is 60 wide: centre (30, 45).
    assert abs(x - peak[0]) <= 5 and abs(y - peak[1]) <= 5
    assert change[45, 30] > 100
    assert (heat(explanation, frame=0).values == dict(ClipHeat(explanation).frames())[0].values).all()
    assert overlay(explanation, frame=2, size=(30, 45)).size == (45, 30)


def test_frames_that_were_not_kept_are_read_again(tmp_path) -> None:
    times = [number / 25 for number in range(8)]
    explanation = clip(write_video(tmp_path / "v.mkv", times), times, 8, kept=(0, 7))
    explanation.maps[KEY][:] = 0
    shown = np.asarray(overlay(explanation, frame=5))
    assert (shown[explanation.geometry.seen().numpy()] == grey(5)).all()


def test_where_the_file_is_gone_the_best_kept_frame_is_shown() -> None:
    explanation = clip("gone.mp4", None, 8, kept=(0, 5))
    assert overlay(explanation).tobytes() == overlay(explanation, frame=5).tobytes()
    with pytest.raises(InputError, match=r"frame 6 is not among the 2 that the explanation keeps, and .*'gone.mp4'"):
        overlay(explanation, frame=6)


def test_bad_frames_are_told_in_one_line(make) -> None:
    with pytest.raises(InputError, match="there is no frame 9: the clip has 4, counted from 0"):
        overlay(clip(None, None, 4), frame=9)
    with pytest.raises(InputError, match="frame 2 was asked for, but this explanation is of a photo"):
        overlay(make(), frame=2)
    with pytest.raises(InputError, match="of a photo"):
        ClipHeat(make())


def test_a_flat_map_shows_a_frame_that_was_seen() -> None:
    explanation = clip(None, None, 9, taken=(4, 5, 6, 7))
    explanation.maps[KEY][:] = 0
    seen = explanation.geometry.seen().numpy()
    assert (np.asarray(overlay(explanation))[seen] == grey(6)).all()


def test_kept_frames_without_numbers_are_all_of_them() -> None:
    explanation = clip(None, None, 3)
    explanation.picture = Picture(explanation.picture.pixels)
    explanation.maps[KEY][:] = 0
    assert (np.asarray(overlay(explanation, frame=2))[explanation.geometry.seen().numpy()] == grey(2)).all()
