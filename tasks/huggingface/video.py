"""Video transformers of the transformers library as action models: VideoMAE, TimeSformer, ViViT and V-JEPA 2."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from torch import Tensor, nn

from mmexplain.errors import InputError, ModelError
from mmexplain.reader import Reader
from mmexplain.tasks.action.task import Action
from mmexplain.tasks.huggingface.frames import Frames
from mmexplain.tasks.huggingface.layers import last_block
from mmexplain.tasks.huggingface.tubelets import Tubelets, pair, tubelet_of

if TYPE_CHECKING:
    from mmexplain.tasks.huggingface.checkpoint import Checkpoint


@dataclass(frozen=True)
class Family:
    """What tells one architecture from another.

    Attributes:
        layer: model → dotted name of the last layer whose places have a say in the scores. Where they are read off a
            class token, the patch tokens that leave the last block have none.
        frames: name of the number of frames in the config.
        side: name of the input's height and width in the config.
        prefix: leading tokens that are no place in the clip.
        divided: see :class:`Tubelets`.
        any_length: whether the model takes clips of other lengths.
        key: name of the clip among the model's arguments.
        frame_rate: frames a second that the models trained on Kinetics were published with, which checkpoints do not
            tell: VideoMAE 16 frames of every 4th (Tong et al. 2022), TimeSformer 8 of every 32nd (Bertasius et al.
            2021), ViViT 32 of every 2nd (Arnab et al. 2021), at 30 frames a second.
    """

    layer: Callable[[nn.Module], str]
    frames: str = "num_frames"
    side: str = "image_size"
    prefix: int = 0
    divided: bool = False
    any_length: bool = False
    key: str = "pixel_values"
    frame_rate: float | None = None


def _before_attention(model: nn.Module) -> str:
    return last_block(model, before_attention=True)


FAMILIES: dict[str, Family] = {
    "videomae": Family(
        lambda model: last_block(model, before_attention=not cast(Any, model.config).use_mean_pooling), frame_rate=7.5
    ),
    "timesformer": Family(_before_attention, prefix=1, divided=True, frame_rate=30 / 32),
    "vivit": Family(_before_attention, prefix=1, frame_rate=15),
    "vjepa2": Family(
        lambda model: "vjepa2.encoder.layernorm",
        frames="frames_per_clip",
        side="crop_size",
        any_length=True,
        key="pixel_values_videos",
    ),
}
"""By the config's ``model_type``."""


class VideoTransformer(Action):
    """A ``...ForVideoClassification`` model of transformers, explained over space and time.

    Args:
        model: one of :data:`FAMILIES`; it is left where it is and as it is.
        processor: its video processor.
        model_id: name of the model in what is shown and saved.

    Raises:
        ModelError: another architecture, or a processor that does not make what the model takes.
    """

    def __init__(self, model: nn.Module, processor: Any, *, model_id: str | None = None) -> None:
        config: Any = model.config
        family = FAMILIES.get(config.model_type)
        if family is None:
            raise ModelError(
                f"{type(model).__name__} is no video transformer that is known; there are: {', '.join(FAMILIES)}. Give "
                "another to mmexplain.tasks.action.Action, with its preprocessing, its number of frames and a layer"
            )
        side = pair(getattr(config, family.side))
        tubelet, *patch = tubelet_of(config)
        frames = getattr(config, family.frames)
        preprocess = Frames(processor)
        if preprocess.size != side:
            made, taken = (f"{width}×{height}" for height, width in (preprocess.size, side))
            raise ModelError(
                f"{type(processor).__name__} makes frames of {made} pixels; {type(model).__name__} takes {taken}"
            )
        super().__init__(
            model,
            preprocess,
            config.id2label,
            frames=frames,
            frame_rate=family.frame_rate,
            layer=family.layer(model),
            model_id=model_id,
            link="sigmoid" if config.problem_type == "multi_label_classification" else None,
            min_frames=tubelet,
            any_length=family.any_length,
        )
        self._key, self._tubelet = family.key, tubelet
        steps = None if family.any_length else frames // tubelet
        self._tubelets = Tubelets((side[0] // patch[0], side[1] // patch[1]), steps, family.prefix, family.divided)

    def outputs(self, clip: Tensor) -> Any:
        """What the model puts out for clips ``[B, 3, T, h, w]``.

        Raises:
            InputError: clips of a length that it does not take. TimeSformer would mix up places and frames silently.
        """
        self._length(clip.shape[2])
        return self.model(**{self._key: clip.transpose(1, 2)})

    def reader(self, layer: str, shape: Sequence[int]) -> Reader | None:
        """As the architecture orders its tokens."""
        return self._tubelets.reader(layer, shape)

    def _length(self, frames: int | None) -> int:
        count = super()._length(frames)
        if count % self._tubelet:
            raise InputError(f"model {self.model_id!r} takes frames by {self._tubelet}: {count} is no multiple of that")
        return count


def video_transformer(found: Checkpoint) -> VideoTransformer:
    """The task of a checkpoint.

    Raises:
        CheckpointError: it comes without a video processor.
    """
    found.require("video_processor")
    return VideoTransformer(found.model, found.video_processor, model_id=found.id)
