"""Tiny models that read photos of any shape: LLaVA-NeXT in tiles, Qwen's in as many patches as it takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

PINPOINTS = [[56, 112], [112, 56], [112, 112], [56, 168], [168, 56]]
"""Sizes ``(h, w)`` of mosaics of tiles of 56 × 56 pixels."""

_QWEN_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for c in m['content'] %}{% if c['type'] == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ c['text'] }}{% endif %}{% endfor %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def llava_next(folder: Path) -> None:
    """LLaVA-NeXT: 4 × 4 patches of each tile."""
    from transformers import (
        CLIPVisionConfig,
        LlavaNextConfig,
        LlavaNextForConditionalGeneration,
        LlavaNextImageProcessor,
        LlavaNextProcessor,
    )

    from tests.tasks.huggingface.tiny_speakers import LLAVA_TEMPLATE, bpe_tokenizer, llama, shake

    tokenizer = bpe_tokenizer("<image>", named={"image_token": "<image>"})
    images = LlavaNextImageProcessor(
        size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56}, image_grid_pinpoints=PINPOINTS
    )
    processor = LlavaNextProcessor(
        images,
        tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=LLAVA_TEMPLATE,
    )
    config = LlavaNextConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=3,
            num_attention_heads=4,
            image_size=56,
            patch_size=14,
            projection_dim=32,
        ),
        text_config=llama(tokenizer),
        image_token_index=tokenizer.image_token_id,
        image_grid_pinpoints=PINPOINTS,
        vision_feature_layer=-2,
    )
    _save(shake(LlavaNextForConditionalGeneration(config)), processor, folder)


def qwen2_vl(folder: Path) -> None:
    """Qwen2-VL: patches of 14 pixels."""
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration, Qwen2VLProcessor

    tower = {"depth": 2, "embed_dim": 32, "hidden_size": 48, "num_heads": 2, "mlp_ratio": 2}
    _qwen(folder, Qwen2VLConfig, Qwen2VLForConditionalGeneration, Qwen2VLProcessor, tower)


def qwen2_5_vl(folder: Path) -> None:
    """Qwen2.5-VL: windows of 2 × 2 blocks in two layers out of three."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor

    tower = {**_TOWER, "window_size": 56, "fullatt_block_indexes": [2]}
    _qwen(folder, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor, tower)


def qwen3_vl(folder: Path) -> None:
    """Qwen3-VL: patches of 16 pixels, and features of two earlier blocks in the language model."""
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration, Qwen3VLProcessor

    tower = {**_TOWER, "num_position_embeddings": 64, "deepstack_visual_indexes": [0, 1]}
    _qwen(folder, Qwen3VLConfig, Qwen3VLForConditionalGeneration, Qwen3VLProcessor, tower, 16)


_TOWER = {"depth": 3, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 48}


def _qwen(folder: Path, kind: Any, model: Any, processor: Any, tower: dict[str, Any], patch: int = 14) -> None:
    from transformers import Qwen2VLImageProcessor
    from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor
    from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor

    from tests.tasks.huggingface.tiny_speakers import bpe_tokenizer, shake

    named = {"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"}
    named |= {"vision_start_token": "<|vision_start|>", "vision_end_token": "<|vision_end|>"}
    named |= {"turn_start_token": "<|im_start|>"}
    tokenizer = bpe_tokenizer("<|im_end|>", *named.values(), bos=False, named=named)
    tokenizer.eos_token = "<|im_end|>"
    numbers = {name: tokenizer.convert_tokens_to_ids(token) for name, token in named.items()}
    deep = patch == 16
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 48,
        "intermediate_size": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": 3,
        "num_key_value_heads": 3,
        "max_position_embeddings": 2048,
        "bos_token_id": None,
        # As the real ones have it: their texts end with either, and the tokenizer's is the greater number.
        "eos_token_id": [tokenizer.eos_token_id, tokenizer.pad_token_id],
        "pad_token_id": tokenizer.pad_token_id,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 1e6,
            "mrope_section": [2, 3, 3],
            **({"mrope_interleaved": True} if deep else {}),
        },
        # It normalises keys and queries too: scores jump where a word's embedding leaves zero, the sooner the smaller
        # this number, and integrated gradients would need thousands of steps there.
        **({"head_dim": 16, "rms_norm_eps": 0.1} if deep else {}),
    }
    config = kind(
        text_config=text,
        vision_config={**tower, "patch_size": patch},
        image_token_id=numbers["image_token"],
        video_token_id=numbers["video_token"],
        vision_start_token_id=numbers["vision_start_token"],
        vision_end_token_id=numbers["vision_end_token"],
    )
    # Least and most pixels.
    images = Qwen2VLImageProcessor(
        size={"shortest_edge": 56 * 56, "longest_edge": 28 * 28 * 40},
        patch_size=patch,
        temporal_patch_size=2,
        merge_size=2,
    )
    videos = (Qwen3VLVideoProcessor if deep else Qwen2VLVideoProcessor)(patch_size=patch)
    # Seeds for which Grad-CAM++ is far from its poles, where rounding decides.
    _save(
        shake(model(config), seed=int(deep)), processor(images, tokenizer, videos, chat_template=_QWEN_TEMPLATE), folder
    )


def _save(model: Any, processor: Any, folder: Path) -> None:
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


MAKERS = {"llava_next": llava_next, "qwen2_vl": qwen2_vl, "qwen2_5_vl": qwen2_5_vl, "qwen3_vl": qwen3_vl}
