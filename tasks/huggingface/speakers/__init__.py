"""Families of models that write about a photo, a file each, and which class of model is of which."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmexplain.tasks.huggingface.checkpoint import Checkpoint
    from mmexplain.tasks.huggingface.speaker import Speaker

_CAPTION, _VQA = ("caption",), ("vqa",)
_BOTH = (*_CAPTION, *_VQA)

FAMILIES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "Blip2ForConditionalGeneration": ("blip2:Blip2", _BOTH),
    "BlipForConditionalGeneration": ("blip:BlipCaptioner", _CAPTION),
    "BlipForQuestionAnswering": ("blip_vqa:BlipAnswerer", _VQA),
    "Florence2ForConditionalGeneration": ("florence2:Florence2", _CAPTION),
    "GitForCausalLM": ("git:Git", _BOTH),
    "Idefics3ForConditionalGeneration": ("idefics3:Idefics3", _BOTH),
    "InstructBlipForConditionalGeneration": ("instructblip:InstructBlip", _BOTH),
    "LlavaForConditionalGeneration": ("llava:Llava", _BOTH),
    "LlavaNextForConditionalGeneration": ("llava_next:LlavaNext", _BOTH),
    "PaliGemmaForConditionalGeneration": ("paligemma:PaliGemma", _BOTH),
    "Qwen2VLForConditionalGeneration": ("qwen_vl:QwenVL", _BOTH),
    "Qwen2_5_VLForConditionalGeneration": ("qwen_vl:Qwen25VL", _BOTH),
    "Qwen3VLForConditionalGeneration": ("qwen_vl:Qwen3VL", _BOTH),
    "SmolVLMForConditionalGeneration": ("idefics3:Idefics3", _BOTH),
    "VisionEncoderDecoderModel": ("encoder_decoder:EncoderDecoder", _CAPTION),
}
"""Class of a model → ``file:class`` of its family, and the tasks that it serves: describing photos, answering questions
in words of its own."""


def speaker_of(checkpoint: Checkpoint) -> Speaker:
    """The family of a model, taken apart for the engine."""
    module, _, name = FAMILIES[checkpoint.architecture][0].partition(":")
    found: Speaker = getattr(import_module(f"{__name__}.{module}"), name)(checkpoint)
    return found
