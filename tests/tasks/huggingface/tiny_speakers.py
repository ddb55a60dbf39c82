"""Tiny models that write, with random weights and real processors, saved as a user would have them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import BertTokenizer, PreTrainedTokenizerFast

from tests.tasks.huggingface import tiny_anyres, tiny_idefics, tiny_tasked

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
    "what",
    "color",
    "how",
    "many",
    "where",
    "who",
    "photo",
    "picture",
    "yes",
    "no",
    "person",
    "playing",
    "describe",
    "image",
    "one",
    "sentence",
    "answer",
    "few",
]


def bert_tokenizer(*extra: str) -> Any:
    """WordPiece over :data:`WORDS`, with plurals."""
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, "##s", "##ing", "##x", *extra]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    return BertTokenizer(vocab=vocabulary, additional_special_tokens=[name for name in extra if name[0] == "["])


def bpe_tokenizer(*special: str, bos: bool = True, named: dict[str, str] | None = None) -> Any:
    """Byte-level BPE trained on :data:`WORDS`; rare words are several tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=360,
        special_tokens=["<pad>", "<s>", "</s>", *special],
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator([" ".join(WORDS), "USER: ASSISTANT: User: Assistant: Question: Answer:"], trainer)
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        extra_special_tokens=named or {},
    )


def shake(model: Any, seed: int = 0) -> Any:
    """Weights that no output ignores: several families begin with zeros."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            if parameter.dim() > 1 or "token" in name or "embedding" in name or "newline" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.15)
    return model.eval()


def blip(folder: Path, width: int = 32, layers: int = 2) -> None:
    """BLIP: 4 × 4 patches."""
    from transformers import BlipConfig, BlipForConditionalGeneration, BlipImageProcessor, BlipProcessor

    tokenizer = bert_tokenizer("[DEC]", "[ENC]")
    vocabulary = tokenizer.get_vocab()
    config = BlipConfig(
        vision_config={
            "hidden_size": width,
            "intermediate_size": 2 * width,
            "num_hidden_layers": layers,
            "num_attention_heads": 4,
            "image_size": 32,
            "patch_size": 8,
        },
        text_config=blip_text(tokenizer, width, layers),
        image_text_hidden_size=16,
    )
    processor = BlipProcessor(BlipImageProcessor(size={"height": 32, "width": 32}), tokenizer)
    model = shake(BlipForConditionalGeneration(config))
    with torch.no_grad():
        model.text_decoder.cls.predictions.decoder.bias[vocabulary["[SEP]"]] = -5.0  # it is to say something
    save(model, processor, folder)


def blip_text(tokenizer: Any, width: int = 32, layers: int = 2) -> dict[str, Any]:
    """BLIP's text part."""
    vocabulary = tokenizer.get_vocab()
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": width,
        "encoder_hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "max_position_embeddings": 80,
        "bos_token_id": vocabulary["[DEC]"],
        "sep_token_id": vocabulary["[SEP]"],
        "eos_token_id": 2,
        "pad_token_id": 0,
    }


LLAVA_TEMPLATE = (
    "{% for m in messages %}{{ m['role'].upper() + ': ' }}{% for c in m['content'] %}{% if c['type'] == 'image' %}"
    "{{ '<image>\n' }}{% endif %}{% endfor %}{% for c in m['content'] %}{% if c['type'] == 'text' %}"
    "{{ c['text'] + ' ' }}{% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)


def llava(folder: Path, width: int = 32, layers: int = 2) -> None:
    """LLaVA 1.5: 4 × 4 patches of a square cut out at the centre."""
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    tokenizer = bpe_tokenizer("<image>", named={"image_token": "<image>"})
    processor = LlavaProcessor(
        CLIPImageProcessor(size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56}),
        tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=LLAVA_TEMPLATE,
    )
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=1 + layers,
            num_attention_heads=4,
            image_size=56,
            patch_size=14,
            projection_dim=32,
        ),
        text_config=llama(tokenizer, width + 16, layers),
        image_token_index=tokenizer.image_token_id,
        image_seq_length=16,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )
    save(shake(LlavaForConditionalGeneration(config)), processor, folder)


def llama(tokenizer: Any, width: int = 48, layers: int = 2) -> Any:
    """A small language model."""
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def save(model: Any, processor: Any, folder: Path) -> None:
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


MAKERS: dict[str, Callable[..., None]] = {
    "blip": blip,
    "llava": llava,
    **tiny_anyres.MAKERS,
    **tiny_idefics.MAKERS,
    **tiny_tasked.MAKERS,
}
"""Family → what saves a tiny model of it into a folder."""
