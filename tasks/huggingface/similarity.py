"""Models that hold photos and texts against each other: CLIP, SigLIP and SigLIP 2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from mmexplain.surroundings import device_of, undisturbed
from mmexplain.tasks.huggingface.checkpoint import Checkpoint
from mmexplain.tasks.huggingface.naflex import NaFlexPreprocess, packed
from mmexplain.tasks.huggingface.processors import ProcessorPreprocess


class Similarity:
    """One such model in its three parts: what a photo becomes, what texts become, and how well they fit.

    Args:
        checkpoint: the model with its image processor and tokenizer.

    Attributes:
        sigmoid: whether each text is judged alone (SigLIP), or against the others by softmax (CLIP).
        flexible: whether photos keep their aspect (NaFlex), so that inputs differ in size.
        preprocess: photo → ``[3, h, w]``.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        checkpoint.require("image_processor", "tokenizer")
        self._model: Any = checkpoint.model
        self._tokenizer = checkpoint.tokenizer
        self._config = checkpoint.config
        self.sigmoid = hasattr(self._model, "logit_bias")
        self.flexible = "spatial_shapes" in checkpoint.image_processor.model_input_names
        self.preprocess = (NaFlexPreprocess if self.flexible else ProcessorPreprocess)(checkpoint.image_processor)

    def photos(self, image: Tensor) -> Tensor:
        """Photos ``[B, 3, h, w]`` → ``[B, D]`` of length 1."""
        more: dict[str, Tensor] = {}
        if self.flexible:
            image, more["spatial_shapes"] = packed(image, self._config.vision_config.patch_size)
            more["pixel_attention_mask"] = torch.ones(image.shape[:2], dtype=torch.int32, device=image.device)
        return _unit(self._model.get_image_features(pixel_values=image, **more))

    def texts(self, texts: Sequence[str]) -> Tensor:
        """N texts → ``[N, D]`` of length 1, prepared as the model was trained: SigLIP's are padded to full length."""
        tokens = self._tokenizer(
            list(texts),
            padding="max_length" if self.sigmoid else True,
            truncation=True,
            max_length=self._config.text_config.max_position_embeddings,
            return_tensors="pt",
        )
        device = device_of(self._model)
        given = {name: tokens[name].to(device) for name in ("input_ids", "attention_mask") if name in tokens}
        with undisturbed(self._model, device):
            return _unit(self._model.get_text_features(**given))

    def fit(self, photos: Tensor, texts: Tensor) -> Tensor:
        """The model's ``logits_per_image`` ``[R, N]``.

        Args:
            photos: ``[R, D]`` of length 1.
            texts: ``[R, N, D]`` of length 1.
        """
        fits: Tensor = (texts @ photos.unsqueeze(-1)).squeeze(-1) * self._model.logit_scale.exp()
        return fits + self._model.logit_bias if self.sigmoid else fits


def _unit(output: Any) -> Tensor:
    """The features in what a model returns, of length 1."""
    return functional.normalize(getattr(output, "pooler_output", output), dim=-1)
