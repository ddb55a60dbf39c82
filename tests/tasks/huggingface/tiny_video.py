"""Tiny random video transformers with their real video processors, as folders of ``save_pretrained``."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers as hf

from mmexplain.tasks.huggingface.video import VideoTransformer

ACTIONS = ["running", "sitting", "jumping"]
SIDE, PATCH, FRAMES = 32, 8, 8
"""Pixels of the input's sides and of a patch's, and frames of a clip."""

SHORTEST = 36
"""Pixels that the shorter side has before the crop."""

_LABELS: dict[str, Any] = {
    "id2label": dict(enumerate(ACTIONS)),
    "label2id": {name: number for number, name in enumerate(ACTIONS)},
}
_VIT: dict[str, Any] = {
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": SIDE,
    "num_frames": FRAMES,
    **_LABELS,
}
_SIZES: dict[str, Any] = {"size": {"shortest_edge": SHORTEST}, "crop_size": {"height": SIDE, "width": SIDE}}

FAMILIES = ("videomae", "timesformer", "vivit", "vjepa2")


def make(family: str, **changes: Any) -> tuple[Any, Any]:
    """A model in eval mode with weights that are neither zero nor alike, and its video processor."""
    match family:
        case "videomae":
            config = hf.VideoMAEConfig(**{**_VIT, "patch_size": PATCH, "tubelet_size": 2, **changes})
            made = hf.VideoMAEForVideoClassification(config), hf.VideoMAEVideoProcessor(**_SIZES)
        case "timesformer":
            config = hf.TimesformerConfig(**{**_VIT, "patch_size": PATCH, **changes})
            made = hf.TimesformerForVideoClassification(config), hf.TimesformerVideoProcessor(**_SIZES)
        case "vivit":
            config = hf.VivitConfig(**{**_VIT, "tubelet_size": [2, PATCH, PATCH], **changes})
            made = hf.VivitForVideoClassification(config), hf.VivitVideoProcessor(**_SIZES)
        case "vjepa2":
            sizes = {
                "patch_size": PATCH,
                "crop_size": SIDE,
                "frames_per_clip": FRAMES,
                "tubelet_size": 2,
                "hidden_size": 48,
                "num_attention_heads": 2,
                "num_hidden_layers": 2,
                "mlp_ratio": 2.0,
                "num_pooler_layers": 1,
                "pred_hidden_size": 24,
                "pred_num_attention_heads": 2,
                "pred_num_hidden_layers": 1,
                "pred_num_mask_tokens": 1,
            }
            config = hf.VJEPA2Config(**{**sizes, **_LABELS, **changes})
            made = hf.VJEPA2ForVideoClassification(config), hf.VJEPA2VideoProcessor(crop_size=SIDE)
        case _:
            raise ValueError(family)
    return shaken(made[0]), made[1]


def shaken(model: torch.nn.Module, seed: int = 0, deviation: float = 0.15) -> torch.nn.Module:
    """Weights drawn anew: several families start class tokens and positions at zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            if parameter.ndim > 1 or "token" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * deviation)
    return model.eval()


def save(folder: Path, family: str, **changes: Any) -> Path:
    """A checkpoint as the hub has them; returns its folder."""
    model, processor = make(family, **changes)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def ready(family: str, **changes: Any) -> VideoTransformer:
    """The task of a model that was never saved."""
    return VideoTransformer(*make(family, **changes))


def noise(frames: int = 15, width: int = 96, height: int = 48) -> np.ndarray:
    """A video ``[T, H, W, 3]`` uint8."""
    return np.random.default_rng(frames).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)


def own_pixels(task: VideoTransformer, frames: np.ndarray) -> dict[str, torch.Tensor]:
    """What the processor makes of a whole clip, as its documentation has it."""
    return dict(task.preprocess.image_processor(list(frames), do_sample_frames=False, return_tensors="pt"))
