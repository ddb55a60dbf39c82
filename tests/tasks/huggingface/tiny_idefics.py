"""Tiny models that read a photo in tiles of one size, each pixel-shuffled: Idefics3 and SmolVLM."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

TILE = 56
"""Side of a tile: 4 × 4 patches, of which 2 × 2 make a token."""

_TEMPLATE = (
    "<|im_start|>{% for m in messages %}{{ m['role'] | capitalize }}"
    "{% if m['content'][0]['type'] == 'image' %}:{% else %}: {% endif %}{% for c in m['content'] %}"
    "{% if c['type'] == 'text' %}{{ c['text'] }}{% elif c['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}"
    "<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
_PLACES = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]


def idefics3(folder: Path, *, split: bool = True) -> None:
    """Idefics3: up to 4 × 4 tiles and a thumbnail."""
    from transformers import (
        Idefics3Config,
        Idefics3ForConditionalGeneration,
        Idefics3ImageProcessor,
        Idefics3Processor,
    )

    tokenizer, sizes, parts = _parts()
    images = Idefics3ImageProcessor(**sizes, do_image_splitting=split)
    processor = Idefics3Processor(images, tokenizer, image_seq_len=4, chat_template=_TEMPLATE)
    _save(Idefics3ForConditionalGeneration(Idefics3Config(**parts)), processor, folder)


def idefics3_whole(folder: Path) -> None:
    """Idefics3 that never splits a photo: one tile is all of it."""
    idefics3(folder, split=False)


def smolvlm(folder: Path) -> None:
    """SmolVLM: up to 4 × 4 tiles and a thumbnail."""
    from transformers import (
        SmolVLMConfig,
        SmolVLMForConditionalGeneration,
        SmolVLMImageProcessor,
        SmolVLMProcessor,
        SmolVLMVideoProcessor,
    )

    tokenizer, sizes, parts = _parts()
    processor = SmolVLMProcessor(
        SmolVLMImageProcessor(**sizes),
        tokenizer,
        SmolVLMVideoProcessor(),
        image_seq_len=4,
        chat_template=_TEMPLATE,
    )
    config = SmolVLMConfig(**parts, pad_token_id=tokenizer.pad_token_id)
    _save(SmolVLMForConditionalGeneration(config), processor, folder)


def _parts() -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """Tokenizer, sizes of the image processor, and the configuration."""
    from tests.tasks.huggingface.tiny_speakers import bpe_tokenizer, llama

    special = ["<|im_start|>", "<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>", *_PLACES]
    tokenizer = bpe_tokenizer(*special, bos=False)
    sizes = {"size": {"longest_edge": 4 * TILE}, "max_image_size": {"longest_edge": TILE}}
    vision = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": TILE,
        "patch_size": 14,
    }
    image = tokenizer.convert_tokens_to_ids("<image>")
    return (
        tokenizer,
        sizes,
        {"vision_config": vision, "text_config": llama(tokenizer), "image_token_id": image, "scale_factor": 2},
    )


def _save(model: Any, processor: Any, folder: Path) -> None:
    from tests.tasks.huggingface.tiny_speakers import shake

    shake(model).save_pretrained(folder)
    processor.save_pretrained(folder)


MAKERS: dict[str, Callable[[Path], None]] = {
    "idefics3": idefics3,
    "idefics3-whole": idefics3_whole,
    "smolvlm": smolvlm,
}
"""Family → what saves a tiny model of it into a folder."""
