"""Tiny random checkpoints of transformers with real processors and tokenizers, made without any download."""

import string

import numpy as np
import torch
import transformers as hf
from PIL import Image
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

WORDS = (
    *("a", "an", "the", "of", "on", "and", "is", "man", "woman", "dog", "cat", "ball", "red", "green", "blue"),
    *("sitting", "running", "photo", "picture", "yes", "no", "what"),
)
LABELS = ("cat", "dog", "ball")
_NAMES = {"id2label": dict(enumerate(LABELS)), "label2id": {name: number for number, name in enumerate(LABELS)}}
_VIT = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "patch_size": 8}
_TEXT = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
_ENDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1}
_SQUARE = {"height": 32, "width": 32}
_STD = 0.15


def shaken(model, seed=0):
    """Weights of a size that lets every part matter: some families begin with zeros or with 1e-10."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            if parameter.dim() > 1 or any(part in name for part in ("token", "class_embedding", "layer_scale")):
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * _STD)
    return model.eval()


def word_tokenizer(**options):
    """A word for a token, with an end token: stands in for sentencepiece (SigLIP, T5)."""
    tokens = ["<pad>", "</s>", "<unk>", *WORDS]
    made = Tokenizer(models.WordLevel({word: number for number, word in enumerate(tokens)}, unk_token="<unk>"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    options = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>", **options}
    return hf.PreTrainedTokenizerFast(tokenizer_object=made, **options)


def clip_tokenizer(**options):
    """CLIP's byte pairs, with the merges that make up each word."""
    letters = list(string.ascii_lowercase)
    vocabulary = {token: number for number, token in enumerate([*letters, *(letter + "</w>" for letter in letters)])}
    merges = []
    for word in WORDS:
        parts = [*word[:-1], word[-1] + "</w>"]
        while len(parts) > 1:
            if (parts[0], parts[1]) not in merges:
                merges.append((parts[0], parts[1]))
                vocabulary.setdefault(parts[0] + parts[1], len(vocabulary))
            parts = [parts[0] + parts[1], *parts[2:]]
    for special in ("<|startoftext|>", "<|endoftext|>"):
        vocabulary[special] = len(vocabulary)
    return hf.CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=16, **options)


def siglip2_tokenizer():
    """Gemma's bytes and letters."""
    bytes_ = [f"<0x{number:02X}>" for number in range(256)]
    tokens = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *bytes_, "▁", *string.ascii_lowercase]
    return hf.Siglip2Tokenizer(vocab={token: number for number, token in enumerate(tokens)}, merges=[])


def _vit():
    return hf.ViTForImageClassification(hf.ViTConfig(**_VIT, image_size=32, **_NAMES)), _squashing()


def _deit(kind=hf.DeiTForImageClassification):
    size = {"height": 36, "width": 36}
    return kind(hf.DeiTConfig(**_VIT, image_size=32, **_NAMES)), hf.DeiTImageProcessor(size=size, crop_size=_SQUARE)


def _registers():
    config = hf.Dinov2WithRegistersConfig(
        **{**_VIT, "image_size": 32, "mlp_ratio": 2, "num_register_tokens": 3}, **_NAMES
    )
    return hf.Dinov2WithRegistersForImageClassification(config), _cropping()


def _swin(config=hf.SwinConfig, kind=hf.SwinForImageClassification):
    size = {"image_size": 32, "patch_size": 2, "embed_dim": 16, "window_size": 4}
    return kind(config(**size, depths=[2, 2], num_heads=[2, 4], **_NAMES)), _squashing()


def _convnext(config=hf.ConvNextConfig, kind=hf.ConvNextForImageClassification):
    stages = {"num_stages": 3, "hidden_sizes": [8, 16, 32], "depths": [1, 1, 1], "patch_size": 4}
    processor = hf.ConvNextImageProcessor(size={"shortest_edge": 64}, crop_pct=0.875)
    return kind(config(**stages, **_NAMES)), processor


def _resnet():
    stages = {"embedding_size": 8, "hidden_sizes": [8, 16, 32], "depths": [1, 1, 1], "layer_type": "bottleneck"}
    processor = hf.ConvNextImageProcessor(size={"shortest_edge": 96}, crop_pct=0.875)
    return hf.ResNetForImageClassification(hf.ResNetConfig(**stages, **_NAMES)), processor


def _clip_classifier():
    config = hf.CLIPConfig(
        vision_config={**_VIT, "image_size": 32}, text_config=_TEXT | _ENDS | {"vocab_size": 9}, **_NAMES
    )
    return hf.CLIPForImageClassification(config), _cropping()


def _siglip_classifier():
    config = hf.SiglipConfig(
        vision_config={**_VIT, "image_size": 32}, text_config=_TEXT | _ENDS | {"vocab_size": 9}, **_NAMES
    )
    return hf.SiglipForImageClassification(config), hf.SiglipImageProcessor(size=_SQUARE)


def _clip():
    tokens = clip_tokenizer()
    ends = {name: getattr(tokens, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    text = {**_TEXT, **ends, "vocab_size": len(tokens), "max_position_embeddings": 16, "projection_dim": 16}
    vision = {**_VIT, "image_size": 32, "projection_dim": 16}
    config = hf.CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)
    return hf.CLIPModel(config), hf.CLIPProcessor(_cropping(), tokens)


def _siglip():
    tokens = word_tokenizer(model_max_length=12)
    text = {**_TEXT, "vocab_size": len(tokens), "max_position_embeddings": 12, "projection_size": 32}
    config = hf.SiglipConfig(text_config={**text, **_ENDS}, vision_config={**_VIT, "image_size": 32})
    return hf.SiglipModel(config), hf.SiglipProcessor(hf.SiglipImageProcessor(size=_SQUARE), tokens)


def _siglip2():
    tokens = siglip2_tokenizer()
    text = {**_TEXT, "vocab_size": len(tokens), "max_position_embeddings": 64, "projection_size": 32}
    config = hf.Siglip2Config(
        text_config={**text, **_ENDS, "bos_token_id": 2}, vision_config={**_VIT, "num_patches": 16}
    )
    image = hf.Siglip2ImageProcessor(patch_size=8, max_num_patches=20)
    return hf.Siglip2Model(config), hf.Siglip2Processor(image, tokens)


def _squashing():
    return hf.ViTImageProcessor(size=_SQUARE)


def _cropping():
    return hf.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=_SQUARE)


CLASSIFIERS = {
    "vit": _vit,
    "deit": _deit,
    "deit-teacher": lambda: _deit(hf.DeiTForImageClassificationWithTeacher),
    "registers": _registers,  # in no list: by what it takes and gives
    "swin": _swin,
    "swinv2": lambda: _swin(hf.Swinv2Config, hf.Swinv2ForImageClassification),
    "convnext": _convnext,
    "convnextv2": lambda: _convnext(hf.ConvNextV2Config, hf.ConvNextV2ForImageClassification),
    "resnet": _resnet,
    "clip-classifier": _clip_classifier,
    "siglip-classifier": _siglip_classifier,
}
ZERO_SHOT = {"clip": _clip, "siglip": _siglip, "siglip2": _siglip2}
MAKERS = CLASSIFIERS | ZERO_SHOT


def save(kind, folder):
    """A checkpoint of that kind as ``save_pretrained`` writes it; returns its folder."""
    with torch.random.fork_rng(devices=[]):
        model, processor = MAKERS[kind]()
    shaken(model).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def photo(width=100, height=60, seed=0):
    """Noise."""
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def lit(width, height, x, y, reach):
    """A black photo with a white square around ``(x, y)``."""
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1] = 255
    return Image.fromarray(pixels)
