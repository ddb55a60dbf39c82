"""Small explained clips: files whose frames can be told apart, and maps that are known cell by cell."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from numpy.typing import NDArray

from mmexplain.explanation import Explanation, MapKey
from mmexplain.geometry import Geometry
from mmexplain.picture import Picture
from mmexplain.targets import Target

STEPS, GRID = 4, 6


def grey(number: int) -> int:
    """The grey of a frame."""
    return 40 + 4 * number


def write_video(path: Path, times: Sequence[float], height: int = 60, width: int = 90) -> Path:
    """Frames of one grey each, without loss, each at its own time."""
    with av.open(str(path), "w", format="matroska") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "gray"
        stream.codec_context.time_base = Fraction(1, 1000)
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(np.full((height, width), grey(number), np.uint8), format="gray")
            frame.pts, frame.time_base = round(time * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def clip(
    source: Path | str | None,
    times: Sequence[float] | None,
    n_frames: int,
    *,
    taken: Sequence[int] | None = None,
    kept: Sequence[int] | None = None,
    size: tuple[int, int] = (60, 90),
    cropped: bool = True,
    labels: Sequence[str] = ("jumping", "running"),
) -> Explanation:
    """Maps ``[4, 6, 6]``: at step k cell (1 + k, 4 - k) is k + 1 for the first target; for the others cell (2, 2) is 1.

    The model saw ``taken`` (all by default); ``kept`` (as many) are the frames in the explanation.
    """
    height, width = size
    maps = torch.zeros(len(labels), STEPS, GRID, GRID)
    for step in range(STEPS):
        maps[0, step, 1 + step, 4 - step] = 1.0 + step
        maps[1:, step, 2, 2] = 1.0
    geometry = Geometry.identity(height, width).resize(48, 72)
    geometry = (geometry.crop(0, 12, 48, 48) if cropped else geometry).sample(
        tuple(range(n_frames) if taken is None else taken), n_frames
    )
    kept = tuple(range(n_frames) if kept is None else kept)
    pixels = torch.tensor([grey(number) for number in kept], dtype=torch.uint8)[:, None, None, None]
    return Explanation(
        task="action",
        model="toy",
        text=None,
        targets=[Target(label, "action", (place,)) for place, label in enumerate(labels)],
        scores=torch.ones(len(labels)),
        probabilities=torch.full((len(labels),), 0.5),
        maps={MapKey("conv", "gradcam"): maps},
        geometry=geometry,
        picture=Picture(
            pixels.expand(-1, height, width, 3).contiguous(),
            None if source is None else str(source),
            kept,
            None if times is None else tuple(times[number] for number in kept),
        ),
    )


def decoded(path: Path) -> tuple[NDArray[np.uint8], list[float]]:
    """Frames ``[n, h, w, 3]`` and times of a written MP4, by FFmpeg."""
    with av.open(str(path)) as container:
        frames = [(frame.to_ndarray(format="rgb24"), float(frame.time)) for frame in container.decode(video=0)]
    return np.stack([picture for picture, _ in frames]), [time for _, time in frames]
