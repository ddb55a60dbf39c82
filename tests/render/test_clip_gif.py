"""A GIF of a clip is bounded, keeps time, and shows the heat without bands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

import mmexplain.render.movie as movie
from mmexplain.render import save_clip
from mmexplain.render.clip import GIF_FRAMES, GIF_SIDE, _sampled
from mmexplain.render.colors import rgb_table
from tests.render.clips import clip, grey, write_video


def frames_of(path: Path) -> tuple[list[np.ndarray], list[int]]:
    """Frames ``[h, w, 3]`` and how long each is shown, ms."""
    with Image.open(path) as image:
        frames, lasting = [], []
        for number in range(image.n_frames):
            image.seek(number)
            frames.append(np.asarray(image.convert("RGB")).astype(int))
            lasting.append(image.info["duration"])
        assert image.info["loop"] == 0, "it repeats for ever"
    return frames, lasting


def evenly(n_frames: int, rate: float) -> list[float]:
    return [number / rate for number in range(n_frames + 1)]


def test_frames_are_chosen_by_time() -> None:
    assert _sampled(evenly(10, 25)) == ([0, 2, 4, 6, 8], 1.0), "25 frames a second: every second one"
    assert _sampled(evenly(10, 30)) == ([0, 3, 6, 9], 1.0), "30: 12.5 or fewer are every third"
    assert _sampled(evenly(5, 10)) == ([0, 1, 2, 3, 4], 1.0), "10: all"
    assert _sampled([0.0, 0.02, 0.04, 0.5, 0.52, 1.0]) == ([0, 3], 1.0), "a still is held"
    assert _sampled([0.0, 1.0]) == ([0], 1.0)


@pytest.mark.parametrize("n_frames,rate", [(310, 25), (400, 25), (1_000, 30), (15_000, 25), (100_000, 59.94)])
def test_long_clips_are_spread_over_the_frames_that_there_may_be(n_frames: int, rate: float) -> None:
    times = evenly(n_frames, rate)
    places, speed = _sampled(times)
    assert GIF_FRAMES * 2 / 3 <= len(places) <= GIF_FRAMES
    assert places[0] == 0 and places[-1] > n_frames * 0.98
    assert np.diff(places).max() - np.diff(places).min() <= 1
    assert times[-1] / speed <= GIF_FRAMES / 5 + 1e-6
    assert (speed > 1) == (times[-1] > GIF_FRAMES / 5)


def test_it_keeps_time_and_shows_the_frames(tmp_path: Path) -> None:
    times = [0.0, 0.1, 0.2, 0.3, 0.65, 0.75, 0.85]
    explanation = clip(write_video(tmp_path / "v.mkv", times), times, 7)
    explanation.maps[explanation.key()][:] = 0
    frames, lasting = frames_of(save_clip(explanation, tmp_path / "c.gif", 0))
    assert lasting == [100, 100, 100, 350, 100, 100, 100]
    found = [float(frame[10:50, 25:65].mean()) for frame in frames]
    assert found == pytest.approx([grey(number) for number in range(7)], abs=3)


def test_it_is_no_larger_than_it_may_be(tmp_path: Path) -> None:
    explanation = clip(None, None, 2, size=(400, 900))
    with Image.open(save_clip(explanation, tmp_path / "c.gif", [0, 1])) as image:
        assert GIF_SIDE <= image.width <= GIF_SIDE + 6


def test_a_small_hot_spot_is_not_banded(tmp_path: Path) -> None:
    """A spot of the default colours on a photo-like ground: what the eye averages stays what it was."""
    generator = np.random.default_rng(0)
    ground = Image.fromarray(generator.integers(0, 256, (12, 16, 3), np.uint8)).resize(
        (160, 120), Image.Resampling.BICUBIC
    )
    y, x = np.indices((120, 160))
    pictures = []
    for step in range(6):
        strength = np.exp(-((x - 30 - 18 * step) ** 2 + (y - 60) ** 2) / (2 * 14**2))[..., None]
        heat = rgb_table("inferno")[(strength[..., 0] * 255).astype(int)]
        pictures.append(Image.fromarray((np.asarray(ground) * (1 - strength) + heat * strength).astype(np.uint8)))
    movie.write_gif(tmp_path / "c.gif", pictures, [0.1 * step for step in range(6)], 0.6)
    frames, _ = frames_of(tmp_path / "c.gif")
    blur = ImageFilter.BoxBlur(3)
    for step, (frame, picture) in enumerate(zip(frames, pictures, strict=True)):
        shown = np.asarray(Image.fromarray(frame.astype(np.uint8)).filter(blur)).astype(int)
        error = np.abs(shown - np.asarray(picture.filter(blur)).astype(int)).mean(axis=2)
        hot = np.hypot(x - 30 - 18 * step, y - 60) < 20
        assert np.percentile(error[hot], 95) < 10
        assert len(np.unique(frame[hot], axis=0)) > 25


def test_what_does_not_move_does_not_crawl(tmp_path: Path) -> None:
    still = Image.linear_gradient("L").resize((120, 80)).convert("RGB")
    pictures = []
    for step in range(4):
        moved = still.copy()
        moved.paste((255, 120, 20), (10 + 10 * step, 30, 30 + 10 * step, 50))
        pictures.append(moved)
    movie.write_gif(tmp_path / "c.gif", pictures, [0.0, 0.1, 0.2, 0.3], 0.4)
    frames, _ = frames_of(tmp_path / "c.gif")
    assert all((frame[:, 70:] == frames[0][:, 70:]).all() for frame in frames)
