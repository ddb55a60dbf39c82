"""Tiny models whose prompts are tasks they were taught, "caption en" or "<CAPTION>": PaliGemma and Florence-2."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


def paligemma(folder: Path) -> None:
    """PaliGemma: 4 × 4 patches, before a Gemma."""
    from transformers import GemmaConfig

    _paligemma(folder, lambda sizes: GemmaConfig(**sizes))


def paligemma2(folder: Path) -> None:
    """PaliGemma 2: the same before a Gemma 2, which caps its logits and looks no further back than a window."""
    from transformers import Gemma2Config

    _paligemma(
        folder,
        lambda sizes: Gemma2Config(**sizes, sliding_window=24, query_pre_attn_scalar=16, final_logit_softcapping=2.0),
    )


def _paligemma(folder: Path, text: Callable[[dict[str, Any]], Any]) -> None:
    from transformers import (
        PaliGemmaConfig,
        PaliGemmaForConditionalGeneration,
        PaliGemmaProcessor,
        SiglipImageProcessor,
        SiglipVisionConfig,
    )

    from tests.tasks.huggingface.tiny_speakers import bpe_tokenizer, shake

    tokenizer = bpe_tokenizer("<image>", bos=False, named={"image_token": "<image>"})
    images = SiglipImageProcessor(size={"height": 56, "width": 56})
    images.image_seq_length = 16
    words = len(tokenizer)
    processor = PaliGemmaProcessor(images, tokenizer)  # adds tokens of places to the tokenizer
    sizes = {
        "vocab_size": len(tokenizer),
        "hidden_size": 48,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "num_key_value_heads": 1,
        "head_dim": 16,
        # Gemma enlarges its embeddings, and normalising what is nearly 0 is a step, which is hard to integrate over.
        "rms_norm_eps": 1e-2,
        "tie_word_embeddings": False,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = PaliGemmaConfig(
        vision_config=SiglipVisionConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            image_size=56,
            patch_size=14,
            vision_use_head=False,
            projection_dim=48,
        ),
        text_config=text(sizes),
        image_token_index=tokenizer.image_token_id,
        projection_dim=48,
        hidden_size=48,
        vocab_size=len(tokenizer),
        tie_word_embeddings=False,  # tied to its large embeddings, random weights say the last token over and over
    )
    model = shake(PaliGemmaForConditionalGeneration(config))
    with torch.no_grad():
        model.lm_head.weight[words:] = 0.0  # it is to say words, not places
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def florence2(folder: Path) -> None:
    """Florence-2: 4 × 4 places after four stages, and their mean before them."""
    from transformers import (
        BartConfig,
        CLIPImageProcessor,
        Florence2Config,
        Florence2ForConditionalGeneration,
        Florence2Processor,
    )

    from tests.tasks.huggingface.tiny_speakers import bpe_tokenizer, shake

    tokenizer = bpe_tokenizer("<image>", bos=False, named={"image_token": "<image>"})
    images = CLIPImageProcessor(size={"height": 128, "width": 128}, do_center_crop=False)
    images.image_seq_length = 17
    config = Florence2Config(
        vision_config={
            "depths": [1, 1, 2, 1],
            "embed_dim": [16, 16, 32, 32],
            "num_heads": [2, 2, 2, 2],
            "num_groups": [2, 2, 2, 2],
            "window_size": 4,
            "projection_dim": 48,
        },
        text_config=BartConfig(
            vocab_size=len(tokenizer),
            d_model=48,
            encoder_layers=2,
            decoder_layers=2,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            encoder_ffn_dim=96,
            decoder_ffn_dim=96,
            max_position_embeddings=256,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            decoder_start_token_id=tokenizer.eos_token_id,
        ),
        image_token_id=tokenizer.image_token_id,
    )
    model = shake(Florence2ForConditionalGeneration(config))
    model.generation_config.forced_bos_token_id = tokenizer.bos_token_id
    model.save_pretrained(folder)
    Florence2Processor(images, tokenizer).save_pretrained(folder)


MAKERS: dict[str, Callable[[Path], None]] = {"florence2": florence2, "paligemma": paligemma, "paligemma2": paligemma2}
"""Family → what saves a tiny model of it into a folder."""
