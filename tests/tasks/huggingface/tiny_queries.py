"""Tiny models whose text part reads queries, cross-attends or stands in one row with the photo's tokens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.tasks.huggingface import tiny_speakers as tiny

SIDE = 32
VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": SIDE,
    "patch_size": 8,
}
QUERIES = 4


def qformer(vocabulary: int) -> dict[str, Any]:
    """A Q-Former of two layers, of which the first attends to the photo."""
    return {
        "vocab_size": vocabulary,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "encoder_hidden_size": 32,
        "cross_attention_frequency": 2,
    }


def opt(tokenizer: Any) -> Any:
    """A decoder of two layers."""
    from transformers import OPTConfig

    return OPTConfig(
        vocab_size=len(tokenizer),
        hidden_size=48,
        word_embed_proj_dim=48,
        ffn_dim=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=128,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def t5(tokenizer: Any) -> Any:
    """An encoder and a decoder of two layers each."""
    from transformers import T5Config

    return T5Config(
        vocab_size=len(tokenizer),
        d_model=48,
        d_kv=12,
        d_ff=96,
        num_layers=2,
        num_heads=4,
        decoder_start_token_id=tokenizer.pad_token_id,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        layer_norm_epsilon=1e-2,  # smooth where words fade to 0: integrated gradients need thousands of steps else
    )


def _image_processor() -> Any:
    from transformers import BlipImageProcessor

    return BlipImageProcessor(size={"height": SIDE, "width": SIDE})


def blip2(folder: Path, text: Callable[[Any], Any] = opt, seed: int = 2) -> None:
    """BLIP-2: 4 × 4 patches, four queries."""
    from transformers import Blip2Config, Blip2ForConditionalGeneration, Blip2Processor

    tokenizer = tiny.bpe_tokenizer("<image>")
    processor = Blip2Processor(_image_processor(), tokenizer, num_query_tokens=QUERIES)
    config = Blip2Config(
        vision_config=VISION,
        qformer_config=qformer(len(tokenizer)),
        text_config=text(tokenizer),
        num_query_tokens=QUERIES,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    model = tiny.shake(Blip2ForConditionalGeneration(config), seed)
    tiny.save(model, processor, folder)


def blip2_t5(folder: Path) -> None:
    """The same before an encoder and a decoder."""
    blip2(folder, t5, seed=0)


def instructblip(folder: Path) -> None:
    """InstructBLIP with LLaMA: the Q-Former reads the prompt in tokens of its own."""
    from transformers import InstructBlipConfig, InstructBlipForConditionalGeneration, InstructBlipProcessor

    tokenizer, words = tiny.bpe_tokenizer("<image>"), tiny.bert_tokenizer("[DEC]")
    processor = InstructBlipProcessor(_image_processor(), tokenizer, words, num_query_tokens=QUERIES)
    config = InstructBlipConfig(
        vision_config=VISION,
        qformer_config=qformer(len(words)),
        text_config=tiny.llama(tokenizer),
        num_query_tokens=QUERIES,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    tiny.save(tiny.shake(InstructBlipForConditionalGeneration(config)), processor, folder)


def git(folder: Path, frames: int | None = None) -> None:
    """GIT: 4 × 4 patches of a square cut out at the centre; or of each frame of a clip."""
    from transformers import CLIPImageProcessor, GitConfig, GitForCausalLM, GitProcessor

    tokenizer = tiny.bert_tokenizer()
    config = GitConfig(
        vision_config=VISION,
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
        bos_token_id=tokenizer.cls_token_id,
        eos_token_id=tokenizer.sep_token_id,
        pad_token_id=0,
        num_image_with_embedding=frames,
    )
    processor = GitProcessor(
        CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}), tokenizer
    )
    model = tiny.shake(GitForCausalLM(config))
    with torch.no_grad():
        model.output.bias[tokenizer.sep_token_id] = -5.0  # it is to say something
    tiny.save(model, processor, folder)


def encoder_decoder(
    folder: Path, encoder: Any, decoder: Any, tokenizer: Any, start: int, side: int = SIDE, seed: int = 0
) -> None:
    """An encoder and a decoder, each by its configuration."""
    from transformers import VisionEncoderDecoderConfig, VisionEncoderDecoderModel, ViTImageProcessor

    config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
    pad = start if decoder.pad_token_id is None else decoder.pad_token_id
    config.decoder_start_token_id, config.pad_token_id = start, pad
    config.eos_token_id = decoder.eos_token_id
    model = tiny.shake(VisionEncoderDecoderModel(config), seed)
    generation = model.generation_config
    generation.decoder_start_token_id, generation.pad_token_id = start, pad
    generation.eos_token_id, generation.max_length = decoder.eos_token_id, None
    tiny.save(model, ViTImageProcessor(size={"height": side, "width": side}), folder)
    tokenizer.save_pretrained(folder)


def gpt2(tokenizer: Any) -> Any:
    """A decoder whose first token is its last one and its padding too, as ViT-GPT2 has it."""
    from transformers import GPT2Config

    return GPT2Config(
        vocab_size=len(tokenizer),
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=64,
        add_cross_attention=True,
        is_decoder=True,
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )


def vit_gpt2(folder: Path) -> None:
    """ViT-GPT2: 4 × 4 patches, and a projection between vectors of unlike lengths."""
    from transformers import ViTConfig

    tokenizer = tiny.bpe_tokenizer(bos=False)
    encoder = ViTConfig(**{**VISION, "hidden_size": 24, "intermediate_size": 48})
    encoder_decoder(folder, encoder, gpt2(tokenizer), tokenizer, tokenizer.eos_token_id, seed=15)


def swin_bert(folder: Path) -> None:
    """Swin and BERT: windows of 4 × 4 on 8 × 8 patches, then one window of 4 × 4 merged ones."""
    from transformers import BertConfig, SwinConfig

    tokenizer = tiny.bert_tokenizer()
    encoder = SwinConfig(image_size=SIDE, patch_size=4, embed_dim=16, depths=[2, 2], num_heads=[2, 4], window_size=4)
    decoder = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        is_decoder=True,
        add_cross_attention=True,
        eos_token_id=tokenizer.sep_token_id,
    )
    encoder_decoder(folder, encoder, decoder, tokenizer, tokenizer.cls_token_id)


def resnet_gpt2(folder: Path) -> None:
    """A CNN, whose maps of 8 × 8 become tokens."""
    from transformers import ResNetConfig

    tokenizer = tiny.bpe_tokenizer(bos=False)
    encoder = ResNetConfig(embedding_size=8, hidden_sizes=[16, 32], depths=[1, 1], layer_type="basic")
    encoder.hidden_size = 32
    encoder_decoder(folder, encoder, gpt2(tokenizer), tokenizer, tokenizer.eos_token_id, side=64)


def blip_vqa(folder: Path) -> None:
    """BLIP for questions: 4 × 4 patches."""
    from transformers import BlipConfig, BlipForQuestionAnswering, BlipProcessor

    tokenizer = tiny.bert_tokenizer("[DEC]", "[ENC]")
    vocabulary = tokenizer.get_vocab()
    config = BlipConfig(vision_config=VISION, text_config=tiny.blip_text(tokenizer), image_text_hidden_size=16)
    model = tiny.shake(BlipForQuestionAnswering(config))
    with torch.no_grad():
        model.text_decoder.cls.predictions.decoder.bias[vocabulary["[SEP]"]] = -5.0  # it is to say something
    tiny.save(model, BlipProcessor(_image_processor(), tokenizer), folder)


ANSWERS = ("yes", "no", "red", "two", "dog")


def vilt(folder: Path, most: int = -1) -> None:
    """ViLT: patches of 8 pixels of photos whose shorter side is 32, and five answers."""
    from transformers import ViltConfig, ViltForQuestionAnswering, ViltImageProcessor, ViltProcessor

    tokenizer = tiny.bert_tokenizer()
    config = ViltConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=40,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        image_size=SIDE,
        patch_size=8,
        max_image_length=most,
        id2label=dict(enumerate(ANSWERS)),
        label2id={label: number for number, label in enumerate(ANSWERS)},
    )
    processor = ViltProcessor(ViltImageProcessor(size={"shortest_edge": SIDE}, size_divisor=8), tokenizer)
    tiny.save(tiny.shake(ViltForQuestionAnswering(config)), processor, folder)


CAPTIONERS: dict[str, Callable[[Path], None]] = {
    "blip2": blip2,
    "blip2-t5": blip2_t5,
    "instructblip": instructblip,
    "git": git,
    "vit-gpt2": vit_gpt2,
    "swin-bert": swin_bert,
    "resnet-gpt2": resnet_gpt2,
}
"""Family → what saves a tiny model of it that describes photos."""

ANSWERERS: dict[str, Callable[[Path], None]] = {
    "blip2": blip2,
    "blip2-t5": blip2_t5,
    "instructblip": instructblip,
    "git": git,
    "blip-vqa": blip_vqa,
}
"""Those that answer questions."""
