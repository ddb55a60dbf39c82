"""The words of a caption by a BLIP of its base size, with random weights."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cases.case import Maps, Ready, Scores, Subject, grad_cam_case
from cases.classes import grid
from mmexplain.explanation import MapKey
from mmexplain.io import load_image
from mmexplain.tasks.huggingface.checkpoint import Checkpoint
from mmexplain.tasks.huggingface.speaking import Captioning, captioner

WORDS = [
    "a",
    "an",
    "the",
    "of",
    "in",
    "on",
    "and",
    "with",
    "is",
    "are",
    "man",
    "woman",
    "dog",
    "cat",
    "ball",
    "red",
    "green",
    "blue",
    "sitting",
    "running",
    "table",
    "street",
    "two",
    "three",
    "photo",
    "picture",
    "person",
    "playing",
    "one",
    "sentence",
]


@lru_cache(maxsize=1)
def task_of(device: str) -> Captioning:
    """The model with a tokenizer of a few words and the processor of its published sizes."""
    from transformers import BertTokenizer, BlipConfig, BlipForConditionalGeneration, BlipImageProcessor

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "[ENC]"]
    numbers = {token: number for number, token in enumerate([*special, *WORDS])}
    tokenizer = BertTokenizer(vocab=numbers, additional_special_tokens=["[DEC]", "[ENC]"])
    torch.manual_seed(0)
    config = BlipConfig()
    config.text_config.bos_token_id, config.text_config.sep_token_id = numbers["[DEC]"], numbers["[SEP]"]
    model: Any = BlipForConditionalGeneration(config).eval().to(device)
    side = config.vision_config.image_size
    found = Checkpoint(
        model,
        config,
        "blip-base",
        type(model).__name__,
        image_processor=BlipImageProcessor(size={"height": side, "width": side}),
        tokenizer=tokenizer,
    )
    return captioner(found)


class BlipScores(Scores):
    """Log-probabilities of the words of a caption, each a token; what follows the last wanted one is not read."""

    def __init__(self, model: Any, prompt: Tensor, said: Tensor) -> None:
        super().__init__(model, said.shape[1])
        self.ids = torch.cat([prompt, said], 1)
        self.first = prompt.shape[1] - 1

    def forward(self, images: Tensor) -> Tensor:
        """``[B, n]``."""
        places = torch.tensor([self.first + number for number in self.wanted], device=images.device)
        hidden = self._hidden(images, self.ids[:, : int(places.max()) + 1])[:, places]
        logits: Tensor = self.model.text_decoder.cls(hidden).log_softmax(-1)
        return logits.gather(-1, self.ids[:, places + 1, None].expand(len(images), -1, -1))[..., 0]

    def _hidden(self, images: Tensor, ids: Tensor) -> Tensor:
        seen = self.model.vision_model(images).last_hidden_state
        hidden: Tensor = self.model.text_decoder.bert(
            input_ids=ids.expand(len(images), -1),
            attention_mask=ids.new_ones(len(images), ids.shape[1]),
            encoder_hidden_states=seen,
            encoder_attention_mask=ids.new_ones(seen.shape[:2]),
            is_decoder=True,
            use_cache=False,
        ).last_hidden_state
        return hidden

    def plain(self, images: Tensor) -> Any:
        """Photo and words in, logits out."""
        return self.model.text_decoder.cls(self._hidden(images, self.ids[:, :-1]))


def build(count: int, device: str) -> Ready:
    """One photo of noise and a caption."""
    task = task_of(device)
    caption = " ".join(WORDS[number % len(WORDS)] for number in range(7, 7 + count))
    pixels = np.random.default_rng(0).integers(0, 255, (384, 384, 3), dtype=np.uint8)
    asked, choice = task._chosen(  # the photo is prepared before, as it is for the peers
        load_image(Image.fromarray(pixels)), caption, task.speaker.asked, None, False, None, "log-probability", 1, 64
    )
    said = choice.context["said"][:, 0]
    if said.shape[1] != count or len(choice.targets[0]) != count:
        raise ValueError(f"{count} words are {said.shape[1]} tokens")
    layer = task.default_layer()

    def explain() -> Maps:
        return [asked.explained(choice, layers=[layer]).maps[MapKey(layer, "gradcam")][None]]

    @torch.no_grad()
    def vision_alone() -> Any:
        return task.model.vision_model(asked.look.image)

    return grad_cam_case(
        Subject(
            BlipScores(task.model, asked.look.prompt, said),
            asked.look.image,
            [layer],
            explain,
            fold=grid,
            repeatable=False,
            alike=False,
            parts={"vision part alone": vision_alone},
        )
    )
