"""Which frames of a video a model is shown: pure functions from numbers to numbers, counted from 0."""

from __future__ import annotations

from mmexplain.errors import InputError


def uniform(n_frames: int, count: int) -> tuple[int, ...]:
    """The centres of ``count`` equal segments, as TSN samples at test time (Wang et al. 2016; mmaction2).

    Returns:
        ``count`` numbers that never decrease; those of a video with fewer frames repeat.

    Raises:
        InputError: a number is below 1.
    """
    _check(n_frames=n_frames, count=count)
    return tuple(n_frames * (2 * segment + 1) // (2 * count) for segment in range(count))


def dense(n_frames: int, count: int, stride: int = 1, start: int | None = None) -> tuple[int, ...]:
    """``count`` frames, each ``stride`` after the one before, at the centre of the video unless ``start`` is given.

    Beyond the end the last frame is held, as SlowFast and PyTorchVideo do; I3D and mmaction2 begin anew there, which
    shows the model a jump that the video does not hold.

    Args:
        n_frames: of the video.
        count: frames wanted.
        stride: from one of them to the next.
        start: number of the first.

    Returns:
        ``count`` numbers that never decrease.

    Raises:
        InputError: a number is below 1, or ``start`` is no frame of the video.
    """
    _check(n_frames=n_frames, count=count, stride=stride)
    if start is None:
        start = max(0, n_frames - _span(count, stride)) // 2
    elif not 0 <= start < n_frames:
        raise InputError(f"start={start} is no frame of a video of {n_frames}, counted from 0")
    return tuple(min(start + place * stride, n_frames - 1) for place in range(count))


def windows(n_frames: int, count: int, stride: int = 1, step: int | None = None) -> list[tuple[int, ...]]:
    """Windows of ``count`` frames with ``stride`` between them, sliding over the whole video by ``step``.

    The last one is moved back to end with the video, or fewer than ``stride`` frames before it: it takes the very
    frames of the one that it overlaps. A video shorter than one window makes one that holds its last frame.

    Args:
        n_frames: of the video.
        count: frames of a window.
        stride: from one frame of a window to its next; each frame stands for ``stride`` frames of the video.
        step: from the start of one window to that of the next, by default ``count * stride``: no overlap.

    Raises:
        InputError: a number is below 1.
    """
    _check(n_frames=n_frames, count=count, stride=stride)
    step = count * stride if step is None else step
    _check(step=step)
    latest = n_frames - _span(count, stride)
    if latest < 0:
        return [dense(n_frames, count, stride)]
    starts = list(range(0, latest + 1, step))
    if starts[-1] + count * stride < n_frames:
        starts.append(starts[-1] + (latest - starts[-1]) // stride * stride)
    return [tuple(range(start, start + count * stride, stride)) for start in starts]


def _span(count: int, stride: int) -> int:
    """How many frames of the video lie from the first to the last of a clip."""
    return (count - 1) * stride + 1


def _check(**numbers: int) -> None:
    for name, value in numbers.items():
        if value < 1:
            raise InputError(f"{name} must be at least 1, got {value}")
