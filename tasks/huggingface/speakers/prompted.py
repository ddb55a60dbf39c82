"""Vision-language models that are asked in a conversation: the prompt around the photo is the processor's."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from mmexplain.errors import InputError
from mmexplain.io import Photo
from mmexplain.tasks.huggingface.checkpoint import Checkpoint, quiet
from mmexplain.tasks.huggingface.speaker import Speaker


class Prompted(Speaker):
    """One whose processor takes photo and prompt together, and puts tokens for the photo into the prompt.

    Raises:
        CheckpointError: no processor comes with the model.
    """

    asked: ClassVar[str] = "Describe the image in one sentence."
    question: ClassVar[str] = "{} Answer in a few words."

    def __init__(self, checkpoint: Checkpoint) -> None:
        checkpoint.require("processor", "image_processor", "tokenizer")
        super().__init__(checkpoint)

    def made(self, photo: Photo, prompt: str) -> dict[str, Tensor]:
        """The processor's tensors, by its chat template if it has one.

        Raises:
            InputError: a photo or prompt that the processor cannot take, or a prompt that holds the token which stands
                for the photo.
        """
        mark = self.tokenizer.convert_ids_to_tokens(self.image_token)
        if mark in prompt:
            raise InputError(f"the prompt {prompt!r} holds {mark!r}, which stands for the photo; leave it out")
        try:
            with quiet():
                return dict(self.processed(photo, prompt))
        except ValueError as error:
            height, width = photo.geometry.original
            raise InputError(
                f"{type(self.checkpoint.processor).__name__} cannot take a photo of {width}×{height} pixels with the "
                f"prompt {prompt!r:.60}: {' '.join(str(error).split()):.200}"
            ) from error

    def processed(self, photo: Photo, prompt: str) -> Any:
        """What the processor makes of a conversation that begins with the photo and the prompt."""
        processor = self.checkpoint.processor
        if getattr(processor, "chat_template", None):
            content = [{"type": "image", "image": photo.image}, {"type": "text", "text": prompt}]
            return processor.apply_chat_template(
                [{"role": "user", "content": content}],
                add_generation_prompt=True,
                tokenize=True,
                return_dict=True,
                return_tensors="pt",
            )
        return processor(images=photo.image, text=self.plain(prompt), return_tensors="pt")

    def plain(self, prompt: str) -> str:
        """The prompt of a model without a chat template."""
        return prompt

    @property
    def image_token(self) -> int:
        """Number of the token that stands for a part of the photo."""
        number: int = self.model.config.image_token_id
        return number
