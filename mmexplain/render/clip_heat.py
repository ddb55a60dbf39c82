"""The heat of a clip, frame by frame: one scale for all of them, one of them in memory at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from mmexplain.errors import InputError
from mmexplain.explanation import Explanation
from mmexplain.render.heat import Heat, colormap_of, kind_of, picture_size, scale_between, scale_of_pixels, unit_values
from mmexplain.targets import Target


class ClipHeat:
    """What one target's map paints over every frame of a clip.

    The strongest value of all frames that the model saw is drawn at full strength, so that frames can be compared.
    Frames between two that it saw get what lies between their maps; before the first and after the last one nothing
    was seen.

    Args:
        explanation: of a clip; where the map is taken from.
        target: number, label or target.
        layer: layer name; the first that fits where left out.
        method: method name; the first that fits where left out.
        size: ``(h, w)`` of the drawing; that of the display frames where left out.
        signed: draw negative values too; by default as the method's registry entry says.

    Attributes:
        scale: shared by all frames; ``scale.note`` is what a reader must know about the map.

    Raises:
        TargetError, LayerError, MethodError: there is no such map.
        InputError: this explains a photo.
    """

    def __init__(
        self,
        explanation: Explanation,
        target: int | str | Target = 0,
        layer: str | None = None,
        method: str | None = None,
        *,
        size: tuple[int, int] | None = None,
        signed: bool | None = None,
    ) -> None:
        if explanation.geometry.frames is None:
            raise InputError("this explanation is of a photo: it has no frames")
        key = explanation.key(layer, method)
        kind = kind_of(explanation, key, signed)
        self._geometry = explanation.geometry
        self._size = size or picture_size(explanation)
        self._values, note = unit_values(explanation, key, explanation.find(target), kind)
        if kind == "pixels":
            self.scale = scale_of_pixels(self._values.abs().flatten(), note)
        else:
            seen = self._geometry.range_in_clip(self._values, self._size) or (0.0, 0.0)
            self.scale = replace(scale_between(kind, *seen, note), colormap=colormap_of(key, kind))

    def frames(self, numbers: Iterable[int] | None = None) -> Iterator[tuple[int, Heat]]:
        """``(number, heat)`` of the frames with these numbers in the file, in the order given; of all by default."""
        for number, laid in self._geometry.each_frame(self._values, self._size, between=True, numbers=numbers):
            yield number, self.scale.draw(laid)

    def at(self, number: int) -> Heat:
        """The heat of one frame of the file."""
        return next(self.frames([number]))[1]


def frame_of(
    explanation: Explanation,
    target: int | str | Target,
    layer: str | None,
    method: str | None,
    frame: int | None,
) -> int:
    """``frame``, if the clip has it; without one the frame of the map's peak, and of a flat map the middle one that the
    model saw.

    Raises:
        TargetError, LayerError, MethodError: there is no such map.
        InputError: no such frame, or the explanation is of a photo.
    """
    frames, n_frames = explanation.geometry.frames, explanation.geometry.n_frames
    if frames is None or n_frames is None:
        raise InputError(f"frame {frame} was asked for, but this explanation is of a photo")
    if frame is None:
        peak = explanation.peak(target, layer, method)
        return sorted(frames)[len(frames) // 2] if peak is None else peak[2]
    if not 0 <= frame < n_frames:
        raise InputError(f"there is no frame {frame}: the clip has {n_frames}, counted from 0")
    return frame
