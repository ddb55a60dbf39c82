"""An action-recognition model, with all that is needed to show it a clip."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from mmexplain.preprocess import Preprocess


@dataclass(frozen=True)
class ActionModel:
    """A network over clips, ready to run.

    Attributes:
        model: ``[B, 3, T, H, W]`` float32 → logits ``[B, N]``; in eval mode.
        preprocess: one frame → ``[3, H, W]``; the frames of a clip are stacked behind the channels.
        frames: T of one window, as the model was evaluated.
        stride: from one frame of a window to the next in clips of 25 to 30 frames a second, and where no rate is known.
        min_frames: the smallest T that the model can run on.
        any_length: whether it runs on any T from ``min_frames`` up, or on ``frames`` alone.
        frame_rate: frames a second of the windows that it was evaluated on, which other clips are brought to; None if
            not known.
        labels: the ``N`` class names in the order of the logits; None if they are not known.
        model_id: as the user gave it.
        layer: the layer to explain when none is named; None to look for one.
        sha256: of the file of weights; None if it is not at hand.
    """

    model: nn.Module
    preprocess: Preprocess
    frames: int
    stride: int
    labels: list[str] | None
    model_id: str
    layer: str | None = None
    sha256: str | None = None
    min_frames: int = 1
    any_length: bool = True
    frame_rate: float | None = None
