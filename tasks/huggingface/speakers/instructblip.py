"""InstructBLIP (Dai et al., NeurIPS 2023): BLIP-2 whose Q-Former reads what is asked."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from mmexplain.tasks.huggingface.checkpoint import Checkpoint
from mmexplain.tasks.huggingface.speakers.blip2 import Blip2


class InstructBlip(Blip2):
    """``InstructBlipForConditionalGeneration``.

    What words of a question added is told of the language model's reading; the Q-Former reads them as they are.

    Raises:
        CheckpointError: no processor, which has the Q-Former's tokenizer, comes with the model.
    """

    asked: ClassVar[str] = "A short image description."
    question: ClassVar[str] = "Question: {} Short answer:"

    def __init__(self, checkpoint: Checkpoint) -> None:
        checkpoint.require("processor")
        super().__init__(checkpoint)

    def instruction(self, prompt: str) -> dict[str, Tensor]:
        """By the Q-Former's own tokenizer."""
        made = self.checkpoint.processor.qformer_tokenizer([prompt], return_tensors="pt").to(self.device)
        return {f"qformer_{name}": made[name] for name in ("input_ids", "attention_mask")}

    def instructed(self, look: dict[str, Tensor]) -> dict[str, Tensor]:
        """The prompt's tokens stand after the queries."""
        mask = look["qformer_attention_mask"]
        return {
            "input_ids": look["qformer_input_ids"],
            "attention_mask": torch.cat([mask.new_ones(len(mask), self.queries), mask], 1),
        }
