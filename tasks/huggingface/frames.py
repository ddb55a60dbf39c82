"""Frames of a video as a video processor of transformers prepares them, with the record of where they came from."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mmexplain.errors import InputError
from mmexplain.tasks.huggingface.checkpoint import quiet
from mmexplain.tasks.huggingface.processors import ProcessorPreprocess


class Frames(ProcessorPreprocess):
    """Frame → the pixels that a video processor of transformers makes of it in a clip, with their geometry.

    The processor resizes, crops and normalises each frame alone, so that a clip may be prepared frame by frame. Which
    frames there are is not its business: its own sampling is off.
    """

    def pixels(self, image: Image.Image) -> Tensor:
        """What the processor makes of one frame, ``[3, h, w]`` float32."""
        processor = self.image_processor
        clip = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()[None]
        try:
            with quiet():
                made = processor(clip, do_sample_frames=False, input_data_format="channels_first", return_tensors="pt")
        except (ValueError, RuntimeError, TypeError) as error:
            reason = " ".join(str(error).split())
            raise InputError(
                f"{type(processor).__name__} cannot take frames of {image.width}×{image.height} pixels: {reason:.200}"
            ) from error
        found: Tensor = made[processor.model_input_names[0]][0, 0].float()
        return found
