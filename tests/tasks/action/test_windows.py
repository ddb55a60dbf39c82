"""Windows over videos: which frames, each prepared once, and maps put together again; against loops over numbers."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from mmexplain.errors import InputError
from mmexplain.explanation import Explanation, MapKey
from mmexplain.geometry import Geometry
from mmexplain.picture import Picture
from mmexplain.preprocess import Preprocess
from mmexplain.targets import Target
from mmexplain.tasks.action import windows as stitching
from mmexplain.tasks.action.task import Action
from mmexplain.tasks.action.windows import Stitch
from mmexplain.tasks.clips import SHOWN_BYTES, Album, choose_windows, stream_windows
from mmexplain.video import Video

KEY = MapKey("layer", "gradcam")


class Made(Video):
    """A video whose frames are made when they are asked for; it knows how many of them are alive."""

    def __init__(self, n_frames: int, size: tuple[int, int] = (12, 16)) -> None:
        super().__init__(None, size, n_frames, tuple(number / 25 for number in range(n_frames)))
        self.alive = 0
        self.decoded: list[int] = []

    def _images(self, numbers):
        height, width = self.size
        for number in numbers:
            pixels = np.full((height, width, 3), number % 251, dtype=np.uint8)
            pixels[number % height] = 255
            image = Image.fromarray(pixels)
            self.alive += 1
            weakref.finalize(image, self._forget)
            self.decoded.append(number)
            yield image

    def _forget(self) -> None:
        self.alive -= 1


def explanation_of(maps: torch.Tensor, scores: list[float], frames: tuple[int, ...]) -> Explanation:
    targets = [Target(str(number), "action", (number,)) for number in range(len(maps))]
    return Explanation(
        "action", "model", None, targets, torch.tensor(scores), None, {KEY: maps},
        Geometry.identity(4, 4).sample(frames, 100), Picture(torch.zeros(0, 0, 0, 3, dtype=torch.uint8)),
    )  # fmt: skip


# -- which frames ---------------------------------------------------------------------------------------------------


def test_a_short_video_is_one_window_and_a_long_one_as_many_as_cover_it():
    assert choose_windows(5, 8) == [(0, 1, 2, 3, 4, 4, 4, 4)]
    assert choose_windows(8, 8) == [tuple(range(8))]
    assert choose_windows(15, 8, 2) == [tuple(range(0, 15, 2))]
    assert choose_windows(20, 8) == [tuple(range(8)), tuple(range(8, 16)), tuple(range(12, 20))]
    assert choose_windows(20, 8, step=6) == [tuple(range(start, start + 8)) for start in (0, 6, 12)]
    assert choose_windows(20, 4, 2, "dense") == [(6, 8, 10, 12)]
    assert choose_windows(20, 4, 2, "uniform") == [(2, 7, 12, 17)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sampling": "sparse"}, "unknown sampling 'sparse'; there are: auto, dense, uniform, windows"),
        ({"sampling": "dense", "step": 4}, "step=4 is between windows.*'dense'"),
        ({"step": 0}, "step must be at least 1"),
        ({"stride": 0}, "stride must be at least 1"),
    ],
)
def test_what_cannot_be_chosen(options, message):
    with pytest.raises(InputError, match=message):
        choose_windows(20, 4, **options)


def test_every_frame_is_decoded_and_prepared_once():
    video, preprocess, seen = Made(30), Preprocess(resize=(6, 8)), []
    windows = choose_windows(30, 8, 2, step=5)
    stream = stream_windows(video, windows, preprocess, lambda frame: seen.append(frame.number))
    for window, (clip, geometry) in zip(windows, stream, strict=True):
        expected = [preprocess(frame.photo)[0] for frame in Made(30).frames(window)]
        assert torch.equal(clip, torch.stack(expected, 1))
        assert geometry.frames == window and geometry.n_frames == 30 and geometry.input == (6, 8)
    wanted = sorted({number for window in windows for number in window})
    assert seen == video.decoded == wanted


def test_a_held_frame_is_shown_again_and_again():
    (clip, geometry), *rest = stream_windows(Made(3), choose_windows(3, 5), Preprocess())
    assert not rest and geometry.frames == (0, 1, 2, 2, 2)
    assert torch.equal(clip[:, 2], clip[:, 4]) and not torch.equal(clip[:, 1], clip[:, 2])


# -- what is kept for display -----------------------------------------------------------------------------------------


def test_a_short_clip_is_kept_whole():
    video = Made(6)
    album = Album(video, range(6))
    for frame in video.frames():
        album.see(frame)
    picture = album.picture()
    assert picture.frames == tuple(range(6)) and picture.times == pytest.approx([n / 25 for n in range(6)])
    expected = [np.asarray(frame.image) for frame in video.frames()]
    assert np.array_equal(picture.pixels.numpy(), np.stack(expected))


def test_a_long_or_large_video_is_thinned_evenly_and_reduced():
    long = Album(Made(15_000, (240, 320)), range(0, 15_000, 2)).picture()
    assert long.frames is not None and len(long.frames) == len(long.pixels) <= 240
    steps = np.diff(long.frames)
    assert steps.max() - steps.min() <= 2 and set(long.frames) <= set(range(0, 15_000, 2))
    for size in ((240, 320), (2160, 3840), (1080, 720)):
        pixels = Album(Made(64, size), range(64)).picture().pixels
        assert len(pixels) == 64 and 0.5 * min(SHOWN_BYTES, 64 * 3 * size[0] * size[1]) < pixels.numel() <= SHOWN_BYTES
        assert pixels.shape[2] / pixels.shape[1] == pytest.approx(size[1] / size[0], rel=0.03)


# -- putting maps together ------------------------------------------------------------------------------------------


def test_maps_of_windows_that_do_not_overlap_are_kept_as_they_are():
    first, second = torch.rand(2, 4, 3, 3), torch.rand(2, 4, 3, 3)
    stitch = Stitch([(0, 1, 2, 3), (4, 5, 6, 7)])
    stitch.add(explanation_of(first, [1.0, 2.0], (0, 1, 2, 3)))
    stitch.add(explanation_of(second, [3.0, 5.0], (4, 5, 6, 7)))
    assert stitch.numbers == tuple(range(8))
    assert torch.equal(stitch.maps()[KEY], torch.cat([first, second], 1))
    assert stitch.scores().tolist() == [[1, 2], [3, 5]] and stitch.probabilities() is None


def test_overlapping_windows_are_averaged_frame_by_frame():
    """Against a loop that interpolates each window's two steps over its four frames by hand; the inner frames of a
    window count twice."""
    windows = [(0, 2, 4, 6), (4, 6, 8, 10), (6, 8, 10, 10)]
    maps = torch.rand(3, 1, 2, 2, 2, dtype=torch.float64)
    stitch = Stitch(windows)
    for window, values in zip(windows, maps, strict=True):
        stitch.add(explanation_of(values.float(), [0.0], window))
    for place, number in enumerate((0, 2, 4, 6, 8, 10)):
        found, total = torch.zeros(2, 2, dtype=torch.float64), 0
        for window, values in zip(windows, maps, strict=True):
            for take, frame in enumerate(window):
                if frame == number:
                    late = (0.0, 0.25, 0.75, 1.0)[take]  # centres of quarters between the centres of halves
                    count = (1, 2, 2, 1)[take]
                    found += count * ((1 - late) * values[0, 0] + late * values[0, 1])
                    total += count
        torch.testing.assert_close(stitch.maps()[KEY][0, place].double(), found / total, atol=1e-6, rtol=0)


def test_one_window_fades_into_the_next():
    """Where windows see different things, no frame jumps: the edge of a window is no evidence."""
    windows = [tuple(range(16)), tuple(range(4, 20))]
    stitch = Stitch(windows)
    for value, window in zip((1.0, 3.0), windows, strict=True):
        stitch.add(explanation_of(torch.full((1, 2, 1, 1), value), [0.0], window))
    curve = stitch.maps()[KEY][0, :, 0, 0]
    assert curve[:4].tolist() == [1.0] * 4 and curve[16:].tolist() == [3.0] * 4
    assert curve.diff().max() < 0.4 and curve.diff().min() >= 0, "with plain means it would jump by 1 twice"


def test_maps_of_a_whole_video_are_held_once():
    stitch = Stitch([(0, 1, 2, 3), (2, 3, 4, 5), (4, 5, 5, 5)])
    for window in stitch.windows:
        stitch.add(explanation_of(torch.rand(1, 4, 3, 3), [0.0], window))
    first, again = stitch.maps()[KEY], stitch.maps()[KEY]
    assert first.data_ptr() == again.data_ptr() and first.min() >= 0 and first.max() <= 1


def test_maps_that_would_not_fit_are_refused(monkeypatch):
    monkeypatch.setattr(stitching, "MAX_BYTES", 1_000)
    stitch = Stitch([(0, 1), (2, 3)])
    with pytest.raises(InputError, match=r"1 target\(s\) over 4 frames.*'layer'.*larger stride"):
        stitch.add(explanation_of(torch.rand(1, 2, 20, 20), [0.0], (0, 1)))


# -- memory ---------------------------------------------------------------------------------------------------------


def tensor_bytes() -> int:
    gc.collect()
    return sum(value.nbytes for value in gc.get_objects() if type(value) is torch.Tensor)


def test_memory_does_not_grow_with_the_length_of_a_video():
    """Three minutes, 4,500 frames: no more than a window's are ever held, and no tensor of any past window."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv3d(3, 4, 3, (2, 8, 8), 1), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 3)
    )
    video = Made(4_500, (120, 160))
    held: list[int] = []
    used: list[int] = []

    def progress(done: int, total: int) -> None:
        held.append(video.alive)
        if done in (total // 2 + 10, total - 1):
            used.append(tensor_bytes())

    task = Action(model, Preprocess(resize=(30, 40)), frames=64, layer="1")
    explanation = task.explain(video, progress=progress)
    assert max(held) <= 2
    assert used[1] - used[0] < 8_192  # scores of each window, and nothing else
    assert explanation.map().shape == (4_500, 4, 5)
